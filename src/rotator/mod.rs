//! SHELL. What runs inside a rotation Job: the four steps, and the relay.
//! Must not import store, kms, seal or keeper.

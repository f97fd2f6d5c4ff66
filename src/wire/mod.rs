//! What node, agent, relay and CLI need to speak to the server: messages, and clients of the API.
//! Must not import store, kms, seal or keeper.

pub mod aws;
pub mod csi;
pub mod node;
pub mod registration;

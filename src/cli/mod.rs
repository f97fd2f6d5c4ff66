//! The commands of people, one file per verb.
//! Must not import store, kms, seal or keeper: it asks the cluster and the server.

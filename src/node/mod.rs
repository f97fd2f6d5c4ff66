//! SHELL. The node agent: CSI identity and node services, registration with kubelet, the stream to the server; the mounter.
//! Must not import store, kms, seal or keeper.

//! PORT. Root keys, which wrap data keys; their providers.
//! Must not know the store, nor hand out the root key itself.

//! Files of a secret in a directory: atomic swap, modes, owners, all by directory file descriptor.
//! Must not know Kubernetes, nor where values come from.

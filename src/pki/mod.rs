//! Our certificate authority, leaf certificates, and the trust bundle.
//! Must not name `aws_lc_rs`, nor open sockets.

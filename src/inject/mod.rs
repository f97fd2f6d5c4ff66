//! PURE. A pod and its annotations in, a patch or a refusal with a reason out.
//! Must not read secrets, nor know of HTTP or of the API server.

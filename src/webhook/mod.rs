//! SHELL. AdmissionReviews in and out, around `inject`.
//! Must not read secrets.

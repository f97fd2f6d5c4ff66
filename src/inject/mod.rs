//! PURE. A pod and its annotations in, a patch or a refusal with a reason out.
//! Must not read secrets, nor know of HTTP or of the API server.
//!
//! A pod asks with annotations; what it gets is one CSI ephemeral volume per secret, mounted into its containers. The
//! volume's attributes, and not the annotations, are what counts afterwards: `attributes` is their grammar, for the
//! webhook that writes them and for the node agent that reads them. A file mounted with `subPath` is a bind mount of one
//! version and is not updated, which is why nothing here writes `subPath`.
//!
//! A pod with a program that has an AWS SDK asks with another annotation, and gets an identity instead (`sdk`).

mod annotations;
pub mod attributes;
mod patch;
mod sdk;

#[cfg(test)]
mod tests;

pub use annotations::{ANNOTATION_PREFIX, INJECT, Refusal};
pub use attributes::{AttributeError, Attributes, Content, KeyFile, SecretRef, Wrong};
pub use patch::{Injection, inject};
pub use sdk::{AWS_SDK, Endpoint, IDENTITY_PRESENT};

//! PURE. Who may do what: identity, RBAC answer, grants and the policy's verdict in, `Authorized` (a witness) or a refusal out.
//! Must not ask anybody anything: the answers of the cluster come in as arguments.

mod access_key;
mod decision;
mod operation;
mod principal;

pub use access_key::{ACCESS_KEYS, ACCESS_KEYS_MAX, KeyOperation, decide_keys};
pub use decision::{
    Authorized, Denied, Grant, NamePolicy, RbacAnswer, Request, RotationRight, Sides, decide, decide_unknown,
};
pub use operation::Operation;
pub use principal::{Outsider, PodIdentity, Principal, ServiceAccount, Via};

//! PURE. Who may do what: identity, RBAC answer and grants in, `Authorized` (a witness) or a refusal out.
//! Must not ask anybody anything: the answers of the cluster come in as arguments.

mod decision;
mod operation;
mod principal;

pub use decision::{
    Authorized, Denied, Grant, NamePolicy, RbacAnswer, Request, RotationRight, decide, decide_unknown,
};
pub use operation::Operation;
pub use principal::{PodIdentity, Principal, ServiceAccount};

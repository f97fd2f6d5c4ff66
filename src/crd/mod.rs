//! The custom resources as users write them, their conditions and reasons, and their translation to the domain.
//! Must not hold a client.

pub mod condition;
mod definition;
mod desired;
mod managed_secret;
mod readable;
pub mod reasons;
mod reference;
mod rotation_schedule;
mod rotator;
mod value;

pub use definition::{PrintError, chart_template, definitions, yaml};
pub use desired::{Desired, DesiredGrant, SpecError, ValueSource, is_object_name};
pub use managed_secret::{
    Access, Consumers, Effective, EffectiveAccess, ManagedSecret, ManagedSecretSpec, ManagedSecretStatus,
    VersionStatus,
};
pub use readable::{Kind, Readable};
pub use reference::reference;
pub use rotation_schedule::{
    Backoff, EffectiveSchedule, InProgress, Retries, RotationSchedule, RotationScheduleSpec,
    RotationScheduleStatus,
};
pub use rotator::{
    ConfigMapVolume, EmptyDirVolume, EnvSource, EnvVar, GenerateRotator, JobRotator, KeyRef, Resources,
    Rotator, SecretVolume, Toleration, Volume,
};
pub use value::{
    ExternalValue, FromSecret, GenerateValue, KeyEncoding, PasswordRules, SymmetricKey, ValueSpec,
};

/// The group of all kinds here.
pub const GROUP: &str = "tidelock.dev";
pub const VERSION: &str = "v1alpha1";

/// On a ManagedSecret: any new token asks for one rotation.
pub const ANNOTATION_ROTATE: &str = "tidelock.dev/rotate";
/// On a ManagedSecret: the ARN whose restore in a namespace of another UID somebody approves.
pub const ANNOTATION_APPROVE_RESTORE: &str = "tidelock.dev/approve-restore";
/// On the ConfigMap of held deletions: the token of the deletions that somebody approves.
pub const ANNOTATION_APPROVE_DELETIONS: &str = "tidelock.dev/approve-deletions";

/// The ConfigMap, in the server's namespace, that says which deletions are held and why.
pub fn held_deletions_name(installation: &str) -> String {
    format!("{installation}-held-deletions")
}

/// The ConfigMap, in the server's namespace, by which somebody accepts that the values of a lost store are gone.
pub fn accept_loss_name(installation: &str) -> String {
    format!("{installation}-accept-loss")
}

/// Its key: the id of the store whose loss is accepted, as the server's refusal names it.
pub const ACCEPT_LOSS_KEY: &str = "installation";

#[cfg(test)]
mod tests;

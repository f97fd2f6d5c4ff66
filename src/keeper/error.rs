//! Why a use-case could not be carried out. Must not carry values; the texts are AWS's where AWS has one.

use crate::access::Denied;
use crate::kms::KmsError;
use crate::seal::SealError;
use crate::secret::moves::MoveError;
use crate::secret::{Arn, Name, Stage, VersionId};
use crate::store::StoreError;

/// What stood in the way of sealing or opening: the root key's provider, or the sealed value itself.
#[derive(Debug, thiserror::Error)]
pub enum SealingError {
    #[error(transparent)]
    Kms(#[from] KmsError),
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl SealingError {
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Kms(cause) => cause.reason(),
            Self::Seal(_) => "SealBroken",
        }
    }
}

const INTERNAL: &str = "InternalServiceError";

#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    #[error("Secrets Manager can't find the specified secret.")]
    NotFound,
    /// For a pod, which names the resource and not the secret.
    #[error("there is no ManagedSecret {name} in namespace {namespace}, or its secret is not made yet")]
    NoSuchResource { namespace: String, name: String },
    #[error("Secrets Manager can't find the specified secret value for staging label: {0}")]
    NoValueForStage(Stage),
    #[error("Secrets Manager can't find the specified secret value for VersionId: {0}")]
    NoValueForVersion(VersionId),
    #[error("You provided a VersionStage that is not associated to the provided VersionId.")]
    StageNotOnVersion,
    #[error("The operation failed because the secret {0} already exists.")]
    Exists(Name),
    #[error(
        "You can't use ClientRequestToken {token} because that value is already in use for a version of secret {arn}."
    )]
    TokenInUse { token: VersionId, arn: Arn },
    #[error("You can't perform this operation on the secret because it was marked for deletion.")]
    MarkedForDeletion,
    #[error(
        "You can't create this secret because a secret with this name is already scheduled for deletion."
    )]
    NameMarkedForDeletion,
    /// What Git owns is changed in Git.
    #[error("The secret {name} belongs to the ManagedSecret {namespace}/{resource}: {how}.")]
    OwnedByResource { name: Name, namespace: String, resource: String, how: &'static str },
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error("{0}")]
    InvalidParameter(String),
    #[error("{0}")]
    InvalidRequest(String),
    #[error("{0}")]
    LimitExceeded(String),
    #[error("{0}")]
    MalformedPolicy(String),
    #[error(
        "The BlockPublicPolicy parameter is set to true, and the resource policy did not prevent broad access to the \
         secret."
    )]
    PublicPolicy,
    /// The namespace is not the one that the secret was made in: its next tenant must not inherit values.
    #[error(
        "the secret {0} was made in an earlier namespace of this name: somebody with the verb restore must approve \
         that this one gets its values"
    )]
    RestoreNeedsApproval(Name),
    #[error("Secrets Manager can't decrypt the protected secret text using the provided KMS key.")]
    DecryptionFailure(#[source] SealingError),
    #[error("Secrets Manager can't encrypt the protected secret text using the provided KMS key.")]
    EncryptionFailure(#[source] SealingError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl KeeperError {
    /// One word for conditions, events, metric labels and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotFound | Self::NoSuchResource { .. } => "SecretNotFound",
            Self::NoValueForStage(_) => "NoValueForStage",
            Self::NoValueForVersion(_) => "NoValueForVersion",
            Self::StageNotOnVersion => "StageNotOnVersion",
            Self::Exists(_) => "SecretExists",
            Self::TokenInUse { .. } => "TokenInUse",
            Self::MarkedForDeletion => "MarkedForDeletion",
            Self::NameMarkedForDeletion => "NameMarkedForDeletion",
            Self::OwnedByResource { .. } => "OwnedByResource",
            Self::Denied(denied) => denied.reason(),
            Self::InvalidParameter(_) => "InvalidParameter",
            Self::InvalidRequest(_) => "InvalidRequest",
            Self::LimitExceeded(_) => "LimitExceeded",
            Self::MalformedPolicy(_) => "MalformedPolicy",
            Self::PublicPolicy => "PublicPolicy",
            Self::RestoreNeedsApproval(_) => "RestoreNeedsApproval",
            Self::DecryptionFailure(cause) | Self::EncryptionFailure(cause) => cause.reason(),
            Self::Store(cause) => cause.reason(),
        }
    }

    /// Whether it is no fault of the caller's.
    pub fn is_of_the_server(&self) -> bool {
        self.aws_type() == INTERNAL
    }

    /// The error of AWS's model that this is. What is no fault of the caller's is an internal error: clients try
    /// it again.
    pub fn aws_type(&self) -> &'static str {
        match self {
            Self::NotFound
            | Self::NoSuchResource { .. }
            | Self::NoValueForStage(_)
            | Self::NoValueForVersion(_) => "ResourceNotFoundException",
            Self::Exists(_) | Self::TokenInUse { .. } => "ResourceExistsException",
            Self::StageNotOnVersion
            | Self::MarkedForDeletion
            | Self::NameMarkedForDeletion
            | Self::RestoreNeedsApproval(_)
            | Self::OwnedByResource { .. }
            | Self::InvalidRequest(_) => "InvalidRequestException",
            Self::InvalidParameter(_) => "InvalidParameterException",
            Self::LimitExceeded(_) => "LimitExceededException",
            Self::MalformedPolicy(_) => "MalformedPolicyDocumentException",
            Self::PublicPolicy => "PublicPolicyException",
            Self::Denied(Denied::No(_)) => "AccessDeniedException",
            Self::DecryptionFailure(SealingError::Kms(KmsError::Unavailable(_)))
            | Self::EncryptionFailure(SealingError::Kms(KmsError::Unavailable(_)))
            | Self::Denied(Denied::Unknown { .. })
            | Self::Store(_) => INTERNAL,
            Self::DecryptionFailure(_) => "DecryptionFailure",
            Self::EncryptionFailure(_) => "EncryptionFailure",
        }
    }
}

impl From<MoveError> for KeeperError {
    fn from(error: MoveError) -> Self {
        match error {
            MoveError::TooMany(_) => Self::LimitExceeded(error.to_string()),
            _ => Self::InvalidParameter(error.to_string()),
        }
    }
}

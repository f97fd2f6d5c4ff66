//! The words that say why: one word is the reason of a condition, of an event, the label of a metric and the field of
//! a log line. Must not hold sentences; those name objects and stand where the finding is made.

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident,)+) => {
        /// Why something is as it is. The variant's name is the word.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[$doc])* $variant,)+
        }

        impl Reason {
            pub const ALL: &'static [Reason] = &[$(Reason::$variant),+];

            /// What a word in a condition stands for.
            pub fn of_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|reason| reason.word() == word)
            }

            /// The word, as users see it everywhere.
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($variant),)+
                }
            }
        }
    };
}

reasons! {
    // ManagedSecret: Ready
    /// The secret has a value that pods can mount.
    Available,
    /// The kind is `external`, and nobody has written a value yet.
    WaitingForValue,
    /// The Secret that `fromSecret` names, or its key, is not there.
    SourceNotFound,
    /// The server has no right to read Secrets in this namespace.
    SourceForbidden,
    /// The value that `fromSecret` names is larger than a secret may be, or empty.
    SourceUnusable,
    /// The guard that asks whether the author may use such a field is missing, so the field is refused.
    GuardMissing,

    // ManagedSecret: Synced
    /// The secret is as `spec` says.
    Applied,
    /// The first version was made.
    Created,
    /// The secret that was scheduled for deletion is back, with its versions.
    Restored,
    /// The secret that was scheduled for deletion belonged to an earlier namespace of this name.
    RestoreNeedsApproval,
    /// `spec` asks for what cannot be changed on a secret that exists.
    SpecChangeRefused,
    /// `spec` does not make sense, although the schema admits it.
    SpecInvalid,
    /// The name does not begin with the namespace and a slash.
    NameOutsideNamespace,
    /// Another ManagedSecret, or a caller of the API, made a secret of this name.
    NameTaken,
    /// Whether the secret is allowed or not could not be found out, or the server could not store it yet.
    TryingAgain,

    // Deletions
    /// The ManagedSecret is gone, and its secret is scheduled for deletion.
    DeletionScheduled,
    /// So many ManagedSecrets, or the cluster itself, vanished at once that nothing is deleted without approval.
    MassDeletionHeld,

    // RotationSchedule: Ready
    /// Rotations are made when they are due.
    Scheduled,
    /// `suspend` is set.
    Suspended,
    /// The ManagedSecret that `secret` names is not there, or not ready.
    SecretNotFound,
    /// Another RotationSchedule rotates the same secret.
    ScheduleConflict,
    /// `schedule`, `timeZone` or `window` cannot be read.
    ScheduleInvalid,
    /// The rotator cannot rotate a secret of this kind.
    RotatorUnsuitable,

    // RotationSchedule: Rotating, Succeeded
    /// A rotation has begun.
    RotationStarted,
    /// A rotation runs.
    RotationRunning,
    /// No rotation runs.
    Idle,
    /// The last rotation moved AWSCURRENT to its new version.
    RotationSucceeded,
    /// An attempt failed; another follows.
    RotationRetrying,
    /// The last attempt failed; the next rotation is tried when it is due or asked for.
    RotationFailed,
    /// A rotation was given up in favour of another.
    RotationAbandoned,
    /// The RotationSchedule was deleted: rotation is off, and what had begun waits for another schedule.
    RotationCancelled,
    /// A pod of an earlier attempt may still run on a node that does not answer.
    WaitingForNode,
    /// The Job ran longer than it may.
    RotationTimedOut,
    /// Only the rotator's step testSecret runs.
    TestRotationStarted,
    /// That step ended well.
    TestRotationSucceeded,
    /// That step failed, or could not be run.
    TestRotationFailed,
    /// No rotation has been made yet.
    NeverRotated,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_is_fit_to_be_the_reason_of_a_condition_and_occurs_once() {
        let mut words: Vec<_> = Reason::ALL.iter().map(|r| r.word()).collect();
        for word in &words {
            // The schema of conditions asks for ^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$, events for 128 characters.
            assert!(word.len() <= 128 && word.bytes().all(|b| b.is_ascii_alphanumeric()), "{word}");
        }
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Reason::ALL.len());
    }
}

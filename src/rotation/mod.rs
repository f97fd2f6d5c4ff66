//! When a secret rotates, and what to do next about a rotation: schedules in AWS's grammar, windows, and the
//! step machine.
//!
//! Pure: no clock, no randomness, no files (time zones come from the table compiled into the program), no
//! Kubernetes. The controller observes, this room decides, the controller applies.

mod configured;
mod cron;
mod decide;
mod job;
mod rules;
mod schedule;
mod step;
mod window;

pub use configured::{GENERATE, RulesError, is_rotator_name, rotator_name};
pub use decide::{Attempt, JobState, Observed, Pending, Plan, Reason, Unfinished, decide, next_rotation};
pub use job::{FinishedJob, job_name, rotation_label, surplus_jobs};
pub use rules::{KeyEncoding, PasswordRules, Rules};
pub use schedule::{Basis, Schedule, ScheduleError};
pub use step::{Retries, RetriesError, Step};
pub use window::Window;

//! What a RotationSchedule and its ManagedSecret ask for, parsed, with every default filled in; or why they cannot be
//! followed. Must not ask the cluster.

use crate::crd::reasons::Reason;
use crate::crd::{
    EffectiveSchedule, JobRotator, ManagedSecret, RotationSchedule, RotationScheduleSpec, ValueSource,
};
use crate::rotation::{Retries, Rules, Schedule};

#[derive(Debug)]
pub(super) struct Wanted {
    /// None when rotation happens on request only.
    pub schedule: Option<Schedule>,
    pub retries: Retries,
    pub suspend: bool,
    pub rotate_immediately: bool,
    pub work: Work,
}

/// What does the steps.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Work {
    Generate(Rules),
    Job(Box<JobRotator>),
}

/// Why no rotation can be made, in the words of the condition `Ready`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unfit {
    pub reason: Reason,
    pub message: String,
}

impl Unfit {
    pub fn new(reason: Reason, message: impl ToString) -> Self {
        Self { reason, message: message.to_string() }
    }
}

impl Wanted {
    pub fn read(object: &RotationSchedule, secret: &ManagedSecret) -> Result<Self, Unfit> {
        let spec = &object.spec;
        let invalid = |error: &dyn std::error::Error| Unfit::new(Reason::ScheduleInvalid, error);
        let schedule = Schedule::parse(&spec.schedule, spec.time_zone.as_deref(), spec.window.as_deref())
            .map_err(|error| invalid(&error))?;
        let retries = spec.retries.as_ref();
        let backoff = retries.and_then(|retries| retries.backoff.as_ref());
        let retries = Retries::parse(
            retries.and_then(|retries| retries.limit),
            backoff.and_then(|backoff| backoff.min.as_deref()),
            backoff.and_then(|backoff| backoff.max.as_deref()),
        )
        .map_err(|error| invalid(&error))?;
        Ok(Self {
            schedule: Some(schedule),
            retries,
            suspend: spec.suspend.unwrap_or(false),
            rotate_immediately: spec.rotate_immediately.unwrap_or(false),
            work: work(spec, secret)?,
        })
    }

    /// For `status.effective`.
    pub fn effective(&self, spec: &RotationScheduleSpec) -> EffectiveSchedule {
        EffectiveSchedule {
            schedule: spec.schedule.trim().to_owned(),
            time_zone: self.schedule.as_ref().map_or("UTC", Schedule::time_zone).to_owned(),
            window: self.schedule.as_ref().and_then(Schedule::window_hours).map(|hours| format!("{hours}h")),
            suspend: self.suspend,
            rotator: match self.work {
                Work::Generate(_) => "generate".to_owned(),
                Work::Job(_) => "job".to_owned(),
            },
            retry_limit: i32::try_from(self.retries.limit()).unwrap_or(i32::MAX),
            backoff_min: self.retries.backoff_min(),
            backoff_max: self.retries.backoff_max(),
        }
    }
}

fn work(spec: &RotationScheduleSpec, secret: &ManagedSecret) -> Result<Work, Unfit> {
    let unsuitable = |message: String| Unfit::new(Reason::RotatorUnsuitable, message);
    match (&spec.rotator.generate, &spec.rotator.job) {
        (None, Some(job)) => Ok(Work::Job(Box::new(job.clone()))),
        (Some(_), None) => {
            let source = ValueSource::try_from(&secret.spec.value)
                .map_err(|error| unsuitable(format!("the ManagedSecret is not right: {error}")))?;
            rules(source).map(Work::Generate).ok_or_else(|| {
                unsuitable(
                    "the rotator generate follows the rules of the ManagedSecret's value.generate or \
                     value.symmetricKey, which this secret has not; take the rotator job"
                        .to_owned(),
                )
            })
        }
        _ => Err(unsuitable("rotator: write exactly one of generate or job".to_owned())),
    }
}

fn rules(source: ValueSource) -> Option<Rules> {
    match source {
        ValueSource::Generate { object, password } => {
            Some(Rules::Password { key: object.map(|(_, key)| key), password: password.into() })
        }
        ValueSource::SymmetricKey { bytes, encoding } => {
            Some(Rules::SymmetricKey { bytes: u16::try_from(bytes).ok()?, encoding: encoding.into() })
        }
        ValueSource::FromSecret { .. } | ValueSource::External => None,
    }
}

/// Of two schedules for one secret the older is followed, by name where they are of one age; the other says so.
pub(super) fn yields_to<'a>(
    own: &RotationSchedule,
    others: impl IntoIterator<Item = &'a RotationSchedule>,
) -> Option<&'a str> {
    let rank = |object: &RotationSchedule| {
        let created = object.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (created, object.metadata.name.clone())
    };
    others
        .into_iter()
        .filter(|other| {
            other.metadata.namespace == own.metadata.namespace
                && other.metadata.name != own.metadata.name
                && other.metadata.deletion_timestamp.is_none()
                && other.spec.secret == own.spec.secret
        })
        .find(|other| rank(other) < rank(own))
        .and_then(|other| other.metadata.name.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::{GenerateRotator, Rotator, ValueSpec};

    fn schedule(name: &str, created: &str) -> RotationSchedule {
        let spec = RotationScheduleSpec {
            secret: "orders-db".to_owned(),
            schedule: "rate(30 days)".to_owned(),
            rotator: Rotator { generate: Some(GenerateRotator {}), job: None },
            ..RotationScheduleSpec::default()
        };
        let mut object = RotationSchedule::new(name, spec);
        object.metadata.namespace = Some("shop".to_owned());
        let created = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(created.parse().unwrap());
        object.metadata.creation_timestamp = Some(created);
        object
    }

    fn secret(value: &str) -> ManagedSecret {
        let value: ValueSpec = serde_json::from_str(value).unwrap();
        ManagedSecret::new("orders-db", crate::crd::ManagedSecretSpec { value, ..Default::default() })
    }

    const GENERATED: &str =
        r#"{"generate":{"template":{"user":"orders"},"key":"password","password":{"length":40}}}"#;

    #[test]
    fn the_rotator_generate_follows_the_rules_of_the_secret() {
        let read =
            |value| Wanted::read(&schedule("a", "2026-01-01T00:00:00Z"), &secret(value)).map(|w| w.work);
        let Ok(Work::Generate(Rules::Password { key, password })) = read(GENERATED) else {
            panic!("no password")
        };
        assert_eq!((key.as_deref(), password.length), (Some("password"), Some(40)));
        assert_eq!(password.require_each_included_type, Some(true));
        let Ok(Work::Generate(Rules::Password { key: None, .. })) = read(r#"{"generate":{}}"#) else {
            panic!("no plain password")
        };
        let key: Rules = r#"{"symmetricKey":{"bytes":32,"encoding":"Raw"}}"#.parse().unwrap();
        assert_eq!(read(r#"{"symmetricKey":{}}"#), Ok(Work::Generate(key)));
        for value in [r#"{"external":{}}"#, r#"{"fromSecret":{"name":"a","key":"b"}}"#] {
            let refused = read(value).unwrap_err();
            assert_eq!(refused.reason, Reason::RotatorUnsuitable);
            assert!(refused.message.contains("take the rotator job"));
        }
    }

    #[test]
    fn a_schedule_that_cannot_be_read_says_what_would_be_right() {
        let mut object = schedule("a", "2026-01-01T00:00:00Z");
        object.spec.schedule = "cron(30 4 * * ? *)".to_owned();
        let refused = Wanted::read(&object, &secret(GENERATED)).unwrap_err();
        assert_eq!(refused.reason, Reason::ScheduleInvalid);
        assert!(refused.message.contains("minute must be 0"), "{}", refused.message);
    }

    #[test]
    fn what_is_in_force_shows_the_defaults() {
        let object = schedule("a", "2026-01-01T00:00:00Z");
        let effective = Wanted::read(&object, &secret(GENERATED)).unwrap().effective(&object.spec);
        assert_eq!((effective.time_zone.as_str(), effective.rotator.as_str()), ("UTC", "generate"));
        assert_eq!((effective.retry_limit, effective.backoff_min.as_str()), (5, "30s"));
        assert_eq!(effective.window, None);
    }

    #[test]
    fn the_older_of_two_schedules_is_followed() {
        let older = schedule("z", "2026-01-01T00:00:00Z");
        let newer = schedule("a", "2026-02-01T00:00:00Z");
        let twin = schedule("b", "2026-02-01T00:00:00Z");
        assert_eq!(yields_to(&newer, [&older, &newer, &twin]), Some("z"));
        assert_eq!(yields_to(&twin, [&newer, &twin]), Some("a"));
        assert_eq!(yields_to(&older, [&older, &newer, &twin]), None);
        let mut elsewhere = older.clone();
        elsewhere.metadata.namespace = Some("other".to_owned());
        assert_eq!(yields_to(&newer, [&elsewhere]), None);
    }
}

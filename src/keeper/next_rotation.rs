//! When a secret whose rotation the AWS API configured rotates next, as Describe and List show it. Must not begin it.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Keeper, KeeperError, RotationView};
use crate::rotation::{Basis, Observed, Retries, Schedule, next_rotation};
use crate::secret::Arn;
use crate::store::{RotationConfig, SecretRecord};

impl RotationView {
    /// What the step machine decides on, of a secret whose rotation the AWS API configured; attempts and their pods are
    /// the caller's to add.
    pub fn observed<'a>(
        &'a self,
        config: &RotationConfig,
        schedule: Option<&'a Schedule>,
        retries: Retries,
    ) -> Observed<'a> {
        Observed {
            arn: self.arn.as_str(),
            schedule,
            basis: Basis {
                since: config.since,
                last_rotation: self.last_rotation,
                last_written: self.last_written,
            },
            retries,
            suspend: self.enabled != Some(true),
            // RotateSecret begins such a rotation itself, under its caller's token.
            rotate_immediately: false,
            asked: None,
            answered: None,
            unfinished: self.unfinished(None),
            earlier_pods_remain: false,
        }
    }
}

impl Keeper {
    pub(super) async fn next_rotation(
        &self,
        record: &SecretRecord,
    ) -> Result<Option<Timestamp>, KeeperError> {
        let Some(config) = record.rotation.as_deref().filter(|_| record.rotation_enabled == Some(true))
        else {
            return Ok(None);
        };
        let Some(schedule) = config.schedule()? else { return Ok(None) };
        if record.deletion.is_some() {
            return Ok(None);
        }
        let view = self.rotation(&record.arn).await?;
        let observed = view.observed(config, Some(&schedule), Retries::default());
        Ok(next_rotation(&observed, self.now()))
    }

    pub(super) async fn next_rotations(
        &self,
        records: &[SecretRecord],
    ) -> Result<BTreeMap<Arn, Timestamp>, KeeperError> {
        let mut dates = BTreeMap::new();
        for record in records {
            if let Some(date) = self.next_rotation(record).await? {
                dates.insert(record.arn.clone(), date);
            }
        }
        Ok(dates)
    }
}

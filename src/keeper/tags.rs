//! Tags: words of the callers' own on a secret. Must not give them a meaning.

use std::collections::BTreeMap;

use super::authorise::{Act, Asked};
use super::commit::After;
use super::measure::counted;
use super::said::of_tags;
use super::{Keeper, KeeperError, What, settle};
use crate::access::{Operation, Principal};
use crate::policy::Context;
use crate::secret::SecretId;
use crate::store::{Change, Expected, SecretRecord};

/// What a caller wants done to the tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tagged {
    Set(BTreeMap<String, String>),
    /// A tag that is not there is gone already.
    Removed(Vec<String>),
}

/// AWS's limits. Its own tags begin with a prefix that callers may not use.
const TAGS_MAX: usize = 50;
const RESERVED: &str = "aws:";

impl Keeper {
    /// Writes nothing when the tags are as wanted.
    pub async fn tag(&self, by: &Principal, id: &SecretId, wanted: &Tagged) -> Result<(), KeeperError> {
        let operation = match wanted {
            Tagged::Set(_) => Operation::Tag,
            Tagged::Removed(_) => Operation::Untag,
        };
        counted(operation, settle(|| self.tag_once(by, id, operation, wanted)).await)
    }

    async fn tag_once(
        &self,
        by: &Principal,
        id: &SecretId,
        operation: Operation,
        wanted: &Tagged,
    ) -> Result<(), KeeperError> {
        let act = Act { by, operation, id, version: None };
        let said = said(wanted);
        let (mut record, _) = self.authorised_saying(act, &said, |_| Vec::new()).await?;
        if record.deletion.is_some() {
            return Err(KeeperError::MarkedForDeletion);
        }
        let before = record.tags.clone();
        change(&mut record, wanted)?;
        if record.tags == before {
            return Ok(());
        }
        // As with AWS: nobody takes his own right away by what a policy asks of the tags.
        if let Err(denied) = self.right(Asked { act, record: &record, stages: &[], said: &said }).await? {
            return Err(self.refused(by, operation, Some(&record.arn), denied).await);
        }
        record.changed_at = self.now();
        let (arn, expected) = (record.arn.clone(), Expected::Revision(record.revision));
        let audit = self.done(by, operation, &arn, None);
        let after = vec![After::Tell(What::Configuration)];
        self.commit_then(&arn, vec![Change::PutSecret(record, expected)], audit, after).await
    }
}

fn said(wanted: &Tagged) -> Context {
    let mut said = Context::default();
    match wanted {
        Tagged::Set(tags) => of_tags(&mut said, tags),
        Tagged::Removed(keys) => keys.iter().for_each(|key| said.put("aws:TagKeys", key)),
    }
    said
}

fn change(record: &mut SecretRecord, wanted: &Tagged) -> Result<(), KeeperError> {
    match wanted {
        Tagged::Set(wanted) if wanted.is_empty() => {}
        Tagged::Set(wanted) => {
            let mut tags = record.tags.clone().unwrap_or_default();
            tags.extend(wanted.clone());
            check_tags(&tags)?;
            record.tags = Some(tags);
        }
        Tagged::Removed(keys) => {
            if let Some(tags) = &mut record.tags {
                tags.retain(|key, _| !keys.contains(key));
            }
        }
    }
    Ok(())
}

pub(super) fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), KeeperError> {
    if tags.len() > TAGS_MAX {
        return Err(KeeperError::InvalidParameter(format!(
            "A secret can have up to {TAGS_MAX} tags, this would make {}.",
            tags.len()
        )));
    }
    match tags.keys().find(|key| key.to_ascii_lowercase().starts_with(RESERVED)) {
        None => Ok(()),
        Some(key) => Err(KeeperError::InvalidParameter(format!(
            "The tag key {key} is not valid: the prefix {RESERVED} is reserved."
        ))),
    }
}

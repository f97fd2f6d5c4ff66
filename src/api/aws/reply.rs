//! The bodies of answers. Must not leave copies of values behind: a body is written into memory of its exact size,
//! which is wiped when the last part of it has been sent.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

mod listing;
mod rotation;

pub(super) use listing::{
    BatchBody, BatchError, PoliciesBody, PolicyBody, SecretsBody, ValidationBody, VersionsBody,
};
pub(super) use rotation::RotatingBody;
use rotation::RulesBody;

use crate::keeper::{Created, Description, Moved, Put, Restored, Revealed, Scheduled, Updated};

use crate::secret::{Stage, ValueKind};

/// An answer in JSON. What cannot be written (a value that claims to be text and is none) is an internal error.
pub(super) fn json(body: &impl Serialize) -> Result<Bytes, serde_json::Error> {
    let mut length = Counting(0);
    serde_json::to_writer(&mut length, body)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(length.0));
    serde_json::to_writer(&mut *bytes, body)?;
    Ok(Bytes::from_owner(bytes))
}

struct Counting(usize);

impl io::Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CreatedBody<'a> {
    #[serde(rename = "ARN")]
    arn: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_id: Option<&'a str>,
}

impl<'a> From<&'a Created> for CreatedBody<'a> {
    fn from(created: &'a Created) -> Self {
        Self {
            arn: created.arn.as_str(),
            name: created.name.as_str(),
            version_id: created.version.as_ref().map(|id| id.as_str()),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PutBody<'a> {
    #[serde(rename = "ARN")]
    arn: &'a str,
    name: &'a str,
    version_id: &'a str,
    version_stages: Vec<&'a str>,
}

impl<'a> From<&'a Put> for PutBody<'a> {
    fn from(put: &'a Put) -> Self {
        Self {
            arn: put.arn.as_str(),
            name: put.name.as_str(),
            version_id: put.version.as_str(),
            version_stages: put.stages.iter().map(Stage::as_str).collect(),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct MovedBody<'a> {
    #[serde(rename = "ARN")]
    arn: &'a str,
    name: &'a str,
}

impl<'a> From<&'a Moved> for MovedBody<'a> {
    fn from(moved: &'a Moved) -> Self {
        Self { arn: moved.arn.as_str(), name: moved.name.as_str() }
    }
}

pub(super) type RestoredBody<'a> = MovedBody<'a>;

impl<'a> From<&'a Restored> for RestoredBody<'a> {
    fn from(restored: &'a Restored) -> Self {
        Self { arn: restored.arn.as_str(), name: restored.name.as_str() }
    }
}

pub(super) type UpdatedBody<'a> = CreatedBody<'a>;

impl<'a> From<&'a Updated> for UpdatedBody<'a> {
    fn from(updated: &'a Updated) -> Self {
        Self {
            arn: updated.arn.as_str(),
            name: updated.name.as_str(),
            version_id: updated.version.as_ref().map(|id| id.as_str()),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DeletedBody<'a> {
    #[serde(rename = "ARN")]
    arn: &'a str,
    name: &'a str,
    /// When it goes for good.
    deletion_date: Seconds,
}

impl<'a> From<&'a Scheduled> for DeletedBody<'a> {
    fn from(scheduled: &'a Scheduled) -> Self {
        Self {
            arn: scheduled.arn.as_str(),
            name: scheduled.name.as_str(),
            deletion_date: Seconds(scheduled.due_at),
        }
    }
}

/// Of operations that the model gives no answer.
#[derive(Serialize)]
pub(super) struct Nothing {}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TagBody<'a> {
    key: &'a str,
    value: &'a str,
}

fn tag_bodies(tags: &BTreeMap<String, String>) -> Vec<TagBody<'_>> {
    tags.iter().map(|(key, value)| TagBody { key, value }).collect()
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescriptionBody<'a> {
    #[serde(rename = "ARN")]
    arn: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rotation_enabled: Option<bool>,
    #[serde(rename = "RotationLambdaARN", skip_serializing_if = "Option::is_none")]
    rotator: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rotation_rules: Option<RulesBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_rotation_date: Option<Seconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_rotated_date: Option<Seconds>,
    last_changed_date: Seconds,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_accessed_date: Option<Seconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted_date: Option<Seconds>,
    created_date: Seconds,
    /// Absent while there is no version (recorded).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    version_ids_to_stages: BTreeMap<&'a str, Vec<&'a str>>,
    /// Absent until there was one, empty after the last is gone (recorded).
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<Vec<TagBody<'a>>>,
}

impl<'a> From<&'a Description> for DescriptionBody<'a> {
    fn from(found: &'a Description) -> Self {
        let names = |stages: &'a Vec<Stage>| stages.iter().map(Stage::as_str).collect();
        Self {
            arn: found.arn.as_str(),
            name: found.name.as_str(),
            description: found.description.as_deref().filter(|text| !text.is_empty()),
            rotation_enabled: found.rotation_enabled,
            rotator: found.rotation.as_ref().map(|config| config.rotator.as_str()),
            rotation_rules: found.rotation.as_ref().and_then(RulesBody::of),
            next_rotation_date: found.next_rotation.map(Seconds),
            last_rotated_date: found.rotated_at.map(Seconds),
            last_changed_date: Seconds(found.changed_at),
            last_accessed_date: found.accessed_at.map(Seconds),
            // "The date the secret is scheduled for deletion": when it goes, not when somebody asked for it.
            deleted_date: found.deletion.as_ref().map(|deletion| Seconds(deletion.due_at)),
            created_date: Seconds(found.created_at),
            version_ids_to_stages: found.stages.iter().map(|(id, all)| (id.as_str(), names(all))).collect(),
            tags: found.tags.as_ref().map(tag_bodies),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ValueBody<'a> {
    #[serde(rename = "ARN")]
    arn: &'a str,
    name: &'a str,
    version_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_string: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_binary: Option<Base64<'a>>,
    version_stages: Vec<&'a str>,
    created_date: Seconds,
}

impl<'a> ValueBody<'a> {
    /// `None` when a value is kept as text and is none.
    pub(super) fn of(revealed: &'a Revealed) -> Option<Self> {
        let bytes = revealed.value.bytes.expose();
        let (text, binary) = match revealed.value.kind {
            ValueKind::String => (Some(std::str::from_utf8(bytes).ok()?), None),
            ValueKind::Binary => (None, Some(Base64(bytes))),
        };
        Some(Self {
            arn: revealed.arn.as_str(),
            name: revealed.name.as_str(),
            version_id: revealed.version.as_str(),
            secret_string: text,
            secret_binary: binary,
            version_stages: revealed.stages.iter().map(Stage::as_str).collect(),
            created_date: Seconds(revealed.created_at),
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RandomPasswordBody<'a> {
    pub random_password: &'a str,
}

struct Base64<'a>(&'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Written piece by piece: no copy of the whole is left unwiped.
        serializer.collect_str(&base64::display::Base64Display::new(
            self.0,
            &base64::engine::general_purpose::STANDARD,
        ))
    }
}

/// Seconds since 1970 with exactly three digits behind the point (recorded).
#[derive(Clone, Copy)]
struct Seconds(Timestamp);

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let milliseconds = self.0.as_millisecond();
        let (whole, part) = (milliseconds.div_euclid(1000), milliseconds.rem_euclid(1000));
        let number =
            RawValue::from_string(format!("{whole}.{part:03}")).map_err(serde::ser::Error::custom)?;
        number.serialize(serializer)
    }
}

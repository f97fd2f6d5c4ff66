//! The bodies that tell of rotation. Must not tell of one that a RotationSchedule configures: its rotator is no function's.

use serde::Serialize;

use super::CreatedBody;
use crate::keeper::{Rotating, RotationConfig};

pub(in crate::api::aws) type RotatingBody<'a> = CreatedBody<'a>;

impl<'a> From<&'a Rotating> for RotatingBody<'a> {
    fn from(rotating: &'a Rotating) -> Self {
        Self {
            arn: rotating.arn.as_str(),
            name: rotating.name.as_str(),
            version_id: rotating.version.as_ref().map(|id| id.as_str()),
        }
    }
}

/// As they were given.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RulesBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    automatically_after_days: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule_expression: Option<&'a str>,
}

impl<'a> RulesBody<'a> {
    /// None of a secret that rotates on request only.
    pub(super) fn of(config: &'a RotationConfig) -> Option<Self> {
        let rules = &config.rules;
        let body = Self {
            automatically_after_days: rules.automatically_after_days,
            duration: rules.duration.as_deref(),
            schedule_expression: rules.schedule_expression.as_deref(),
        };
        (rules.automatically_after_days.is_some() || rules.schedule_expression.is_some()).then_some(body)
    }
}

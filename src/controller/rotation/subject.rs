//! Whom a rotation's Jobs and events are for: a RotationSchedule, or a secret that the AWS API configured, which has no
//! object of its own. Must not know what rotates it.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;

use super::JobSettings;
use crate::crd::RotationSchedule;
use crate::secret::Name;

#[derive(Clone, Debug)]
pub(super) struct Subject {
    /// Where the Jobs of a rotator of one's own run, as whom unless it says otherwise, and what they are named after.
    pub namespace: String,
    pub service_account: String,
    pub name: String,
    /// What goes takes its Jobs with it.
    pub schedule_uid: Option<String>,
    pub about: ObjectReference,
    /// What its events begin with.
    pub prefix: String,
}

impl Subject {
    pub fn of_schedule(object: &RotationSchedule) -> Self {
        let metadata = &object.metadata;
        Self {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            service_account: "default".to_owned(),
            name: metadata.name.clone().unwrap_or_default(),
            schedule_uid: Some(metadata.uid.clone().unwrap_or_default()),
            about: object.object_ref(&()),
            prefix: String::new(),
        }
    }

    /// Its events are told of the namespace that its name begins with, where its owner looks for them.
    pub fn of_secret(name: &Name, settings: &JobSettings) -> Self {
        let owner = name.namespace().unwrap_or(&settings.namespace).to_owned();
        Self {
            namespace: settings.namespace.clone(),
            service_account: settings.service_account.clone(),
            name: name.to_string(),
            schedule_uid: None,
            about: ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Namespace".to_owned()),
                name: Some(owner.clone()),
                namespace: Some(owner),
                ..ObjectReference::default()
            },
            prefix: format!("secret {name}: "),
        }
    }
}

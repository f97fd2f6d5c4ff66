//! The containers of a rotation's pod: the relay beside all others, the four steps one after the other, the report.
//! Must not mount the pod's token anywhere but in the relay.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMapKeySelector, ConfigMapVolumeSource, Container, DownwardAPIVolumeFile, DownwardAPIVolumeSource,
    EmptyDirVolumeSource, EnvVar, EnvVarSource, ExecAction, ObjectFieldSelector, Probe,
    ProjectedVolumeSource, ResourceRequirements, SecretKeySelector, SecretVolumeSource,
    ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::job::{Attempt, CA_ANNOTATION, JobSettings, Work, event_annotation, restricted, restricted_ours};
use crate::crd::{JobRotator, KeyRef};
use crate::rotation::Step;

const PROGRAM: &str = "/usr/bin/tidelock";
const TOKEN_FOLDER: &str = "/run/tidelock/token";
const TRUST_FOLDER: &str = "/run/tidelock/trust";
const EVENT_FOLDER: &str = "/run/tidelock/event";
const ENDPOINT: &str = "http://127.0.0.1:8099";
/// The least that the API server grants; kubelet renews it.
const TOKEN_SECONDS: i64 = 600;
/// From the pod's start until the server must accept it.
const READY_SECONDS_MAX: i32 = 120;
/// User volumes are told from ours by their names.
const USER_VOLUME_PREFIX: &str = "user-";

/// The native sidecar: it starts before the steps and ends after them.
pub(super) fn relay(settings: &JobSettings, attempt: &Attempt<'_>) -> Container {
    let arguments = [
        "rotator",
        "relay",
        "--server",
        &settings.server_url,
        "--ca-file",
        &format!("{TRUST_FOLDER}/ca.crt"),
        "--token-file",
        &format!("{TOKEN_FOLDER}/token"),
        "--secret-id",
        attempt.arn,
    ];
    Container {
        restart_policy: Some("Always".to_owned()),
        // Over loopback no probe of kubelet's reaches it: the program asks itself.
        startup_probe: Some(Probe {
            exec: Some(ExecAction { command: Some(owned(&[PROGRAM, "rotator", "ready"])) }),
            period_seconds: Some(1),
            timeout_seconds: Some(10),
            failure_threshold: Some(READY_SECONDS_MAX),
            ..Probe::default()
        }),
        volume_mounts: Some(vec![mount("token", TOKEN_FOLDER), mount("trust", TRUST_FOLDER)]),
        ..ours(settings, "relay", &arguments)
    }
}

pub(super) fn step(settings: &JobSettings, work: &Work<'_>, step: Step, is_test: bool) -> Container {
    match work {
        Work::Generate(rules) => {
            let (event, rules) = (event_file(step), rules.to_string());
            let mut arguments =
                vec!["rotator", "generate", "--step", step.as_str(), "--event", &event, "--rules", &rules];
            arguments.extend(is_test.then_some("--of-copy"));
            Container {
                volume_mounts: Some(vec![mount("event", EVENT_FOLDER)]),
                ..ours(settings, step.container(), &arguments)
            }
        }
        Work::Job(job) => users(settings, job, step),
    }
}

/// The main container: kubelet starts it when every step has ended well.
pub(super) fn report(settings: &JobSettings, is_test: bool) -> Container {
    let event = event_file(if is_test { Step::TestSecret } else { Step::FinishSecret });
    let mut arguments = vec!["rotator", "report", "--event", &event];
    arguments.extend(is_test.then_some("--of-copy"));
    Container {
        volume_mounts: Some(vec![mount("event", EVENT_FOLDER)]),
        ..ours(settings, "report", &arguments)
    }
}

pub(super) fn volumes(settings: &JobSettings, job: Option<&JobRotator>) -> Vec<Volume> {
    let token = VolumeProjection {
        service_account_token: Some(ServiceAccountTokenProjection {
            audience: Some(settings.audience.clone()),
            expiration_seconds: Some(TOKEN_SECONDS),
            path: "token".to_owned(),
        }),
        ..VolumeProjection::default()
    };
    let token = Volume {
        name: "token".to_owned(),
        projected: Some(ProjectedVolumeSource { sources: Some(vec![token]), ..Default::default() }),
        ..Volume::default()
    };
    let trust = annotation_files("trust", vec![("ca.crt".to_owned(), CA_ANNOTATION.to_owned())]);
    let events = Step::ALL.map(|step| (format!("{}.json", step.as_str()), event_annotation(step)));
    let mut volumes = vec![token, trust, annotation_files("event", events.into())];
    for wanted in job.and_then(|job| job.volumes.as_ref()).into_iter().flatten() {
        volumes.push(Volume {
            name: format!("{USER_VOLUME_PREFIX}{}", wanted.name),
            secret: wanted.secret.as_ref().map(|secret| SecretVolumeSource {
                secret_name: Some(secret.secret_name.clone()),
                ..SecretVolumeSource::default()
            }),
            config_map: wanted.config_map.as_ref().map(|map| ConfigMapVolumeSource {
                name: map.name.clone(),
                ..ConfigMapVolumeSource::default()
            }),
            empty_dir: wanted.empty_dir.as_ref().map(|_| EmptyDirVolumeSource {
                medium: Some("Memory".to_owned()),
                size_limit: Some(Quantity("64Mi".to_owned())),
            }),
            ..Volume::default()
        });
    }
    volumes
}

/// A container of our image.
fn ours(settings: &JobSettings, name: &str, arguments: &[&str]) -> Container {
    let quantities = |cpu: Option<&str>, memory: &str| {
        let mut all = BTreeMap::from([("memory".to_owned(), Quantity(memory.to_owned()))]);
        all.extend(cpu.map(|cpu| ("cpu".to_owned(), Quantity(cpu.to_owned()))));
        Some(all)
    };
    Container {
        name: name.to_owned(),
        image: Some(settings.image.clone()),
        image_pull_policy: settings.image_pull_policy.clone(),
        command: Some(owned(&[PROGRAM])),
        args: Some(owned(arguments)),
        security_context: Some(restricted_ours()),
        resources: Some(ResourceRequirements {
            requests: quantities(Some("10m"), "16Mi"),
            limits: quantities(None, "64Mi"),
            ..ResourceRequirements::default()
        }),
        ..Container::default()
    }
}

/// A container of the user's image.
fn users(settings: &JobSettings, job: &JobRotator, step: Step) -> Container {
    let mut mounts = vec![mount("event", EVENT_FOLDER)];
    for wanted in job.volumes.iter().flatten() {
        mounts.push(VolumeMount {
            name: format!("{USER_VOLUME_PREFIX}{}", wanted.name),
            mount_path: wanted.mount_path.clone(),
            read_only: Some(wanted.empty_dir.is_none()),
            ..VolumeMount::default()
        });
    }
    Container {
        name: step.container().to_owned(),
        image: Some(job.image.clone()),
        command: job.command.clone(),
        args: job.args.clone(),
        env: Some(environment(settings, job, step)),
        resources: job.resources.as_ref().map(|resources| ResourceRequirements {
            limits: resources.limits.clone(),
            requests: resources.requests.clone(),
            ..ResourceRequirements::default()
        }),
        volume_mounts: Some(mounts),
        security_context: Some(restricted()),
        ..Container::default()
    }
}

/// The contract's variables come last and so win over the user's.
fn environment(settings: &JobSettings, job: &JobRotator, step: Step) -> Vec<EnvVar> {
    let selected = |key: &KeyRef| (key.name.clone(), key.key.clone());
    let mut variables: Vec<EnvVar> = job
        .env
        .iter()
        .flatten()
        .map(|variable| EnvVar {
            name: variable.name.clone(),
            value: variable.value.clone(),
            value_from: variable.value_from.as_ref().map(|source| EnvVarSource {
                secret_key_ref: source
                    .secret_key_ref
                    .as_ref()
                    .map(selected)
                    .map(|(name, key)| SecretKeySelector { name, key, optional: None }),
                config_map_key_ref: source
                    .config_map_key_ref
                    .as_ref()
                    .map(selected)
                    .map(|(name, key)| ConfigMapKeySelector { name, key, optional: None }),
                ..EnvVarSource::default()
            }),
        })
        .collect();
    let contract = [
        ("TIDELOCK_STEP", step.as_str()),
        ("TIDELOCK_EVENT", &event_file(step)),
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", ENDPOINT),
        ("AWS_REGION", &settings.region),
        ("AWS_DEFAULT_REGION", &settings.region),
        // Every client signs with some key; the relay drops what it signed.
        ("AWS_ACCESS_KEY_ID", "tidelock"),
        ("AWS_SECRET_ACCESS_KEY", "tidelock"),
    ];
    variables.extend(contract.map(|(name, value)| EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        value_from: None,
    }));
    variables
}

fn event_file(step: Step) -> String {
    format!("{EVENT_FOLDER}/{}.json", step.as_str())
}

/// Files whose contents are annotations of the pod: no other object is needed in the pod's namespace.
fn annotation_files(volume: &str, files: Vec<(String, String)>) -> Volume {
    let items = files.into_iter().map(|(path, annotation)| DownwardAPIVolumeFile {
        path,
        field_ref: Some(ObjectFieldSelector {
            field_path: format!("metadata.annotations['{annotation}']"),
            ..ObjectFieldSelector::default()
        }),
        ..DownwardAPIVolumeFile::default()
    });
    Volume {
        name: volume.to_owned(),
        downward_api: Some(DownwardAPIVolumeSource { items: Some(items.collect()), default_mode: None }),
        ..Volume::default()
    }
}

fn mount(volume: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

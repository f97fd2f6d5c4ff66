//! The Job as an object, against what the contract, the server's proof and Pod Security ask of it. Needs no cluster.

use std::sync::LazyLock;

use k8s_openapi::api::core::v1::{Container, ObjectReference};

use super::*;
use crate::config::Cli;
use crate::crd::{EmptyDirVolume, EnvVar, SecretVolume, Volume};

const ARN: &str = "arn:aws:secretsmanager:local-1:000000000000:secret:shop/orders-db-AbCdEf";
const VERSION: &str = "0197f2c0-5b3a-4c1e-9d2f-1a2b3c4d5e6f";

fn settings() -> JobSettings {
    JobSettings {
        image: "registry/tidelock:1".to_owned(),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        image_pull_secrets: Vec::new(),
        namespace: "tidelock-rotations".to_owned(),
        service_account: "tidelock-rotator".to_owned(),
        server_url: "https://tidelock-api.tidelock.svc:8443".to_owned(),
        audience: "tidelock.tidelock/api".to_owned(),
        guards: Vec::new(),
        region: "local-1".to_owned(),
    }
}

static SUBJECT: LazyLock<Subject> = LazyLock::new(|| Subject {
    namespace: "shop".to_owned(),
    service_account: "default".to_owned(),
    name: "orders-db".to_owned(),
    schedule_uid: Some("schedule-uid".to_owned()),
    about: ObjectReference::default(),
    prefix: String::new(),
});

fn attempt() -> Attempt<'static> {
    Attempt {
        subject: &SUBJECT,
        arn: ARN,
        version_id: VERSION,
        number: 3,
        test_since: None,
        epoch: 7,
        ca: "-----BEGIN CERTIFICATE-----",
    }
}

fn generated() -> Job {
    let rules = r#"{"password":{"key":"password"}}"#.parse().unwrap();
    build(&settings(), &attempt(), &Work::Generate(&rules))
}

fn rotator() -> JobRotator {
    JobRotator {
        image: "registry/mine:2".to_owned(),
        command: Some(vec!["/rotate.sh".to_owned()]),
        env: Some(vec![EnvVar { name: "HOST".to_owned(), value: Some("pg".to_owned()), value_from: None }]),
        volumes: Some(vec![
            Volume {
                name: "token".to_owned(),
                mount_path: "/admin".to_owned(),
                secret: Some(SecretVolume { secret_name: "admin".to_owned() }),
                ..Volume::default()
            },
            Volume {
                name: "scratch".to_owned(),
                mount_path: "/scratch".to_owned(),
                empty_dir: Some(EmptyDirVolume {}),
                ..Volume::default()
            },
        ]),
        ..JobRotator::default()
    }
}

fn users() -> Job {
    build(&settings(), &attempt(), &Work::Job(&rotator()))
}

fn pod(job: &Job) -> &PodSpec {
    job.spec.as_ref().unwrap().template.spec.as_ref().unwrap()
}

fn containers(job: &Job) -> Vec<&Container> {
    let pod = pod(job);
    pod.init_containers.iter().flatten().chain(&pod.containers).collect()
}

fn variable<'a>(container: &'a Container, name: &str) -> Option<&'a str> {
    // Kubernetes takes the last of one name.
    let found = container.env.iter().flatten().rev().find(|variable| variable.name == name)?;
    found.value.as_deref()
}

#[test]
fn the_relay_comes_first_then_the_steps_in_order_then_the_report() {
    for job in [generated(), users()] {
        let names: Vec<_> = containers(&job).into_iter().map(|container| container.name.as_str()).collect();
        assert_eq!(names, ["relay", "create-secret", "set-secret", "test-secret", "finish-secret", "report"]);
        let sidecars: Vec<_> =
            containers(&job).into_iter().filter_map(|c| c.restart_policy.as_deref()).collect();
        assert_eq!(sidecars, ["Always"]);
    }
}

#[test]
fn a_test_runs_only_the_step_test_secret_and_has_a_name_of_its_own() {
    let since = |second| Attempt { test_since: Some(Timestamp::from_second(second).unwrap()), ..attempt() };
    let (rules, rotator) = (Rules::default(), rotator());
    for work in [Work::Generate(&rules), Work::Job(&rotator)] {
        let job = build(&settings(), &since(1), &work);
        let names: Vec<_> = containers(&job).into_iter().map(|container| container.name.as_str()).collect();
        assert_eq!(names, ["relay", "test-secret", "report"]);
        let report = containers(&job)[2].args.clone().unwrap();
        assert_eq!(report[2..], ["--event", "/run/tidelock/event/testSecret.json", "--of-copy"]);
        let tested = containers(&job)[1].args.clone().unwrap_or_default();
        assert_eq!(tested.contains(&"--of-copy".to_owned()), matches!(work, Work::Generate(_)));
        // Under the same token and number: neither a rotation's Job, nor that of an earlier test, is taken for it.
        let others = [build(&settings(), &attempt(), &work), build(&settings(), &since(2), &work)];
        assert!(others.iter().all(|other| other.metadata.name != job.metadata.name));
    }
}

#[test]
fn only_the_relay_holds_the_pods_token() {
    for job in [generated(), users()] {
        assert_eq!(pod(&job).automount_service_account_token, Some(false));
        let holders: Vec<_> = containers(&job)
            .into_iter()
            .filter(|container| container.volume_mounts.iter().flatten().any(|mount| mount.name == "token"))
            .map(|container| container.name.as_str())
            .collect();
        assert_eq!(holders, ["relay"]);
        let volumes = pod(&job).volumes.as_ref().unwrap();
        let token = volumes[0].projected.as_ref().unwrap().sources.as_ref().unwrap()[0].clone();
        assert_eq!(token.service_account_token.unwrap().audience.as_deref(), Some("tidelock.tidelock/api"));
    }
}

#[test]
fn every_container_passes_the_restricted_profile() {
    for job in [generated(), users()] {
        let security = pod(&job).security_context.as_ref().unwrap();
        assert_eq!(security.seccomp_profile.as_ref().unwrap().type_, "RuntimeDefault");
        // An image without a user of its own would run as root, which the profile refuses.
        assert_eq!((security.run_as_user, security.run_as_group), (Some(USER), Some(USER)));
        for container in containers(&job) {
            let security = container.security_context.as_ref().unwrap();
            assert_eq!(security.allow_privilege_escalation, Some(false), "{}", container.name);
            assert_eq!(security.run_as_non_root, Some(true), "{}", container.name);
            assert_eq!(security.capabilities.as_ref().unwrap().drop, Some(vec!["ALL".to_owned()]));
            assert!(security.privileged.is_none() && security.run_as_user != Some(0));
        }
    }
}

#[test]
fn one_job_is_one_attempt_that_ends() {
    let spec = generated().spec.unwrap();
    assert_eq!((spec.backoff_limit, spec.completions, spec.parallelism), (Some(0), Some(1), Some(1)));
    assert!(spec.active_deadline_seconds.is_some() && spec.ttl_seconds_after_finished.is_some());
    assert_eq!(spec.template.spec.unwrap().restart_policy.as_deref(), Some("Never"));
}

#[test]
fn job_and_pod_say_what_the_server_compares_with_its_journal() {
    let job = generated();
    let template = job.spec.as_ref().unwrap().template.metadata.as_ref().unwrap();
    for metadata in [&job.metadata, template] {
        let labels = metadata.labels.as_ref().unwrap();
        assert_eq!(labels[ATTEMPT_LABEL], "3");
        assert_eq!(labels[ROTATION_LABEL], rotation_label("orders-db", ARN));
        let annotations = metadata.annotations.as_ref().unwrap();
        assert_eq!(annotations[ARN_ANNOTATION], ARN);
        assert_eq!(annotations[VERSION_ANNOTATION], VERSION);
        assert_eq!(annotations[EPOCH_ANNOTATION], "7");
        assert_eq!(annotations[SCHEDULE_ANNOTATION], "shop/orders-db");
    }
    assert_eq!(job.metadata.name.as_deref(), Some(job_name("orders-db", ARN, VERSION, 3).as_str()));
}

#[test]
fn built_in_rotators_run_apart_from_tenants_and_users_beside_their_schedule() {
    let built_in = generated();
    assert_eq!(built_in.metadata.namespace.as_deref(), Some("tidelock-rotations"));
    assert_eq!(pod(&built_in).service_account_name.as_deref(), Some("tidelock-rotator"));
    assert!(built_in.metadata.owner_references.is_none(), "no owner reaches across namespaces");
    let users = users();
    assert_eq!(users.metadata.namespace.as_deref(), Some("shop"));
    assert_eq!(pod(&users).service_account_name.as_deref(), Some("default"));
    let owner = &users.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!((owner.kind.as_str(), owner.uid.as_str()), ("RotationSchedule", "schedule-uid"));
}

#[test]
fn a_users_step_has_the_contract_and_cannot_override_it() {
    let mut rotator = rotator();
    let forged =
        EnvVar { name: "AWS_REGION".to_owned(), value: Some("elsewhere".to_owned()), value_from: None };
    rotator.env.as_mut().unwrap().push(forged);
    let job = build(&settings(), &attempt(), &Work::Job(&rotator));
    let annotations =
        job.spec.as_ref().unwrap().template.metadata.as_ref().unwrap().annotations.clone().unwrap();
    for (step, container) in Step::ALL.into_iter().zip(&containers(&job)[1..5]) {
        assert_eq!(container.image.as_deref(), Some("registry/mine:2"));
        assert_eq!(variable(container, "TIDELOCK_STEP"), Some(step.as_str()));
        let file = format!("/run/tidelock/event/{}.json", step.as_str());
        assert_eq!(variable(container, "TIDELOCK_EVENT"), Some(file.as_str()));
        assert_eq!(variable(container, "AWS_ENDPOINT_URL_SECRETS_MANAGER"), Some("http://127.0.0.1:8099"));
        assert_eq!(variable(container, "AWS_REGION"), Some("local-1"));
        assert_eq!(variable(container, "HOST"), Some("pg"));
        let event: serde_json::Value = serde_json::from_str(&annotations[&event_annotation(step)]).unwrap();
        let expected =
            serde_json::json!({"Step": step.as_str(), "SecretId": ARN, "ClientRequestToken": VERSION});
        assert_eq!(event, expected);
    }
}

#[test]
fn a_users_volume_never_takes_the_place_of_ours() {
    let job = users();
    let names: Vec<_> = pod(&job).volumes.iter().flatten().map(|volume| volume.name.as_str()).collect();
    assert_eq!(names, ["token", "trust", "event", "user-token", "user-scratch"]);
    let mounts = containers(&job)[1].volume_mounts.clone().unwrap();
    let read_only: Vec<_> = mounts.iter().map(|mount| (mount.mount_path.as_str(), mount.read_only)).collect();
    let expected = [("/run/tidelock/event", Some(true)), ("/admin", Some(true)), ("/scratch", Some(false))];
    assert_eq!(read_only, expected);
}

#[test]
fn the_built_in_steps_are_told_by_arguments_that_the_program_reads() {
    use clap::Parser as _;
    let job = generated();
    for container in containers(&job) {
        let arguments = container.command.iter().chain(&container.args).flatten();
        assert!(Cli::try_parse_from(arguments).is_ok(), "{}: {:?}", container.name, container.args);
    }
    let probe = containers(&job)[0].startup_probe.clone().unwrap().exec.unwrap().command.unwrap();
    assert!(Cli::try_parse_from(probe).is_ok());
}

#[test]
fn the_script_in_the_document_is_the_one_in_the_sample() {
    let document = include_str!("../../../../docs/rotators.md");
    let sample = include_str!("../../../../config/samples/reports-token.yaml");
    let script = document.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let indented: String = script.lines().map(|line| format!("    {line}\n")).collect();
    assert!(sample.contains(&indented), "docs/rotators.md and config/samples/reports-token.yaml differ");
    assert!(script.lines().count() <= 35);
}

#[test]
fn a_pod_on_a_silent_node_is_given_up_soon_unless_its_author_says_otherwise() {
    let seconds = |job: &Job, taint: &str| {
        let pod = job.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
        let mut all = pod.tolerations.iter().flatten();
        all.find(|toleration| toleration.key.as_deref() == Some(taint)).map(|found| found.toleration_seconds)
    };
    for taint in SILENT_NODE_TAINTS {
        assert_eq!(seconds(&generated(), taint), Some(Some(30)));
        assert_eq!(seconds(&users(), taint), Some(Some(30)));
    }
    let with = |toleration: crate::crd::Toleration| {
        let job = JobRotator { tolerations: Some(vec![toleration]), ..rotator() };
        build(&settings(), &attempt(), &Work::Job(&job))
    };
    let [unreachable, not_ready] = SILENT_NODE_TAINTS;
    let own = crate::crd::Toleration {
        key: Some(unreachable.to_owned()),
        operator: Some("Exists".to_owned()),
        toleration_seconds: Some(600),
        ..Default::default()
    };
    let job = with(own.clone());
    assert_eq!(seconds(&job, unreachable), Some(Some(600)));
    assert_eq!(seconds(&job, not_ready), Some(Some(30)));
    let everything = with(crate::crd::Toleration { key: None, toleration_seconds: None, ..own });
    assert_eq!(SILENT_NODE_TAINTS.map(|taint| seconds(&everything, taint)), [None, None]);
}

#[test]
fn a_secret_without_a_schedule_has_its_jobs_among_the_built_in_ones() {
    let name = crate::secret::Name::parse("shop/app/db").unwrap();
    let subject = Subject::of_secret(&name, &settings());
    let job = build(&settings(), &Attempt { subject: &subject, ..attempt() }, &Work::Job(&rotator()));
    assert_eq!(job.metadata.namespace.as_deref(), Some("tidelock-rotations"));
    assert!(job.metadata.name.unwrap().starts_with("shop-app-db-"));
    assert_eq!(job.metadata.owner_references, None);
    assert!(!job.metadata.annotations.unwrap().contains_key(SCHEDULE_ANNOTATION));
    let pod = job.spec.unwrap().template.spec.unwrap();
    assert_eq!(pod.service_account_name.as_deref(), Some("tidelock-rotator"));
    assert_eq!(subject.about.namespace.as_deref(), Some("shop"));
}

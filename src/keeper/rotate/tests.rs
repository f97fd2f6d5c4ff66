//! The journal against a real store, and the rights that it gives to a Job's own pod.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::*;
use crate::access::{NamePolicy, PodIdentity, RbacAnswer, ServiceAccount};
use crate::clock::ManualClock;
use crate::keeper::{Create, Ports, Rights, RotationJob, Settings};
use crate::kms::{KeyFile, RootKey};
use crate::seal::SystemRandom;
use crate::secret::{Origin, SecretId, SecretValue};
use crate::store::{Installation, InstallationState, ROW_MAC, Store, open_for_tests};

const FIRST: &str = "11111111-1111-4111-8111-111111111111";
const BY_HAND: &str = "22222222-2222-4222-8222-222222222222";

/// RBAC that allows nobody anything, and the Job that the asking pod belongs to.
#[derive(Default)]
struct OnlyJobs(Mutex<Option<RotationJob>>);

#[async_trait]
impl Rights for OnlyJobs {
    async fn ask(&self, _: &Principal, _: Operation, _: &Name) -> RbacAnswer {
        RbacAnswer::Denied
    }

    async fn rotation_job(&self, _: &Principal) -> Option<RotationJob> {
        self.0.lock().unwrap().clone()
    }
}

struct Bench {
    keeper: Keeper,
    rights: Arc<OnlyJobs>,
    clock: Arc<ManualClock>,
    arn: Arn,
    _folder: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let line = KeyFile::generate("installation-1", &mut SystemRandom);
        let root = KeyFile::parse("test", &line).unwrap();
        let clock = ManualClock::at("2026-03-01T04:00:00Z".parse().unwrap());
        let installation = Installation {
            id: "installation-1".to_owned(),
            state: InstallationState::Ready,
            region: "local-1".to_owned(),
            account: "000000000000".to_owned(),
            cluster_id: String::new(),
            crd_uid: String::new(),
            root_key: Some(root.key_id().clone()),
            created_at: crate::clock::Clock::now(clock.as_ref()),
        };
        let mac = root.derive(ROW_MAC).await.unwrap();
        let store = open_for_tests(folder.path(), installation, mac).await.unwrap();
        let epoch = store.raise_epoch().await.unwrap();
        let rights = Arc::new(OnlyJobs::default());
        let ports = Ports {
            store: Arc::new(store),
            root_key: Arc::new(root),
            clock: clock.clone(),
            rights: rights.clone(),
        };
        let settings = Settings {
            region: "local-1".to_owned(),
            account: "000000000000".to_owned(),
            names: NamePolicy::NamespacePrefix,
            rotators: ["generate".to_owned(), "other".to_owned()].into(),
        };
        let keeper = Keeper::start(ports, settings, epoch).await.unwrap();
        let create = Create {
            name: Name::parse("shop/orders-db").unwrap(),
            description: None,
            token: VersionId::parse(FIRST).unwrap(),
            value: Some(SecretValue::string("first".to_owned())),
            origin: Origin::Api,
            grants: Vec::new(),
            recovery_window_days: 30,
            tags: BTreeMap::new(),
        };
        let arn = keeper.create(&Principal::Controller, &create).await.unwrap().arn;
        Self { keeper, rights, clock, arn, _folder: folder }
    }

    async fn view(&self) -> RotationView {
        self.keeper.rotation(&self.arn).await.unwrap()
    }

    async fn journal(&self) -> RotationRecord {
        self.view().await.journal.unwrap()
    }

    fn pass(&self, seconds: u64) {
        self.clock.advance(std::time::Duration::from_secs(seconds));
    }

    async fn start_job(&self, attempt: u32) -> JobRecord {
        let job = JobRecord {
            namespace: "tidelock-rotations".to_owned(),
            name: format!("orders-db-1-{attempt}"),
            uid: format!("job-{attempt}"),
            service_account: "tidelock-rotator".to_owned(),
            attempt,
            started_at: self.keeper.now(),
            gone: false,
        };
        assert!(self.keeper.rotation_job_started(&self.arn, &job).await.unwrap());
        job
    }

    /// The schedule was deleted; says which Jobs are to be deleted as well.
    async fn halt(&self) -> Vec<JobRecord> {
        let halted = self.keeper.halt_rotation(&self.arn, "RotationCancelled", "no schedule").await;
        let jobs = halted.unwrap();
        self.keeper.set_rotation_enabled(&self.arn, false).await.unwrap();
        jobs
    }

    async fn describe(&self) -> crate::keeper::Description {
        let id = SecretId::Arn(self.arn.to_string());
        self.keeper.describe(&Principal::Controller, &id).await.unwrap()
    }

    /// The next questions come from a pod of this Job.
    fn ask_from(&self, job: &JobRecord) {
        let job =
            RotationJob { namespace: job.namespace.clone(), uid: job.uid.clone(), attempt: job.attempt };
        *self.rights.0.lock().unwrap() = Some(job);
    }

    async fn put(
        &self,
        by: &Principal,
        token: &VersionId,
        stages: Option<&[Stage]>,
    ) -> Result<(), KeeperError> {
        let id = SecretId::Arn(self.arn.to_string());
        let value = SecretValue::string(format!("value of {token}"));
        self.keeper.put(by, &id, token, &value, stages).await.map(drop)
    }

    async fn promote(&self, by: &Principal, token: &VersionId) -> Result<(), KeeperError> {
        let id = SecretId::Arn(self.arn.to_string());
        let from = VersionId::parse(FIRST).unwrap();
        self.keeper.move_stage(by, &id, &Stage::current(), Some(token), Some(&from)).await.map(drop)
    }

    async fn fail(&self, attempt: u32, gives_up: bool) {
        let failure = AttemptFailure {
            attempt,
            reason: "RotationRetrying",
            message: format!("attempt {attempt} failed"),
            gives_up,
        };
        self.keeper.rotation_attempt_failed(&self.arn, &failure).await.unwrap();
    }
}

fn pod_of(service_account: &str) -> Principal {
    Principal::ServiceAccount {
        account: ServiceAccount {
            namespace: "tidelock-rotations".to_owned(),
            name: service_account.to_owned(),
        },
        uid: "account-uid".to_owned(),
        groups: [].into(),
        extra: Default::default(),
        pod: Some(PodIdentity { name: "pod".to_owned(), uid: "pod-uid".to_owned(), node: None }),
        via: Box::default(),
    }
}

fn pod() -> Principal {
    pod_of("tidelock-rotator")
}

#[tokio::test]
async fn a_rotation_runs_from_its_beginning_to_its_success() {
    let bench = Bench::new().await;
    bench.pass(60);
    let begun = bench.keeper.begin_rotation(&bench.arn, Some("asked")).await.unwrap();
    let view = bench.view().await;
    assert_eq!((view.pending, view.hindrance, view.last_rotation), (Some(Pending::Empty), None, None));
    assert_eq!(view.journal.unwrap().handled_trigger.as_deref(), Some("asked"));
    let job = bench.start_job(1).await;
    bench.ask_from(&job);
    bench.put(&pod(), &begun.version, Some(&[Stage::pending()])).await.unwrap();
    assert_eq!(bench.view().await.pending, Some(Pending::Written));
    bench.pass(60);
    bench.promote(&pod(), &begun.version).await.unwrap();
    assert_eq!(bench.view().await.pending, Some(Pending::Promoted));
    bench.keeper.rotation_succeeded(&bench.arn).await.unwrap();
    let view = bench.view().await;
    assert_eq!((view.pending, view.last_rotation), (None, Some(bench.keeper.now())));
    let journal = view.journal.unwrap();
    assert_eq!((journal.state, journal.attempt), (RotationState::Succeeded, 1));
    // The next one keeps the answer, and takes AWSPENDING over.
    let next = bench.keeper.begin_rotation(&bench.arn, None).await.unwrap();
    assert_eq!(next.handled_trigger.as_deref(), Some("asked"));
    assert_ne!(next.version, begun.version);
}

#[tokio::test]
async fn a_rotation_under_way_is_never_replaced_by_another() {
    let bench = Bench::new().await;
    let begun = bench.keeper.begin_rotation(&bench.arn, None).await.unwrap();
    let refused = bench.keeper.begin_rotation(&bench.arn, None).await.unwrap_err();
    assert!(refused.to_string().contains("A previous rotation isn't complete."), "{refused}");
    bench.fail(1, true).await;
    assert!(bench.keeper.begin_rotation(&bench.arn, None).await.is_err(), "one that gave up is resumed");
    bench.keeper.resume_rotation(&bench.arn, Some("again")).await.unwrap();
    let journal = bench.journal().await;
    assert_eq!((journal.version, journal.state), (begun.version, RotationState::Running));
    assert_eq!((journal.failures, journal.attempt, journal.failed_at), (0, 2, None));
    assert_eq!(journal.handled_trigger.as_deref(), Some("again"));
}

#[tokio::test]
async fn a_failed_attempt_is_counted_once_and_loses_its_rights_at_once() {
    let bench = Bench::new().await;
    let begun = bench.keeper.begin_rotation(&bench.arn, None).await.unwrap();
    let first = bench.start_job(1).await;
    bench.ask_from(&first);
    bench.fail(1, false).await;
    bench.fail(1, false).await;
    let journal = bench.journal().await;
    assert_eq!((journal.attempt, journal.failures), (2, 1));
    let denied = bench.put(&pod(), &begun.version, Some(&[Stage::pending()])).await;
    assert!(matches!(denied, Err(KeeperError::Denied(_))));
    // The second attempt's pod may; the first one's still may not.
    let second = bench.start_job(2).await;
    let denied = bench.put(&pod(), &begun.version, Some(&[Stage::pending()])).await;
    assert!(matches!(denied, Err(KeeperError::Denied(_))));
    bench.ask_from(&second);
    bench.put(&pod(), &begun.version, Some(&[Stage::pending()])).await.unwrap();
}

#[tokio::test]
async fn no_part_of_the_proof_can_be_missing() {
    let bench = Bench::new().await;
    let begun = bench.keeper.begin_rotation(&bench.arn, None).await.unwrap();
    let job = bench.start_job(1).await;
    let put = |by: Principal| {
        let (bench, version) = (&bench, begun.version.clone());
        async move { bench.put(&by, &version, Some(&[Stage::pending()])).await }
    };
    let denied = |outcome: Result<(), KeeperError>| matches!(outcome, Err(KeeperError::Denied(_)));
    assert!(denied(put(pod()).await), "no Job of its own");
    for forged in [
        JobRecord { uid: "another".to_owned(), ..job.clone() },
        JobRecord { attempt: 2, ..job.clone() },
        JobRecord { namespace: "shop".to_owned(), ..job.clone() },
    ] {
        bench.ask_from(&forged);
        assert!(denied(put(pod()).await), "{forged:?}");
    }
    bench.ask_from(&job);
    assert!(denied(put(pod_of("another")).await), "another ServiceAccount");
    assert!(denied(bench.put(&pod(), &begun.version, None).await), "AWSCURRENT only by the last step");
    put(pod()).await.unwrap();
    bench.promote(&pod(), &begun.version).await.unwrap();
    bench.keeper.rotation_succeeded(&bench.arn).await.unwrap();
    let id = SecretId::Arn(bench.arn.to_string());
    let after = bench.keeper.value(&pod(), &id, None, None).await;
    assert!(matches!(after, Err(KeeperError::Denied(_))), "the rights end with the rotation");
}

#[tokio::test]
async fn a_value_written_by_hand_abandons_a_running_rotation_and_one_that_gave_up() {
    let by_hand = VersionId::parse(BY_HAND).unwrap();
    for gave_up in [false, true] {
        let bench = Bench::new().await;
        let begun = bench.keeper.begin_rotation(&bench.arn, None).await.unwrap();
        if gave_up {
            bench.fail(1, true).await;
        }
        bench.pass(60);
        bench.put(&Principal::Controller, &by_hand, None).await.unwrap();
        if gave_up {
            assert_eq!(bench.view().await.pending, Some(Pending::Overtaken));
            bench.keeper.abandon_rotation(&bench.arn).await.unwrap();
        }
        let view = bench.view().await;
        assert_eq!((view.pending, view.last_rotation), (None, Some(bench.keeper.now())));
        assert_eq!(view.journal.unwrap().state, RotationState::Abandoned);
        let id = SecretId::Arn(bench.arn.to_string());
        let stages = bench.keeper.describe(&Principal::Controller, &id).await.unwrap().stages;
        assert!(!stages.contains_key(&begun.version), "AWSPENDING is gone: {stages:?}");
    }
}

#[tokio::test]
async fn jobs_whose_pods_may_live_are_carried_into_the_next_rotation() {
    let bench = Bench::new().await;
    bench.keeper.begin_rotation(&bench.arn, None).await.unwrap();
    let (gone, lost) = (bench.start_job(1).await, {
        bench.fail(1, false).await;
        bench.start_job(2).await
    });
    bench.keeper.rotation_pods_gone(&bench.arn, std::slice::from_ref(&gone.uid)).await.unwrap();
    bench.keeper.abandon_rotation(&bench.arn).await.unwrap();
    let next = bench.keeper.begin_rotation(&bench.arn, None).await.unwrap();
    assert_eq!(next.jobs.iter().map(|job| job.uid.as_str()).collect::<Vec<_>>(), [lost.uid.as_str()]);
    assert_eq!(next.attempt, 3, "a number that a living pod carries is not given out again");
    bench.ask_from(&lost);
    let denied = bench.put(&pod(), &next.version, Some(&[Stage::pending()])).await;
    assert!(matches!(denied, Err(KeeperError::Denied(_))), "it has no rights in the new rotation");
}

#[tokio::test]
async fn what_is_so_already_writes_nothing() {
    let bench = Bench::new().await;
    bench.keeper.begin_rotation(&bench.arn, None).await.unwrap();
    bench.start_job(1).await;
    bench.keeper.rotation_step_seen(&bench.arn, Step::SetSecret).await.unwrap();
    let before = bench.journal().await;
    assert_eq!(before.step.as_deref(), Some("setSecret"));
    bench.keeper.rotation_step_seen(&bench.arn, Step::SetSecret).await.unwrap();
    bench.keeper.rotation_pods_gone(&bench.arn, &["unknown".to_owned()]).await.unwrap();
    assert_eq!(bench.journal().await.revision, before.revision);
}

#[tokio::test]
async fn a_rotation_without_a_schedule_is_halted_and_waits_under_its_token() {
    let bench = Bench::new().await;
    let begun = bench.keeper.begin_rotation(&bench.arn, None).await.unwrap();
    assert_eq!(bench.describe().await.rotation_enabled, Some(true));
    let job = bench.start_job(1).await;
    bench.ask_from(&job);
    assert_eq!(bench.halt().await, std::slice::from_ref(&job));
    let denied = bench.put(&pod(), &begun.version, Some(&[Stage::pending()])).await;
    assert!(matches!(denied, Err(KeeperError::Denied(_))), "the rights end with the schedule");
    let after = bench.describe().await;
    assert_eq!(after.rotation_enabled, Some(false));
    assert_eq!(after.stages[&begun.version], [Stage::pending()], "labels are left as they are");
    // A Job that was made meanwhile is nobody's.
    let late = JobRecord { uid: "late".to_owned(), ..job };
    assert!(!bench.keeper.rotation_job_started(&bench.arn, &late).await.unwrap());
    // Another schedule does not begin a second one.
    assert!(bench.keeper.begin_rotation(&bench.arn, None).await.is_err());
    bench.keeper.set_rotation_enabled(&bench.arn, true).await.unwrap();
    bench.keeper.resume_rotation(&bench.arn, None).await.unwrap();
    let journal = bench.journal().await;
    assert_eq!((journal.version, journal.state), (begun.version, RotationState::Running));
    assert_eq!(bench.describe().await.rotation_enabled, Some(true));
}

#[tokio::test]
async fn a_halted_rotation_that_had_done_its_work_has_succeeded() {
    let bench = Bench::new().await;
    let begun = bench.keeper.begin_rotation(&bench.arn, None).await.unwrap();
    let job = bench.start_job(1).await;
    bench.ask_from(&job);
    bench.put(&pod(), &begun.version, Some(&[Stage::pending()])).await.unwrap();
    bench.promote(&pod(), &begun.version).await.unwrap();
    bench.halt().await;
    assert_eq!(bench.journal().await.state, RotationState::Succeeded);
    let revision = bench.journal().await.revision;
    bench.halt().await;
    assert_eq!(bench.journal().await.revision, revision, "what is halted already is left alone");
}

#[tokio::test]
async fn a_secret_without_a_value_or_on_its_way_out_cannot_be_rotated() {
    let bench = Bench::new().await;
    let create = Create {
        name: Name::parse("shop/partner-login").unwrap(),
        description: None,
        token: VersionId::parse(BY_HAND).unwrap(),
        value: None,
        origin: Origin::Api,
        grants: Vec::new(),
        recovery_window_days: 30,
        tags: BTreeMap::new(),
    };
    let arn = bench.keeper.create(&Principal::Controller, &create).await.unwrap().arn;
    let hindrance = async || bench.keeper.rotation(&arn).await.unwrap().hindrance;
    assert_eq!(hindrance().await, Some(Hindrance::NoValue));
    let id = SecretId::Arn(arn.to_string());
    let value = SecretValue::string("by hand".to_owned());
    let token = VersionId::parse(BY_HAND).unwrap();
    bench.pass(60);
    bench.keeper.put(&Principal::Controller, &id, &token, &value, None).await.unwrap();
    assert_eq!(hindrance().await, None);
    let written = bench.keeper.rotation(&arn).await.unwrap().last_written;
    assert_eq!(written, Some(bench.keeper.now()));
}

#[test]
fn a_long_token_is_kept_by_its_digest_and_another_long_one_has_another() {
    let (short, long) = ("a".repeat(253), "a".repeat(254));
    assert_eq!(trigger(&short), short);
    let kept = trigger(&long);
    assert!(kept.starts_with("sha256:") && kept.len() == 71, "{kept}");
    assert_eq!(kept, trigger(&long), "the same token asks for nothing new");
    assert_ne!(kept, trigger(&"a".repeat(300)), "another one does");
}

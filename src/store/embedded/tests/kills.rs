//! SIGKILL at random moments, again and again, of a process that writes. Each of its lanes owns some secrets and does
//! numbered operations on them; what a secret must look like follows from the number of the last one. So the parent knows
//! what was acknowledged and what may have been under way, and everything else is a fault.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::*;
use crate::seal::{DataKey, KeyId, SystemRandom};
use crate::secret::{Plaintext, Randomness, Stage, ValueKind};
use crate::store::{JobRecord, RotationState};

const CHILD_FOLDER: &str = "TIDELOCK_TEST_STORE_FOLDER";
const CHILD: &str = "store::embedded::tests::kills::a_child_that_writes_until_it_is_killed";
const LANES: u32 = 6;
const SECRETS_PER_LANE: u32 = 2;
const KILLS: u32 = 300;
/// After so many operations a secret is removed, and the next one makes it anew.
const LIFE: u64 = 9;

/// Whether the secret exists after operation `k`; the first operation makes it.
fn exists(k: u64) -> bool {
    !k.is_multiple_of(LIFE)
}

/// Operations since it was last made.
fn age(k: u64) -> u64 {
    k % LIFE
}

fn id_of(k: u64) -> VersionId {
    id(u32::try_from(k).unwrap())
}

fn value(n: u32, k: u64) -> Vec<u8> {
    format!("value {k} of secret {n}").into_bytes()
}

fn sealed_version(n: u32, k: u64) -> VersionRecord {
    let (arn, id) = (arn(n), id_of(k));
    let place = Place { region: "local-1", arn: &arn, version: &id };
    let key = DataKey::generate(&mut SystemRandom);
    let root = RootSecret::from_bytes(&[1; 32]).unwrap();
    let wrapped = root.wrap(&KeyId::new("file:1".into()), &key, &place.of_key(), &mut SystemRandom).unwrap();
    let sealed = crate::seal::seal(place, key, wrapped, &Plaintext::new(value(n, k)), &mut SystemRandom);
    VersionRecord {
        created_at: contract::at(1),
        kind: ValueKind::String,
        sealed: Some(sealed.unwrap()),
        arn,
        id,
    }
}

/// Each operation puts a version, moves both stages, and takes the oldest version away.
fn wanted(n: u32, k: u64) -> SecretRecord {
    let mut stages = BTreeMap::from([(Stage::current(), id_of(k))]);
    if age(k) > 1 {
        stages.insert(Stage::previous(), id_of(k - 1));
    }
    SecretRecord { stages, revision: age(k), ..secret(n) }
}

fn journal(n: u32, k: u64) -> RotationRecord {
    let job = JobRecord {
        namespace: "shop".into(),
        name: format!("rotate-{k}"),
        uid: "uid".into(),
        service_account: "rotator".into(),
        attempt: 1,
        started_at: contract::at(1),
        gone: false,
    };
    RotationRecord {
        arn: arn(n),
        version: id_of(k),
        is_test: false,
        state: RotationState::Running,
        step: None,
        attempt: 1,
        failures: 0,
        jobs: vec![job],
        begun_at: contract::at(1),
        ended_at: None,
        failed_at: None,
        failure: None,
        handled_trigger: None,
        revision: age(k),
    }
}

fn operation(n: u32, k: u64) -> Vec<Change> {
    let before = if age(k) == 1 { Expected::Absent } else { Expected::Revision(age(k - 1)) };
    if !exists(k) {
        return vec![Change::RemoveSecret(arn(n), Expected::Revision(age(k - 1)))];
    }
    let mut changes = vec![
        Change::PutVersion(sealed_version(n, k)),
        Change::PutSecret(wanted(n, k), before),
        Change::PutRotation(journal(n, k), before),
    ];
    if age(k) > 2 {
        changes.push(Change::RemoveVersion(arn(n), id_of(k - 2)));
    }
    changes
}

/// Newest operation of each secret, as the parent knows them, for the child to go on from.
const NEWEST: &str = "TIDELOCK_TEST_STORE_NEWEST";

/// What the audit tells of operations, read on from where it was left.
#[derive(Default)]
struct Told {
    rows: u64,
    newest: BTreeMap<u32, u64>,
}

impl Told {
    async fn read_on(&mut self, store: &Embedded) {
        // With the last row that is known already: what comes must be chained to it.
        for row in store.audit(self.rows.saturating_sub(1), usize::MAX).await.unwrap() {
            if row.sequence <= self.rows {
                continue;
            }
            assert_eq!(row.sequence, self.rows + 1);
            self.rows = row.sequence;
            let (n, k) = row.entry.outcome.split_once(' ').unwrap();
            let k: u64 = k.parse().unwrap();
            let before = self.newest.insert(n.parse().unwrap(), k).unwrap_or(0);
            assert_eq!(k, before + 1, "the audit of secret {n} has a gap or a repetition");
        }
    }
}

/// Not a test by itself: the parent runs it as a process of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::disallowed_methods, reason = "how a parent test tells its child what to do")]
async fn a_child_that_writes_until_it_is_killed() {
    let Ok(folder) = std::env::var(CHILD_FOLDER) else { return };
    let store = open(Path::new(&folder)).await.unwrap();
    let epoch = store.raise_epoch().await.unwrap();
    let newest: BTreeMap<u32, u64> = serde_json::from_str(&std::env::var(NEWEST).unwrap()).unwrap();
    let lane = async |lane: u32| {
        for round in 1.. {
            for n in (0..SECRETS_PER_LANE).map(|n| lane * SECRETS_PER_LANE + n) {
                let k = newest.get(&n).copied().unwrap_or(0) + round;
                let audit = vec![entry(1, &format!("{n} {k}"))];
                store.commit(Batch { epoch, changes: operation(n, k), audit }).await.unwrap();
                // In one call: a line that the kill cuts short has no end, and says nothing.
                let _ = std::io::stdout().write_all(format!("\nacknowledged {n} {k} .\n").as_bytes());
            }
        }
    };
    futures::future::join_all((0..LANES).map(lane)).await;
}

/// Lets a child write and kills it after so many acknowledgements and a moment; notes what it acknowledged.
fn killed(folder: &Path, after: u64, moment: Duration, acknowledged: &mut BTreeMap<u32, u64>) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([CHILD, "--exact", "--nocapture"])
        .env(CHILD_FOLDER, folder)
        .env(NEWEST, serde_json::to_string(&acknowledged).unwrap())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (lines, said) = mpsc::channel();
    let out = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        BufReader::new(out).lines().map_while(Result::ok).for_each(|line| drop(lines.send(line)));
    });
    let mut count = 0;
    let mut note = |line: String| -> u64 {
        let words: Vec<_> = line.split(' ').collect();
        if let ["acknowledged", n, k, "."] = words[..] {
            let (n, k) = (n.parse().unwrap(), k.parse().unwrap());
            assert!(acknowledged.insert(n, k).unwrap_or(0) < k);
            count += 1;
        }
        count
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while note(said.recv_timeout(deadline - Instant::now()).expect("the child writes")) < after {}
    let end = Instant::now() + moment;
    while let Ok(line) = said.recv_timeout(end.saturating_duration_since(Instant::now())) {
        note(line);
    }
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    reader.join().unwrap();
    for line in said {
        note(line);
    }
    count
}

/// All of a secret after operation `k`, and nothing else of it.
async fn is_as_after(store: &Embedded, n: u32, k: u64) {
    let found = store.secret(&arn(n)).await.unwrap();
    assert_eq!(found, exists(k).then(|| wanted(n, k)), "secret {n} after {k}");
    let versions = store.versions(&arn(n)).await.unwrap();
    let of = if exists(k) { k - u64::from(age(k) > 1)..k + 1 } else { 0..0 };
    assert_eq!(
        versions.iter().map(|v| v.id.clone()).collect::<Vec<_>>(),
        of.clone().map(id_of).collect::<Vec<_>>()
    );
    assert_eq!(
        store.rotation(&arn(n)).await.unwrap(),
        exists(k).then(|| journal(n, k)),
        "journal {n} after {k}"
    );
    let root = RootSecret::from_bytes(&[1; 32]).unwrap();
    for k in of {
        let (arn, id) = (arn(n), id_of(k));
        let sealed = store.version(&arn, &id).await.unwrap().unwrap().sealed.unwrap();
        let place = Place { region: "local-1", arn: &arn, version: &id };
        let key = root.unwrap(sealed.wrapped_key(), &place.of_key()).unwrap();
        let opened = crate::seal::open_for_tests(place, &key, &sealed).unwrap();
        assert!(opened.expose() == value(n, k), "value {k} of secret {n}");
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_hundreds_of_kills_and_nothing_is_half_written() {
    let mut seed = [0; 8];
    SystemRandom.fill(&mut seed);
    let seed = u64::from_be_bytes(seed);
    // Shown when the test fails.
    println!("seed {seed}");
    let mut state = seed;
    let mut below = |max: u64| {
        // Knuth's linear congruence: enough to spread kills, and the same for the same seed.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % max
    };
    let bench = FolderBench::new();
    let (mut acknowledged, mut told) = (BTreeMap::new(), Told::default());
    let (mut writes, mut unacknowledged) = (0, 0);
    for round in 0..KILLS {
        let (after, moment) = (below(40), Duration::from_micros(below(4000)));
        writes += killed(bench.folder.path(), after, moment, &mut acknowledged);
        // Opening checks every MAC and every index; reading the audit checks its chain.
        let store = open(bench.folder.path()).await.unwrap();
        told.read_on(&store).await;
        for n in 0..LANES * SECRETS_PER_LANE {
            let [known, found] = [&acknowledged, &told.newest].map(|of| of.get(&n).copied().unwrap_or(0));
            assert!(
                found == known || found == known + 1,
                "seed {seed}, kill {round}: secret {n} is at {found}, acknowledged is {known}"
            );
            unacknowledged += found - known;
            is_as_after(&store, n, found).await;
            acknowledged.insert(n, found);
        }
    }
    let outcome = format!(
        "{KILLS} kills, {writes} acknowledged writes: none lost, {unacknowledged} more whole, none half"
    );
    fault("SIGKILL", "at random during writes", &outcome);
}

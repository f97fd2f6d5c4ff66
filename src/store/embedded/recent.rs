//! Records as they were read or written last, so that what is asked for often needs neither a thread nor the disk.
//! Must not give what an acknowledged commit has replaced, nor anything that was neither checked against its MAC nor
//! written by this process. It is good only because nobody else writes: the folder's lock sees to that.

use std::hash::{Hash, Hasher};
use std::mem::size_of;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quick_cache::unsync::Cache;
use quick_cache::{Equivalent, Weighter};

use crate::secret::{Arn, Name, VersionId};
use crate::store::{RotationRecord, SecretRecord, VersionRecord, VersionSummary};

/// Of each kind of record: those of thousands of programs, and little beside the server's own needs.
const BYTES_MAX: u64 = 16 * 1024 * 1024;
/// What is held for so long is read anew, so that a row which somebody changed behind the store's back is noticed.
pub(crate) const HELD_FOR: Duration = Duration::from_secs(10);
/// A guess at what is held within that.
const RECORDS: usize = 16_384;

/// What a commit did to records that may be held here.
pub(super) enum Touched {
    Secret(SecretRecord),
    SecretGone(Name, Arn),
    Version(VersionRecord),
    VersionGone(Arn, VersionId),
    Rotation(RotationRecord),
}

/// How often records had changed when a reading began. What was read before a change is not taken in after it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Generation(u64);

pub(super) struct Recent(Mutex<Records>);

struct Records {
    generation: u64,
    secrets: Cache<Name, Held<Arc<SecretRecord>>, Bytes>,
    versions: Cache<VersionKey, Held<Arc<VersionRecord>>, Bytes>,
    /// All versions of a secret, in the order in which they were written.
    histories: Cache<Arn, Held<History>, Bytes>,
    rotations: Cache<Arn, Held<Option<RotationRecord>>, Bytes>,
}

type History = Arc<Vec<VersionSummary>>;

struct Held<T> {
    record: T,
    since: Instant,
}

impl<T: Clone> Held<T> {
    fn now(record: T) -> Self {
        Self { record, since: Instant::now() }
    }

    /// The record, while it need not be read anew.
    fn fresh(&self) -> Option<T> {
        (self.since.elapsed() < HELD_FOR).then(|| self.record.clone())
    }
}

impl Recent {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Records {
            generation: 0,
            secrets: Cache::with_weighter(RECORDS, BYTES_MAX, Bytes),
            versions: Cache::with_weighter(RECORDS, BYTES_MAX, Bytes),
            histories: Cache::with_weighter(RECORDS, BYTES_MAX, Bytes),
            rotations: Cache::with_weighter(RECORDS, BYTES_MAX, Bytes),
        }))
    }

    pub(super) fn secret(&self, name: &Name) -> Option<SecretRecord> {
        let held = self.records().secrets.get(name).and_then(Held::fresh);
        held.map(Arc::unwrap_or_clone)
    }

    /// Names are unique: of those with its name, only the one that has the ARN.
    pub(super) fn secret_of(&self, arn: &Arn) -> Option<SecretRecord> {
        let held = self.records().secrets.get(arn.name()).and_then(Held::fresh);
        held.filter(|record| record.arn == *arn).map(Arc::unwrap_or_clone)
    }

    pub(super) fn version(&self, arn: &Arn, id: &VersionId) -> Option<VersionRecord> {
        let held = self.records().versions.get(&VersionNamed(arn, id)).and_then(Held::fresh);
        held.map(Arc::unwrap_or_clone)
    }

    pub(super) fn versions(&self, arn: &Arn) -> Option<History> {
        self.records().histories.get(arn).and_then(Held::fresh)
    }

    /// The inner `None`: it is known that there is none.
    pub(super) fn rotation(&self, arn: &Arn) -> Option<Option<RotationRecord>> {
        self.records().rotations.get(arn).and_then(Held::fresh)
    }

    /// To be asked for before a reading.
    pub(super) fn generation(&self) -> Generation {
        Generation(self.records().generation)
    }

    pub(super) fn read_secret(&self, began: Generation, record: &SecretRecord) {
        let mut records = self.records();
        if began == Generation(records.generation) {
            records.secrets.insert(record.name.clone(), Held::now(Arc::new(record.clone())));
        }
    }

    pub(super) fn read_version(&self, began: Generation, record: &VersionRecord) {
        let mut records = self.records();
        if began == Generation(records.generation) {
            records.hold(record.clone());
        }
    }

    pub(super) fn read_versions(&self, began: Generation, arn: &Arn, versions: &History) {
        let mut records = self.records();
        if began == Generation(records.generation) {
            records.histories.insert(arn.clone(), Held::now(Arc::clone(versions)));
        }
    }

    pub(super) fn read_rotation(&self, began: Generation, arn: &Arn, rotation: Option<&RotationRecord>) {
        let mut records = self.records();
        if began == Generation(records.generation) {
            records.rotations.insert(arn.clone(), Held::now(rotation.cloned()));
        }
    }

    /// To be told of each commit before anybody hears that it succeeded. What nobody has read is not held: thousands of
    /// secrets that are made at once would drive out those in use.
    pub(super) fn committed(&self, touched: Vec<Touched>) {
        if touched.is_empty() {
            return;
        }
        let mut records = self.records();
        records.generation += 1;
        for touched in touched {
            match touched {
                Touched::Secret(record) => records.renew_secret(record),
                Touched::SecretGone(name, arn) => {
                    records.secrets.remove(&name);
                    records.versions.retain(|key, _| key.0 != arn);
                    records.histories.remove(&arn);
                    records.rotations.remove(&arn);
                }
                Touched::Version(record) => records.renew_version(record),
                Touched::VersionGone(arn, id) => {
                    records.versions.remove(&VersionNamed(&arn, &id));
                    records.with_history(&arn, |history| history.retain(|version| version.id != id));
                }
                Touched::Rotation(record) => records.renew_rotation(record),
            }
        }
    }

    /// After a commit of which nobody knows whether it succeeded.
    pub(super) fn forget(&self) {
        let mut records = self.records();
        records.generation += 1;
        records.secrets.clear();
        records.versions.clear();
        records.histories.clear();
        records.rotations.clear();
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Records {
    fn hold(&mut self, record: VersionRecord) {
        self.versions.insert(VersionKey(record.arn.clone(), record.id.clone()), Held::now(Arc::new(record)));
    }

    fn renew_secret(&mut self, record: SecretRecord) {
        if self.secrets.contains_key(&record.name) {
            self.secrets.insert(record.name.clone(), Held::now(Arc::new(record)));
        }
    }

    fn renew_rotation(&mut self, record: RotationRecord) {
        if self.rotations.contains_key(&record.arn) {
            self.rotations.insert(record.arn.clone(), Held::now(Some(record)));
        }
    }

    /// The new version of a secret in use is what is read next. One that is filled keeps its place.
    fn renew_version(&mut self, record: VersionRecord) {
        let key = VersionNamed(&record.arn, &record.id);
        if !self.histories.contains_key(&record.arn) && !self.versions.contains_key(&key) {
            return;
        }
        let summary = VersionSummary {
            id: record.id.clone(),
            created_at: record.created_at,
            has_value: record.sealed.is_some(),
        };
        self.with_history(&record.arn, |history| {
            match history.iter_mut().find(|version| version.id == summary.id) {
                Some(there) => *there = summary,
                None => history.push(summary),
            }
        });
        self.hold(record);
    }

    /// What is not held stays so: it is read when it is needed.
    fn with_history(&mut self, arn: &Arn, change: impl FnOnce(&mut Vec<VersionSummary>)) {
        if let Some(mut history) = self.histories.get_mut(arn) {
            change(Arc::make_mut(&mut history.record));
        }
    }
}

#[derive(PartialEq, Eq)]
struct VersionKey(Arn, VersionId);

/// The same, borrowed from whoever asks.
struct VersionNamed<'a>(&'a Arn, &'a VersionId);

impl Hash for VersionKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        VersionNamed(&self.0, &self.1).hash(state);
    }
}

impl Hash for VersionNamed<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.0, self.1).hash(state);
    }
}

impl Equivalent<VersionKey> for VersionNamed<'_> {
    fn equivalent(&self, key: &VersionKey) -> bool {
        *self.0 == key.0 && *self.1 == key.1
    }
}

/// About what a record takes in memory. Each small part counts as much as a name that is long for its kind.
#[derive(Clone)]
struct Bytes;

const PART_BYTES: usize = 128;

impl Weighter<Name, Held<Arc<SecretRecord>>> for Bytes {
    fn weight(&self, _: &Name, held: &Held<Arc<SecretRecord>>) -> u64 {
        let record = &held.record;
        let tags = record.tags.iter().flatten().map(|(key, value)| key.len() + value.len() + PART_BYTES);
        let texts = 2 * record.name.as_str().len()
            + record.arn.as_str().len()
            + record.description.as_deref().map_or(0, str::len)
            + tags.sum::<usize>();
        let grants =
            record.grants.iter().map(|grant| 2 + grant.stages.len() + grant.keys.iter().flatten().count());
        let parts = record.stages.len() + record.versions_accessed_at.len() + grants.sum::<usize>() + 4;
        (size_of::<SecretRecord>() + texts + parts * PART_BYTES) as u64
    }
}

impl Weighter<VersionKey, Held<Arc<VersionRecord>>> for Bytes {
    fn weight(&self, key: &VersionKey, held: &Held<Arc<VersionRecord>>) -> u64 {
        let record = &held.record;
        let names = 2 * (key.0.as_str().len() + key.1.as_str().len());
        let sealed = record.sealed.as_ref().map_or(0, |sealed| sealed.bytes() + PART_BYTES);
        (size_of::<VersionRecord>() + names + sealed + PART_BYTES) as u64
    }
}

impl Weighter<Arn, Held<History>> for Bytes {
    fn weight(&self, arn: &Arn, held: &Held<History>) -> u64 {
        let history = &held.record;
        (2 * arn.as_str().len() + history.len() * (size_of::<VersionSummary>() + PART_BYTES) + PART_BYTES)
            as u64
    }
}

impl Weighter<Arn, Held<Option<RotationRecord>>> for Bytes {
    fn weight(&self, arn: &Arn, held: &Held<Option<RotationRecord>>) -> u64 {
        let rotation = &held.record;
        let jobs = rotation.as_ref().map_or(0, |rotation| rotation.jobs.len() * 4 + 4);
        (size_of::<RotationRecord>() + 2 * arn.as_str().len() + jobs * PART_BYTES) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract::{arn, id, name, secret, version};

    #[test]
    fn what_was_read_before_a_commit_is_not_held_after_it() {
        let recent = Recent::new();
        let began = recent.generation();
        recent.committed(vec![Touched::SecretGone(name(1), arn(1))]);
        recent.read_secret(began, &secret(1));
        recent.read_version(began, &version(1, 1));
        assert_eq!((recent.secret(&name(1)), recent.version(&arn(1), &id(1))), (None, None));

        recent.read_secret(recent.generation(), &secret(1));
        recent.read_version(recent.generation(), &version(1, 1));
        assert_eq!(recent.secret(&name(1)), Some(secret(1)));
        assert!(recent.version(&arn(1), &id(1)).is_some());
    }

    #[test]
    fn a_secret_is_held_for_its_own_arn_and_not_for_an_earlier_one_of_its_name() {
        let recent = Recent::new();
        recent.read_secret(recent.generation(), &secret(1));
        assert_eq!(recent.secret_of(&arn(1)), Some(secret(1)));
        let later = Arn::parse(&format!("{}-Later1", arn(1).without_suffix())).unwrap();
        recent.read_secret(recent.generation(), &SecretRecord { arn: later.clone(), ..secret(1) });
        assert_eq!(recent.secret_of(&arn(1)), None);
        assert_eq!(recent.secret_of(&later).map(|held| held.arn), Some(later));
    }

    #[test]
    fn after_a_commit_whose_end_is_unknown_nothing_is_held() {
        let recent = Recent::new();
        let began = recent.generation();
        recent.read_secret(began, &secret(1));
        recent.read_version(began, &version(1, 1));
        recent.forget();
        recent.read_secret(began, &secret(1));
        assert_eq!((recent.secret(&name(1)), recent.version(&arn(1), &id(1))), (None, None));
    }

    #[test]
    fn a_commit_renews_what_is_held_and_takes_in_nothing_else() {
        let recent = Recent::new();
        recent.read_secret(recent.generation(), &secret(1));
        recent.read_versions(recent.generation(), &arn(1), &History::default());
        let newer = |n| Touched::Secret(SecretRecord { revision: 7, ..secret(n) });
        let all = [1, 2].map(|n| [newer(n), Touched::Version(version(n, 1))]);
        recent.committed(all.into_iter().flatten().collect());
        assert_eq!(recent.secret(&name(1)).map(|held| held.revision), Some(7));
        assert!(recent.version(&arn(1), &id(1)).is_some_and(|held| held.sealed.is_some()));
        assert_eq!(recent.versions(&arn(1)).map(|held| held.len()), Some(1));
        assert_eq!((recent.secret(&name(2)), recent.version(&arn(2), &id(1))), (None, None));
    }

    #[test]
    fn what_is_held_is_bounded() {
        let recent = Recent::new();
        for n in 0..40_000 {
            let secret = SecretRecord { name: Name::parse(&format!("shop/{n}")).unwrap(), ..secret(1) };
            let version = VersionRecord { id: id(n), ..version(1, 1) };
            recent.read_secret(recent.generation(), &secret);
            recent.read_version(recent.generation(), &version);
        }
        let records = recent.records();
        for (held, bytes) in [
            (records.secrets.len(), records.secrets.weight()),
            (records.versions.len(), records.versions.weight()),
        ] {
            assert!(held < 40_000 && bytes > BYTES_MAX / 2 && bytes <= BYTES_MAX, "{held} in {bytes} bytes");
        }
    }
}

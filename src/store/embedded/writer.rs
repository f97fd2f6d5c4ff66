//! The one thread that writes. Batches that wait together go into one transaction, each in a savepoint of its own, and
//! share the one flush to disk at its end. Must not answer anybody before that flush.

use std::sync::Arc;
use std::thread::JoinHandle;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::apply::{Apply, installation};
use super::fault::fault;
use super::ledger::Ledger;
use super::recent::{Recent, Touched};
use super::soundness::{check, is_of};
use crate::seal::{DerivedKey, Tally};
use crate::store::{Batch, Change, InstallationState, Position, StoreError};

/// So many share one flush at most: beyond, the first would wait long for the last.
const GROUP_MAX: usize = 256;
/// So many may wait before callers have to.
pub(super) const WAITING_MAX: usize = 1024;

pub(super) enum Work {
    Commit(Batch),
    RaiseEpoch,
}

/// Work, and where its outcome goes.
pub(super) struct Job {
    pub(super) work: Work,
    pub(super) answer: oneshot::Sender<Result<Position, StoreError>>,
}

struct Writer {
    connection: Connection,
    key: Arc<DerivedKey>,
    recent: Arc<Recent>,
    /// That of all rows that are committed.
    tally: Tally,
    newest: Option<Newest>,
    /// Whether the installation is known to be ready: until then, only that is written.
    ready: bool,
}

/// Where the store stood after our own last commit, for as long as nobody else commits: then it need not be read.
struct Newest {
    /// SQLite's, which changes when another connection commits and not when ours does.
    data_version: i64,
    ledger: Ledger,
}

/// Runs until the other end of `jobs` is dropped and all its jobs are answered.
pub(super) fn start(
    connection: Connection,
    key: Arc<DerivedKey>,
    recent: Arc<Recent>,
    tally: Tally,
    mut jobs: mpsc::Receiver<Job>,
) -> Result<JoinHandle<()>, StoreError> {
    let mut writer = Writer { connection, key, recent, tally, newest: None, ready: false };
    let run = move || {
        while let Some(first) = jobs.blocking_recv() {
            let mut group = vec![first];
            while group.len() < GROUP_MAX
                && let Ok(next) = jobs.try_recv()
            {
                group.push(next);
            }
            writer.run(group);
        }
    };
    std::thread::Builder::new()
        .name("store-writer".into())
        .spawn(run)
        .map_err(|error| StoreError::Unavailable(format!("its thread cannot be started: {error}")))
}

impl Writer {
    fn run(&mut self, group: Vec<Job>) {
        let (work, answers): (Vec<_>, Vec<_>) = group.into_iter().map(|job| (job.work, job.answer)).unzip();
        let outcomes = match self.write(&work) {
            Ok(outcomes) => outcomes,
            Err(error) => {
                self.recent.forget();
                work.iter().map(|_| Err(error.clone())).collect()
            }
        };
        for (answer, outcome) in answers.into_iter().zip(outcomes) {
            // Whoever asked may have gone away meanwhile; the work is done all the same.
            let _ = answer.send(outcome);
        }
    }

    /// An error of the whole is an error of each: nothing was written.
    fn write(&mut self, group: &[Work]) -> Result<Vec<Result<Position, StoreError>>, StoreError> {
        let mut transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fault)?;
        let mut ready = self.ready || is_ready(&transaction, &self.key)?;
        let data_version = data_version(&transaction)?;
        let newest = self.newest.take().filter(|newest| newest.data_version == data_version);
        let (before, mut tally) = match newest {
            Some(Newest { ledger, .. }) => (ledger, self.tally.clone()),
            None => {
                let found = Ledger::read(&transaction, &self.key)?;
                // Somebody else with the key may have written: a newer leader, whose epoch then fences what comes from
                // here.
                let tally = match is_of(&found, &self.key, &self.tally) {
                    Ok(()) => self.tally.clone(),
                    Err(_) => check(&transaction, &self.key)?,
                };
                (found, tally)
            }
        };
        let mut ledger = before.clone();
        let mut outcomes = Vec::with_capacity(group.len());
        let mut touched = Vec::new();
        for work in group {
            let (mut next, mut next_tally) = (ledger.clone(), tally.clone());
            let outcome = match work {
                Work::RaiseEpoch => {
                    next.position.epoch.0 += 1;
                    Ok(Vec::new())
                }
                Work::Commit(batch) => allowed(batch, ready)
                    .and_then(|()| apply(&mut transaction, &self.key, &mut next, &mut next_tally, batch)),
            };
            match outcome {
                Ok(mut changed) => {
                    touched.append(&mut changed);
                    outcomes.push(Ok(next.position));
                    (ledger, tally) = (next, next_tally);
                    ready = ready || makes_ready(work);
                }
                // These are the batch's own affair: what it did is taken back.
                Err(
                    error @ (StoreError::Conflict
                    | StoreError::Fenced
                    | StoreError::Tampered { .. }
                    | StoreError::OtherInstallation(_)
                    | StoreError::Initialising),
                ) => outcomes.push(Err(error)),
                Err(error) => return Err(error),
            }
        }
        if ledger != before {
            ledger.write(&transaction, &self.key, &tally)?;
        }
        transaction.commit().map_err(fault)?;
        self.recent.committed(touched);
        (self.ready, self.tally) = (ready, tally);
        self.newest = Some(Newest { data_version, ledger });
        Ok(outcomes)
    }
}

/// One batch in a savepoint of its own, which takes back what it did when it fails.
fn apply(
    transaction: &mut Transaction<'_>,
    key: &DerivedKey,
    ledger: &mut Ledger,
    tally: &mut Tally,
    batch: &Batch,
) -> Result<Vec<Touched>, StoreError> {
    // Where one row of the audit is all, nothing is there when it fails.
    if batch.changes.is_empty() && batch.audit.len() <= 1 {
        return Apply::new(transaction, key, ledger, tally).batch(batch);
    }
    let savepoint = transaction.savepoint().map_err(fault)?;
    let changed = Apply::new(&savepoint, key, ledger, tally).batch(batch)?;
    savepoint.commit().map_err(fault)?;
    Ok(changed)
}

fn data_version(connection: &Connection) -> Result<i64, StoreError> {
    let mut asked = connection.prepare_cached("PRAGMA data_version").map_err(fault)?;
    asked.query_row([], |row| row.get(0)).map_err(fault)
}

fn is_ready(connection: &Connection, key: &DerivedKey) -> Result<bool, StoreError> {
    Ok(installation(connection, key)?.is_some_and(|record| record.state == InstallationState::Ready))
}

fn makes_ready(work: &Work) -> bool {
    let Work::Commit(batch) = work else { return false };
    batch.changes.iter().any(writes_ready)
}

/// A store whose first start is not over holds nothing, so that a start can tell it from one that was tampered with.
fn allowed(batch: &Batch, ready: bool) -> Result<(), StoreError> {
    if ready || batch.changes.first().is_some_and(writes_ready) {
        Ok(())
    } else {
        Err(StoreError::Initialising)
    }
}

fn writes_ready(change: &Change) -> bool {
    matches!(change, Change::PutInstallation(record) if record.state == InstallationState::Ready)
}

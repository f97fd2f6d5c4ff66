//! The store that a user would write: the same rows in SQLite with the same settings, one thread that writes what waits
//! in one transaction, four connections that read. No MACs, no tally, no chain, nothing checked. Must not use Tidelock's.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, anyhow, ensure};
use rusqlite::{Connection, params};
use tokio::sync::{Semaphore, mpsc, oneshot};

const SCHEMA: &str = "
CREATE TABLE secret (
  name TEXT PRIMARY KEY, arn TEXT NOT NULL UNIQUE, revision INTEGER NOT NULL, record TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE version (
  number INTEGER PRIMARY KEY, arn TEXT NOT NULL, id TEXT NOT NULL, created_at TEXT NOT NULL, kind TEXT NOT NULL,
  sealed BLOB, UNIQUE (arn, id)) STRICT;
CREATE TABLE audit (
  sequence INTEGER PRIMARY KEY, at TEXT NOT NULL, who TEXT NOT NULL, verb TEXT NOT NULL, secret TEXT, version TEXT,
  pod TEXT, outcome TEXT NOT NULL) STRICT;
";
/// As `src/store/embedded/folder.rs` has them.
const SETTINGS: &str =
    "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY;";
const WRITER: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; PRAGMA journal_size_limit = 16777216;";
/// As `src/store/embedded/writer.rs` and `readers.rs` have them.
const GROUP_MAX: usize = 256;
const WAITING_MAX: usize = 1024;
const READERS: usize = 4;

/// A new version of a secret that becomes the current one, and who did it.
pub struct Write {
    pub name: String,
    pub arn: String,
    pub expected: u64,
    pub record: String,
    pub version: String,
    pub at: String,
    pub sealed: Vec<u8>,
    pub who: String,
    pub pod: String,
}

struct Job {
    write: Write,
    answer: oneshot::Sender<Result<()>>,
}

pub struct Plain {
    jobs: mpsc::Sender<Job>,
    file: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

impl Plain {
    pub fn open(folder: &Path) -> Result<Arc<Self>> {
        let file = folder.join("plain.db");
        let connection = connect(&file)?;
        connection.execute_batch(WRITER)?;
        connection.execute_batch(SCHEMA)?;
        let (jobs, waiting) = mpsc::channel(WAITING_MAX);
        std::thread::Builder::new()
            .name("plain-writer".into())
            .spawn(move || write_all(connection, waiting))?;
        let permits = Arc::new(Semaphore::new(READERS));
        Ok(Arc::new(Self { jobs, file, idle: Mutex::default(), permits }))
    }

    pub async fn write(&self, write: Write) -> Result<()> {
        let (answer, outcome) = oneshot::channel();
        self.jobs.send(Job { write, answer }).await.map_err(|_| anyhow!("the writer has ended"))?;
        outcome.await?
    }

    pub async fn secret(self: &Arc<Self>, name: String) -> Result<(String, String)> {
        self.read(move |connection| {
            let sql = "SELECT arn, revision, record FROM secret WHERE name = ?1";
            let row = connection.prepare_cached(sql)?.query_row([name], |row| {
                row.get::<_, i64>(1)?;
                Ok((row.get(0)?, row.get(2)?))
            });
            Ok(row?)
        })
        .await
    }

    pub async fn version(self: &Arc<Self>, arn: String, id: String) -> Result<Vec<u8>> {
        self.read(move |connection| {
            let sql = "SELECT created_at, kind, sealed FROM version WHERE arn = ?1 AND id = ?2";
            let row = connection.prepare_cached(sql)?.query_row([arn, id], |row| {
                row.get::<_, String>(0)?;
                row.get::<_, String>(1)?;
                row.get(2)
            });
            Ok(row?)
        })
        .await
    }

    async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let permit = Arc::clone(&self.permits).acquire_owned().await?;
        let plain = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let idle = plain.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = idle.map_or_else(|| connect(&plain.file), Ok)?;
            let outcome = read(&connection);
            plain.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            outcome
        })
        .await?
    }
}

fn connect(file: &Path) -> Result<Connection> {
    let connection = Connection::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.execute_batch(SETTINGS)?;
    Ok(connection)
}

fn write_all(mut connection: Connection, mut waiting: mpsc::Receiver<Job>) {
    while let Some(first) = waiting.blocking_recv() {
        let mut group = vec![first];
        while group.len() < GROUP_MAX
            && let Ok(next) = waiting.try_recv()
        {
            group.push(next);
        }
        let written = write_group(&mut connection, &group).map_err(|error| format!("{error:#}"));
        for job in group {
            // Whoever asked may have gone away meanwhile.
            let _ = job.answer.send(written.clone().map_err(anyhow::Error::msg));
        }
    }
}

fn write_group(connection: &mut Connection, group: &[Job]) -> Result<()> {
    let transaction = connection.transaction()?;
    for Job { write, .. } in group {
        let Write { name, arn, expected, record, version, at, sealed, who, pod } = write;
        let expected = i64::try_from(*expected)?;
        transaction
            .prepare_cached(
                "INSERT INTO version (arn, id, created_at, kind, sealed) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![arn, version, at, "string", sealed])?;
        let changed = match expected {
            0 => transaction
                .prepare_cached("INSERT INTO secret (name, arn, revision, record) VALUES (?1, ?2, 1, ?3)")?
                .execute(params![name, arn, record])?,
            _ => transaction
                .prepare_cached(
                    "UPDATE secret SET revision = ?3 + 1, record = ?2 WHERE name = ?1 AND revision = ?3",
                )?
                .execute(params![name, record, expected])?,
        };
        ensure!(changed == 1, "{name} is at another revision than {expected}");
        transaction
            .prepare_cached(
                "INSERT INTO audit (at, who, verb, secret, version, pod, outcome) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![at, who, "put", arn, version, pod, "done"])?;
    }
    transaction.commit()?;
    Ok(())
}

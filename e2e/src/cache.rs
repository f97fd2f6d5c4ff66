//! Where built things are kept between runs, and who may write there at one time.
//! Everything lies outside the clone, keyed by what it was made from; nothing here knows what it holds.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};

/// The cache folder: `$TIDELOCK_CACHE`, else the user's cache folder's `tidelock`.
#[expect(clippy::disallowed_methods, reason = "the test environment is configured by the environment")]
pub fn folder() -> Result<PathBuf> {
    let folder = match (std::env::var_os("TIDELOCK_CACHE"), std::env::var_os("XDG_CACHE_HOME")) {
        (Some(own), _) => PathBuf::from(own),
        (None, Some(users)) => PathBuf::from(users).join("tidelock"),
        (None, None) => {
            let home = std::env::var_os("HOME").context("neither TIDELOCK_CACHE nor HOME is set")?;
            PathBuf::from(home).join(".cache/tidelock")
        }
    };
    fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make the cache folder {}", folder.display()))?;
    Ok(folder)
}

/// Where running clusters keep their state: short-lived, and on a real file system rather than in the clone.
pub fn state_folder() -> Result<PathBuf> {
    let folder = std::env::temp_dir().join("tidelock-clusters");
    fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make the state folder {}", folder.display()))?;
    Ok(folder)
}

/// Holds an exclusive lock on a file until dropped; the kernel drops it with the process.
pub(crate) struct Lock(#[expect(dead_code, reason = "held, never read")] File);

/// Waits for the lock of this name, saying so when it has to.
pub(crate) async fn lock(name: &str) -> Result<Lock> {
    let path = folder()?.join(format!("{name}.lock"));
    let file = open_lock_file(&path)?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
        return Ok(Lock(file));
    }
    crate::progress::note(&format!("waiting for another run that holds {}", path.display()));
    let file =
        tokio::task::spawn_blocking(move || flock(&file, FlockOperation::LockExclusive).map(|()| file))
            .await?
            .with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(Lock(file))
}

pub(crate) fn open_lock_file(path: &Path) -> Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
        .with_context(|| format!("cannot open the lock file {}", path.display()))
}

/// A name for content: FNV-1a of 64 bits. It tells versions of our own inputs apart; it guards against nobody.
#[derive(Clone, Copy)]
pub(crate) struct Key(u64);

impl Key {
    pub(crate) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self
    }

    /// Parts are set apart, so that `ab` + `c` is not `a` + `bc`.
    pub(crate) fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes()).bytes(&[0])
    }

    pub(crate) fn file(self, path: &Path) -> Result<Self> {
        let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut key = self;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let count = file.read(&mut buffer).with_context(|| format!("cannot read {}", path.display()))?;
            if count == 0 {
                return Ok(key);
            }
            key = key.bytes(&buffer[..count]);
        }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Makes `folder` whole or not at all: `build` fills a neighbour that then takes its name.
pub(crate) async fn fill(folder: &Path, build: impl AsyncFnOnce(PathBuf) -> Result<()>) -> Result<()> {
    if folder.exists() {
        return Ok(());
    }
    let partial = folder.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial).with_context(|| format!("cannot clear {}", partial.display()))?;
    }
    fs::create_dir_all(&partial).with_context(|| format!("cannot make {}", partial.display()))?;
    build(partial.clone()).await?;
    fs::rename(&partial, folder).with_context(|| format!("cannot move {} into place", partial.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_contents_and_their_borders_apart() {
        let of = |parts: &[&str]| parts.iter().fold(Key::new(), |key, part| key.text(part)).to_string();
        assert_eq!(of(&["ab", "c"]), of(&["ab", "c"]));
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_eq!(
            Key::new().bytes(b"foobar").to_string(),
            "85944171f73967e8",
            "the published FNV-1a test vector"
        );
    }

    #[tokio::test]
    async fn a_build_that_fails_leaves_no_folder_behind() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("thing");
        let failed = fill(&folder, async |partial| {
            fs::write(partial.join("half"), "x")?;
            anyhow::bail!("broken")
        })
        .await;
        assert!(failed.is_err());
        assert!(!folder.exists());
        fill(&folder, async |partial| Ok(fs::write(partial.join("whole"), "x")?)).await.unwrap();
        assert!(folder.join("whole").exists());
        assert!(!folder.join("half").exists());
    }
}

//! Sees from the host when files in pods change, without a process in any pod and without reading anything again and
//! again: the kernel tells of each rename in a directory (inotify).
//!
//! kubelet and Tidelock change the files of a volume alike, by renaming a link over `..data`: that instant is what
//! counts. Must not change anything on the node.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// Room for many events at once: a name is short, and a hundred come together.
const BUFFER_BYTES: usize = 64 * 1024;

/// Directories, and the name in them that counts when something is renamed to it.
pub(super) struct Swaps {
    inotify: Arc<OwnedFd>,
    watched: Vec<(i32, PathBuf)>,
    told: mpsc::UnboundedReceiver<io::Result<(i32, Instant)>>,
}

/// What was renamed into its place in a directory, and when this process was told.
pub(super) struct Swap {
    pub(super) folder: PathBuf,
    pub(super) at: Instant,
}

impl Swaps {
    pub(super) fn of(name: &'static CStr, folders: impl IntoIterator<Item = PathBuf>) -> Result<Self> {
        let inotify = Arc::new(inotify::init(CreateFlags::CLOEXEC)?);
        let mut watched = Vec::new();
        for folder in folders {
            let number = inotify::add_watch(&inotify, &folder, WatchFlags::MOVED_TO)
                .with_context(|| format!("cannot watch {}", folder.display()))?;
            watched.push((number, folder));
        }
        let (tell, told) = mpsc::unbounded_channel();
        let listened = Arc::clone(&inotify);
        // A thread that does nothing else, so that what it is told has its time at once.
        std::thread::Builder::new().name("swaps".into()).spawn(move || listen(&listened, name, &tell))?;
        Ok(Self { inotify, watched, told })
    }

    /// The next one, as soon as there is one.
    pub(super) async fn next(&mut self) -> Result<Swap> {
        let (number, at) = self.told.recv().await.context("nobody tells of changes any more")??;
        let folder = self.watched.iter().find(|(watched, _)| *watched == number);
        let (_, folder) = folder.context("a change in a folder that is not watched")?;
        Ok(Swap { folder: folder.clone(), at })
    }

    /// How long after `begun` each directory changed, once all have. `proved` says whether it holds what was written.
    pub(super) async fn all(
        &mut self,
        begun: Instant,
        within: Duration,
        proved: impl Fn(&Path) -> bool,
    ) -> Result<Vec<Duration>> {
        let mut took: Vec<Option<Duration>> = vec![None; self.watched.len()];
        let end = begun + within;
        while took.iter().any(Option::is_none) {
            let missing = took.iter().filter(|took| took.is_none()).count();
            let Ok(swap) = timeout_at(end, self.next()).await else {
                bail!("{missing} of {} volumes did not change within {within:?}", took.len());
            };
            let swap = swap?;
            if let Some(place) = self.watched.iter().position(|(_, folder)| *folder == swap.folder)
                && proved(&swap.folder)
            {
                took[place].get_or_insert(swap.at.duration_since(begun));
            }
        }
        Ok(took.into_iter().flatten().collect())
    }
}

impl Drop for Swaps {
    /// The end of a watch is an event too, and the thread's last.
    fn drop(&mut self) {
        for (number, _) in &self.watched {
            let _ = inotify::remove_watch(&self.inotify, *number);
        }
    }
}

fn listen(inotify: &OwnedFd, name: &CStr, tell: &mpsc::UnboundedSender<io::Result<(i32, Instant)>>) {
    let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
    let mut events = inotify::Reader::new(inotify, &mut buffer);
    loop {
        let told = match events.next() {
            Ok(event) if event.events().contains(ReadFlags::IGNORED) => return,
            Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => {
                Err(io::Error::other("more changed at once than the kernel notes"))
            }
            Ok(event) if event.file_name() == Some(name) => Ok((event.wd(), Instant::now())),
            Ok(_) => continue,
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => Err(error.into()),
        };
        let failed = told.is_err();
        if tell.send(told).is_err() || failed {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_folder_counts_from_its_own_rename_that_is_proved() {
        let folder = tempfile::tempdir().unwrap();
        let places = ["a", "b"].map(|name| folder.path().join(name));
        places.iter().for_each(|place| std::fs::create_dir(place).unwrap());
        let mut swaps = Swaps::of(c"..data", places.clone()).unwrap();
        let begun = Instant::now();
        for place in &places {
            std::fs::write(place.join("next"), "new").unwrap();
            std::fs::rename(place.join("next"), place.join("..data")).unwrap();
        }
        let new = |place: &Path| std::fs::read_to_string(place.join("..data")).unwrap() == "new";
        assert_eq!(swaps.all(begun, Duration::from_secs(30), new).await.unwrap().len(), 2);
        std::fs::write(places[0].join("other"), "").unwrap();
        let error = swaps.all(begun, Duration::from_millis(100), new).await.unwrap_err().to_string();
        assert!(error.starts_with("2 of 2 volumes"), "{error}");
    }
}

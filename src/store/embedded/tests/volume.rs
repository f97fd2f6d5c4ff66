//! Volumes for tests of what a disk can do to a store, and the lines of the table of faults.

use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

/// One line of the table that `.ci/test` prints at its end.
pub fn fault(what: &str, moment: &str, outcome: &str) {
    // Not `println`: what a test that passes prints there is not shown.
    let _ = writeln!(std::io::stdout(), "\nfault: {what:<34} | {moment:<34} | {outcome}");
}

/// A small volume in memory, gone when dropped. Needs root.
pub struct Volume {
    folder: tempfile::TempDir,
}

/// Keeps a volume full until dropped.
pub struct Filler(PathBuf);

impl Volume {
    pub fn mounted(mebibytes: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let size = std::ffi::CString::new(format!("size={mebibytes}m")).unwrap();
        mount("tmpfs", folder.path(), "tmpfs", MountFlags::empty(), Some(size.as_c_str())).unwrap();
        Self { folder }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Takes all the room that is left.
    pub fn fill(&self) -> Filler {
        let path = self.path().join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        Filler(path)
    }

    pub fn make_read_only(&self) {
        mount_remount(self.path(), MountFlags::RDONLY, "").unwrap();
    }

    pub fn make_writable(&self) {
        mount_remount(self.path(), MountFlags::empty(), "").unwrap();
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = unmount(self.path(), UnmountFlags::DETACH);
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

//! The power fails: what the disk has is what was flushed, and nothing else. Needs root and a loop device.

use std::process::Command;

use super::*;

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
}

/// A disk of its own: what is written to its file system reaches the image only when it is flushed.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    fn formatted() -> Self {
        let disk = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::File::create(disk.path("image")).unwrap().set_len(24 << 20).unwrap();
        run("mkfs.ext4", &["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", &disk.text("image")]);
        std::fs::create_dir(disk.path("disk")).unwrap();
        // The file system must flush nothing on its own before a test has looked.
        run("mount", &["-o", "loop,commit=300", &disk.text("image"), &disk.text("disk")]);
        disk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// What another machine would find on the disk at this moment.
    fn as_after_a_power_cut(&self) -> Self {
        let other = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::copy(self.path("image"), other.path("image")).unwrap();
        std::fs::create_dir(other.path("disk")).unwrap();
        run("mount", &["-o", "loop", &other.text("image"), &other.text("disk")]);
        other
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path("disk")).output();
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_on_the_disk_when_the_power_fails() {
    let disk = Disk::formatted();
    let store = open(&disk.path("disk")).await.unwrap();
    let epoch = store.raise_epoch().await.unwrap();
    for n in 0..8 {
        let changes = vec![Change::PutSecret(secret(n), Expected::Absent), Change::PutVersion(version(n, 1))];
        let audit = vec![entry(1, &n.to_string())];
        let position = store.commit(Batch { epoch, changes, audit }).await.unwrap();
        let later = disk.as_after_a_power_cut();
        let found = open(&later.path("disk")).await.unwrap();
        assert_eq!(found.position().await.unwrap(), position, "commit {n}");
        for n in 0..=n {
            assert!(found.version(&arn(n), &id(1)).await.unwrap().is_some(), "secret {n}");
        }
    }
    fault("power cut", "after an acknowledged write", "it is there");
}

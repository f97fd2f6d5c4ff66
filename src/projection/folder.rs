//! A directory held by its descriptor, and the few things done in it. Every lookup stays beneath the descriptor and
//! refuses symbolic links, so that nothing planted in a volume can lead outside of it.
//! Must not know the layout of a volume.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

use super::ProjectionError;
use crate::failpoint;

/// What a directory holds under one name.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    Folder,
    /// A symbolic link and what it says; never followed.
    Link(String),
    Other,
}

impl Kind {
    /// What it is, for a message about something that is not ours.
    pub(super) fn told(&self) -> &'static str {
        match self {
            Kind::Folder => "it is a folder",
            Kind::Link(_) => "it is a link to somewhere else",
            Kind::Other => "it is a file of its own",
        }
    }
}

pub(super) struct Folder<'a>(BorrowedFd<'a>);

impl<'a> Folder<'a> {
    pub(super) fn new(descriptor: BorrowedFd<'a>) -> Folder<'a> {
        Folder(descriptor)
    }

    pub(super) fn entries(&self) -> Result<Vec<Entry>, ProjectionError> {
        let doing = "reading the volume's folder";
        let mut entries = Vec::new();
        for entry in fs::Dir::read_from(self.0).map_err(failed(doing))? {
            let entry = entry.map_err(failed(doing))?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = fs::statat(self.0, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed(doing))?;
            let kind = match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => Kind::Folder,
                FileType::Symlink => {
                    let target = fs::readlinkat(self.0, name, Vec::new()).map_err(failed(doing))?;
                    Kind::Link(target.to_string_lossy().into_owned())
                }
                _ => Kind::Other,
            };
            entries.push(Entry { name: name.to_string_lossy().into_owned(), kind });
        }
        Ok(entries)
    }

    pub(super) fn open_folder(&self, name: &str) -> Result<OwnedFd, ProjectionError> {
        self.open(name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
            .map_err(failed("opening a folder of the volume"))
    }

    /// Makes a folder that nobody else can enter yet; `false` when the name is taken.
    pub(super) fn make_folder(&self, name: &str) -> Result<bool, ProjectionError> {
        match fs::mkdirat(self.0, name, Mode::RWXU) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(failed("making a folder in the volume")(error)),
        }
    }

    /// Writes a new file. It is readable by nobody else before its content, mode and owner are what they should be.
    pub(super) fn write_file(
        &self,
        name: &str,
        content: &[u8],
        mode: u32,
        owner: Option<u32>,
        group: Option<u32>,
    ) -> Result<(), ProjectionError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let descriptor = self.open(name, flags, Mode::WUSR).map_err(failed("making a file in the volume"))?;
        let mut file = File::from(descriptor);
        file.write_all(content).map_err(|error| io_failed("writing a file in the volume", error))?;
        set_access(file.as_fd(), mode, owner, group)
    }

    /// Replaces whatever link has the name.
    pub(super) fn link(&self, target: &str, name: &str) -> Result<(), ProjectionError> {
        fs::symlinkat(target, self.0, name).map_err(failed("making a link in the volume"))
    }

    pub(super) fn rename(&self, from: &str, to: &str) -> Result<(), ProjectionError> {
        fs::renameat(self.0, from, self.0, to).map_err(failed("swapping the files of the volume"))
    }

    pub(super) fn remove_link(&self, name: &str) -> Result<(), ProjectionError> {
        match fs::unlinkat(self.0, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(failed("removing a link of the volume")(error)),
        }
    }

    /// Removes a folder with the files in it. A folder that somebody else made in it goes only when it is empty; otherwise
    /// it stays, and so does the folder around it, without any of its files.
    pub(super) fn remove_folder(&self, name: &str) -> Result<(), ProjectionError> {
        let doing = "removing a former folder of the volume";
        let inner = self.open_folder(name)?;
        for entry in Folder::new(inner.as_fd()).entries()? {
            let removed = match entry.kind {
                Kind::Folder => remove_empty(inner.as_fd(), &entry.name),
                Kind::Link(_) | Kind::Other => fs::unlinkat(&inner, entry.name.as_str(), AtFlags::empty()),
            };
            removed.map_err(failed(doing))?;
        }
        remove_empty(self.0, name).map_err(failed(doing))
    }

    fn open(&self, name: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        if !failpoint::guard("beneath-only") {
            return fs::openat(self.0, name, flags | OFlags::CLOEXEC, mode);
        }
        fs::openat2(self.0, name, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, mode, resolve)
    }
}

fn remove_empty(folder: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    match fs::unlinkat(folder, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY) => Ok(()),
        other => other,
    }
}

/// The mode first: who gives a file away without CAP_FOWNER cannot change its mode afterwards.
pub(super) fn set_access(
    descriptor: BorrowedFd<'_>,
    mode: u32,
    owner: Option<u32>,
    group: Option<u32>,
) -> Result<(), ProjectionError> {
    fs::fchmod(descriptor, Mode::from_raw_mode(mode)).map_err(failed("setting the mode of a file"))?;
    if owner.is_none() && group.is_none() {
        return Ok(());
    }
    fs::fchown(descriptor, owner.map(Uid::from_raw), group.map(Gid::from_raw))
        .map_err(failed("setting the owner of a file"))
}

fn failed(doing: &'static str) -> impl FnOnce(Errno) -> ProjectionError {
    move |error| io_failed(doing, error.into())
}

fn io_failed(doing: &'static str, source: io::Error) -> ProjectionError {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ProjectionError::Full,
        _ => ProjectionError::Io { doing, source },
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn no_lookup_leaves_the_folder_or_follows_a_link() {
        let outside = tempfile::tempdir().unwrap();
        let volume = tempfile::tempdir().unwrap();
        std::fs::create_dir(volume.path().join("inner")).unwrap();
        symlink(outside.path(), volume.path().join("planted")).unwrap();
        symlink("inner", volume.path().join("alias")).unwrap();
        let held = File::open(volume.path()).unwrap();
        let folder = Folder::new(held.as_fd());
        assert!(folder.open_folder("inner").is_ok());
        let above = format!("../{}", outside.path().file_name().unwrap().to_string_lossy());
        for way_out in ["planted", "alias", "..", above.as_str(), outside.path().to_str().unwrap()] {
            assert!(folder.open_folder(way_out).is_err(), "{way_out} was opened");
            let file = format!("{way_out}/file");
            assert!(folder.write_file(&file, b"x", 0o444, None, None).is_err(), "{file} was written");
        }
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}

//! Mounting and unmounting, by directory descriptor from kubelet's own directory downwards.
//! Must not act on anything but the mount point of a CSI volume of a pod, nor follow a symbolic link on the way.

use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use super::mountinfo::{self, MountEntry};
use super::protocol::{Mounted, Reason};
use crate::node::target::{MOUNT_FOLDER, Target};

/// What a volume may take at most, whatever the agent asks for.
const BYTES_MAX: u64 = 8 * 1024 * 1024;
const INODES_MAX: u64 = 4096;
/// A volume is mounted once; more than this and something else is going on.
const STACKED_MAX: usize = 8;
/// `STATX_MNT_ID_UNIQUE` of linux/stat.h, which rustix does not name yet.
const MOUNT_ID_UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);
const FLAGS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("{0}")]
    Refused(String),
    #[error("nothing of ours is mounted at the volume's target path")]
    NotMounted,
    #[error("{doing} failed: {source}")]
    Failed { doing: &'static str, source: io::Error },
}

impl MountError {
    pub fn reason(&self) -> Reason {
        match self {
            MountError::Refused(_) => Reason::Refused,
            MountError::NotMounted => Reason::NotMounted,
            MountError::Failed { .. } => Reason::Failed,
        }
    }
}

/// The caps of a volume.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub bytes: u64,
    pub inodes: u64,
}

impl Size {
    fn checked(self) -> Result<Size, MountError> {
        let is_fit = |asked: u64, max: u64| (1..=max).contains(&asked);
        if is_fit(self.bytes, BYTES_MAX) && is_fit(self.inodes, INODES_MAX) {
            return Ok(self);
        }
        Err(MountError::Refused(format!(
            "a volume takes 1 to {BYTES_MAX} bytes and 1 to {INODES_MAX} inodes, not {} and {}",
            self.bytes, self.inodes
        )))
    }
}

pub struct Mounts {
    kubelet: PathBuf,
    /// The source that our mounts carry in the kernel's table.
    source: String,
    /// Mounts that were found to be ours, by the volume's mount id. The kernel's table has hundreds of long lines on a
    /// busy node: with a hundred volumes to change at once, reading it for each of them takes most of the time.
    known: HashMap<String, Known>,
}

/// A mount of ours, as it was found in the kernel's table.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// Linux 6.8 and later give it to no other mount before the next boot. Older ones have no such number, and there
    /// the table is read each time.
    id: u64,
    has_noswap: bool,
}

impl Mounts {
    pub fn new(kubelet: PathBuf, source: String) -> Mounts {
        Mounts { kubelet, source, known: HashMap::new() }
    }

    pub fn target(&self, path: &str) -> Result<Target, MountError> {
        Target::parse(&self.kubelet, path).map_err(|error| MountError::Refused(error.to_string()))
    }

    /// Mounts, unless done before; in either case what is there is handed over.
    pub fn mount(&mut self, target: &Target, group: Option<u32>, size: Size) -> Result<OwnedFd, MountError> {
        let size = size.checked()?;
        if let Some(entry) = self.entry(target)? {
            return self.hand_over(target, &entry, size);
        }
        let parent = self.open_parent(target)?;
        match rustix::fs::mkdirat(&parent, MOUNT_FOLDER, Mode::from_raw_mode(0o750)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed("making the mount point")(error)),
        }
        let point = open_beneath(parent.as_fd(), Path::new(MOUNT_FOLDER), OFlags::PATH)
            .map_err(failed("opening the mount point"))?;
        let access = match group {
            Some(group) => format!("mode=2750,gid={group}"),
            None => "mode=0755".to_owned(),
        };
        let options = format!("{access},{}", size_options(size));
        // noswap is known from Linux 6.4 on.
        match self.mount_at(point.as_fd(), &format!("{options},noswap")) {
            Err(Errno::INVAL) => {
                if is_swap_on() {
                    tracing::warn!("values may be written to swap: turn it off, or run Linux 6.4 or later");
                }
                self.mount_at(point.as_fd(), &options)
            }
            other => other,
        }
        .map_err(failed("mounting a tmpfs"))?;
        let entry = self.entry(target)?.ok_or(MountError::NotMounted)?;
        tracing::info!(pod_uid = target.pod_uid(), volume = target.volume(), "mounted");
        self.hand_over(target, &entry, size)
    }

    /// Hands over what is mounted.
    pub fn open(&mut self, target: &Target, size: Size) -> Result<OwnedFd, MountError> {
        let size = size.checked()?;
        if let Some((folder, known)) = self.known_folder(target) {
            return enlarged(folder, known.has_noswap, size);
        }
        let entry = self.entry(target)?.ok_or(MountError::NotMounted)?;
        self.hand_over(target, &entry, size)
    }

    /// Unmounts and removes the mount point. A reader that still has a file open keeps it until it closes it.
    pub fn unmount(&mut self, target: &Target) -> Result<(), MountError> {
        self.known.remove(&target.mount_id());
        let parent = match self.open_parent(target) {
            Err(MountError::Failed { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(());
            }
            other => other?,
        };
        for _ in 0..STACKED_MAX {
            if self.entry(target)?.is_none() {
                break;
            }
            let mounted = open_beneath(parent.as_fd(), Path::new(MOUNT_FOLDER), OFlags::PATH)
                .map_err(failed("opening the mount"))?;
            rustix::mount::unmount(through(mounted.as_fd()), UnmountFlags::DETACH)
                .map_err(failed("unmounting"))?;
            tracing::info!(pod_uid = target.pod_uid(), volume = target.volume(), "unmounted");
        }
        match rustix::fs::unlinkat(&parent, MOUNT_FOLDER, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(failed("removing the mount point")(error)),
        }
    }

    pub fn list(&self) -> Result<Vec<Mounted>, MountError> {
        let mut mounted: Vec<Mounted> = Vec::new();
        for entry in self.table()? {
            let is_known = mounted.iter().any(|known| known.target_path == entry.mount_point);
            if self.is_ours(&entry) && !is_known && self.target(&entry.mount_point).is_ok() {
                let group = entry.option("gid").and_then(|gid| gid.parse().ok());
                mounted.push(Mounted { target_path: entry.mount_point, group });
            }
        }
        Ok(mounted)
    }

    fn mount_at(&self, point: BorrowedFd<'_>, options: &str) -> Result<(), Errno> {
        let options = CString::new(options).map_err(|_| Errno::INVAL)?;
        rustix::mount::mount(self.source.as_str(), through(point), "tmpfs", FLAGS, options.as_c_str())
    }

    /// Opens the mounted directory, after making it large enough, and keeps in mind that it is ours.
    fn hand_over(&mut self, target: &Target, entry: &MountEntry, size: Size) -> Result<OwnedFd, MountError> {
        let folder = self.open_folder(target)?;
        if mount_number(&folder, StatxFlags::MNT_ID) != Some(entry.id) {
            return Err(MountError::Refused(
                "what is mounted at the volume's target path changes".to_owned(),
            ));
        }
        let has_noswap = entry.has_flag("noswap");
        if let Some(id) = mount_number(&folder, MOUNT_ID_UNIQUE) {
            self.known.insert(target.mount_id(), Known { id, has_noswap });
        }
        enlarged(folder, has_noswap, size)
    }

    /// What is mounted at the target, if that is the very mount which was found to be ours before.
    fn known_folder(&self, target: &Target) -> Option<(OwnedFd, Known)> {
        let known = *self.known.get(&target.mount_id())?;
        let folder = self.open_folder(target).ok()?;
        (mount_number(&folder, MOUNT_ID_UNIQUE) == Some(known.id)).then_some((folder, known))
    }

    fn open_folder(&self, target: &Target) -> Result<OwnedFd, MountError> {
        let parent = self.open_parent(target)?;
        open_beneath(parent.as_fd(), Path::new(MOUNT_FOLDER), OFlags::RDONLY)
            .map_err(failed("opening the mount"))
    }

    /// The last mount of ours at the target, when there is one.
    fn entry(&self, target: &Target) -> Result<Option<MountEntry>, MountError> {
        let path = target.path(&self.kubelet);
        let Some(last) = self.table()?.into_iter().rfind(|entry| Path::new(&entry.mount_point) == path)
        else {
            return Ok(None);
        };
        if self.is_ours(&last) {
            return Ok(Some(last));
        }
        Err(MountError::Refused(format!(
            "a {} that is not ours is mounted at {}",
            last.file_system,
            path.display()
        )))
    }

    fn table(&self) -> Result<Vec<MountEntry>, MountError> {
        let text = std::fs::read_to_string("/proc/self/mountinfo")
            .map_err(|source| MountError::Failed { doing: "reading the table of mounts", source })?;
        Ok(mountinfo::parse(&text).collect())
    }

    fn is_ours(&self, entry: &MountEntry) -> bool {
        entry.file_system == "tmpfs" && entry.source == self.source
    }

    fn open_parent(&self, target: &Target) -> Result<OwnedFd, MountError> {
        let kubelet = rustix::fs::open(
            &self.kubelet,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(failed("opening kubelet's directory"))?;
        open_beneath(kubelet.as_fd(), &target.folder(), OFlags::PATH)
            .map_err(failed("opening the volume's folder"))
    }
}

/// The table has a headline.
fn is_swap_on() -> bool {
    std::fs::read_to_string("/proc/swaps").is_ok_and(|table| table.lines().count() > 1)
}

/// The kernel's number of the mount that a descriptor lies in, if it gives the asked kind of number.
fn mount_number(folder: &OwnedFd, kind: StatxFlags) -> Option<u64> {
    let found = rustix::fs::statx(folder, "", AtFlags::EMPTY_PATH, kind).ok()?;
    (found.stx_mask & kind.bits() != 0).then_some(found.stx_mnt_id)
}

/// Makes the tmpfs as large as asked; never smaller, for what is there must keep its room.
fn enlarged(folder: OwnedFd, has_noswap: bool, size: Size) -> Result<OwnedFd, MountError> {
    let now = rustix::fs::fstatvfs(&folder).map_err(failed("measuring the mount"))?;
    let wanted =
        Size { bytes: size.bytes.max(now.f_blocks * now.f_frsize), inodes: size.inodes.max(now.f_files) };
    if wanted.bytes > now.f_blocks * now.f_frsize || wanted.inodes > now.f_files {
        // A tmpfs that was mounted with noswap cannot be changed without naming it again.
        let noswap = if has_noswap { ",noswap" } else { "" };
        let options = CString::new(format!("{}{noswap}", size_options(wanted)))
            .map_err(|error| MountError::Refused(error.to_string()))?;
        rustix::mount::mount_remount(through(folder.as_fd()), FLAGS, options.as_c_str())
            .map_err(failed("enlarging the tmpfs"))?;
    }
    Ok(folder)
}

fn size_options(size: Size) -> String {
    format!("size={},nr_inodes={}", size.bytes, size.inodes)
}

fn open_beneath(folder: BorrowedFd<'_>, path: &Path, access: OFlags) -> Result<OwnedFd, Errno> {
    let flags = access | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(folder, path, flags, Mode::empty(), resolve)
}

/// Names the directory that a descriptor holds, whatever has become of its path.
fn through(descriptor: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", descriptor.as_raw_fd())
}

fn failed(doing: &'static str) -> impl FnOnce(Errno) -> MountError {
    move |error| MountError::Failed { doing, source: error.into() }
}

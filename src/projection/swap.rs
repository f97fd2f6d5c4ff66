//! The swap: all files of a volume change at one instant, whatever happens to us meanwhile.
//! Must not leave a state in which a reader finds some files of one version and some of another.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::folder::{Entry, Folder, Kind, set_access};
use super::{Files, Layout, ProjectionError};

/// The link that readers go through; it names the folder of the version in force.
const DATA: &str = "..data";
/// The next such link, before it takes the name of the former.
const DATA_NEXT: &str = "..data_tmp";
/// Folders of one instant that are tried before giving up.
const STAMPS_MAX: u32 = 16;

/// The points between which a process can die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Surveyed,
    Swept,
    FolderMade,
    FileWritten,
    FolderOpened,
    NextLinked,
    Swapped,
    NamesAdded,
    NamesRemoved,
    FormerRemoved,
}

/// Makes `files` the content of the volume, at one instant.
///
/// A volume looks like this, and readers use the last two lines only:
/// ```text
/// ..2026_11_22_08_30_00.000000000/password    the version in force
/// ..data -> ..2026_11_22_08_30_00.000000000   renamed over: the swap
/// password -> ..data/password
/// ```
///
/// What else is there is not ours: kubelet makes the missing folder of a `subPath` in here, as root. It is neither
/// touched nor followed.
///
/// 1. Survey the volume. What stands at a name that is to be written, or could be taken for ours, ends the call before
///    anything is changed; anything else that is not ours is passed over.
/// 2. Sweep what a crash has left: folders that no link names, and a link that was never renamed; and whatever else has
///    that link's name.
/// 3. Make the new folder, closed to all others, under a name of the present instant.
/// 4. Write each file into it, with its mode and owner.
/// 5. Open the folder to its readers.
/// 6. Make the next link to it.
/// 7. Rename the next link over the link in force: this is the swap.
/// 8. Link names that are new.
/// 9. Remove names that are gone.
/// 10. Remove the former folder when names are gone: they are no longer the pod's. Otherwise it lingers, for a reader may
///     be on his way through the link into it, and stand still there for as long as his CPU time is used up. [`sweep`]
///     takes it away, or step 2 of the next call.
///
/// An error in 2 to 6 leaves the former files in force, one in 8 to 10 the new ones; the next call sweeps and
/// completes. There is no cleaning up on errors, so that an error and a crash leave the same.
pub fn replace(
    volume: BorrowedFd<'_>,
    files: &Files<'_>,
    layout: Layout,
    now: Timestamp,
) -> Result<Former, ProjectionError> {
    replace_stepwise(volume, files, layout, now, &mut |_| Ok(()))
}

/// What a swap has left of the files before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Former {
    Gone,
    /// To be swept a moment later.
    Lingers,
}

/// Takes away what no link names: the files before, when nobody can be on his way into them any more.
pub fn sweep(volume: BorrowedFd<'_>) -> Result<(), ProjectionError> {
    let volume = Folder::new(volume);
    let found = Survey::of(volume.entries()?)?;
    remove_stale(&volume, &found)
}

fn remove_stale(volume: &Folder<'_>, found: &Survey) -> Result<(), ProjectionError> {
    if let Some(Kind::Link(_) | Kind::Other) = found.next {
        volume.remove_link(DATA_NEXT)?;
    }
    for stale in found.folders.iter().filter(|folder| Some(*folder) != found.in_force.as_ref()) {
        volume.remove_folder(stale)?;
    }
    Ok(())
}

/// A folder at the next link's name was made by kubelet, of a `subPath`: else a pod could keep what it has for ever. It
/// may hold folders of others, so it gives up its name first.
fn remove_folder_at_next(volume: &Folder<'_>, found: &Survey, now: Timestamp) -> Result<(), ProjectionError> {
    let Some(Kind::Folder) = found.next else { return Ok(()) };
    let stamp = make_stamped_folder(volume, now)?;
    volume.rename(DATA_NEXT, &stamp)?;
    volume.remove_folder(&stamp)
}

pub(super) fn replace_stepwise(
    volume: BorrowedFd<'_>,
    files: &Files<'_>,
    layout: Layout,
    now: Timestamp,
    after: &mut dyn FnMut(Step) -> Result<(), ProjectionError>,
) -> Result<Former, ProjectionError> {
    let volume = Folder::new(volume);

    // 1. Survey.
    let found = Survey::of(volume.entries()?)?;
    if let Some((name, what)) = found.foreign.iter().find(|(name, _)| files.contains(name)) {
        return Err(foreign(name.clone(), what));
    }
    after(Step::Surveyed)?;

    // 2. Sweep.
    remove_stale(&volume, &found)?;
    remove_folder_at_next(&volume, &found, now)?;
    after(Step::Swept)?;

    // 3. The new folder.
    let stamp = make_stamped_folder(&volume, now)?;
    after(Step::FolderMade)?;

    // 4. The files.
    let inner = volume.open_folder(&stamp)?;
    let folder = Folder::new(inner.as_fd());
    for (name, content) in files.iter() {
        folder.write_file(name.as_str(), content, layout.mode, layout.owner, layout.group)?;
        after(Step::FileWritten)?;
    }

    // 5. Open it. The folder stays root's, so that we can remove it without any privilege.
    set_access(inner.as_fd(), layout.folder_mode(), None, layout.group)?;
    after(Step::FolderOpened)?;

    // 6. The next link.
    volume.link(&stamp, DATA_NEXT)?;
    after(Step::NextLinked)?;

    // 7. The swap.
    volume.rename(DATA_NEXT, DATA)?;
    after(Step::Swapped)?;

    // 8. New names.
    for name in files.names().filter(|name| !found.names.contains(name.as_str())) {
        volume.link(&format!("{DATA}/{}", name.as_str()), name.as_str())?;
    }
    after(Step::NamesAdded)?;

    // 9. Gone names.
    let gone: Vec<_> = found.names.iter().filter(|name| !files.contains(name)).collect();
    for name in &gone {
        volume.remove_link(name)?;
    }
    after(Step::NamesRemoved)?;

    // 10. The former folder.
    let Some(former) = &found.in_force else { return Ok(Former::Gone) };
    if gone.is_empty() {
        return Ok(Former::Lingers);
    }
    volume.remove_folder(former)?;
    after(Step::FormerRemoved)?;
    Ok(Former::Gone)
}

/// The names of the files in a volume, sorted; `None` when no set of files has ever been completed in it.
pub fn present(volume: BorrowedFd<'_>) -> Result<Option<Vec<String>>, ProjectionError> {
    let found = Survey::of(Folder::new(volume).entries()?)?;
    Ok(found.in_force.is_some().then(|| found.names.into_iter().collect()))
}

/// What is in a volume of ours.
#[derive(Default)]
struct Survey {
    /// The folder that `..data` names, when it exists.
    in_force: Option<String>,
    folders: BTreeSet<String>,
    names: BTreeSet<String>,
    /// What has the name of the next link.
    next: Option<Kind>,
    /// What is not ours and cannot be taken for it, with what it is.
    foreign: BTreeMap<String, &'static str>,
}

impl Survey {
    fn of(entries: Vec<Entry>) -> Result<Survey, ProjectionError> {
        let mut survey = Survey::default();
        let mut data = None;
        for Entry { name, kind } in entries {
            match (name.as_str(), kind) {
                (DATA, Kind::Link(target)) if is_stamp(&target) => data = Some(target),
                (DATA, _) => return Err(foreign(name, "it should be a link to one of our folders")),
                (DATA_NEXT, kind) => survey.next = Some(kind),
                (_, Kind::Folder) if is_stamp(&name) => {
                    survey.folders.insert(name);
                }
                (_, Kind::Link(target)) if is_link_to_data(&name, &target) => {
                    survey.names.insert(name);
                }
                (_, kind) => {
                    let what = kind.told();
                    if is_stamp(&name) {
                        return Err(foreign(name, what));
                    }
                    survey.foreign.insert(name, what);
                }
            }
        }
        survey.in_force = data.filter(|target| survey.folders.contains(target));
        Ok(survey)
    }
}

fn is_link_to_data(name: &str, target: &str) -> bool {
    !name.starts_with("..") && target.strip_prefix(DATA).and_then(|rest| rest.strip_prefix('/')) == Some(name)
}

fn foreign(name: String, found: &'static str) -> ProjectionError {
    ProjectionError::Foreign { name, found }
}

/// `..` and digits with separators: a name that a folder of ours can have, in one component.
fn is_stamp(name: &str) -> bool {
    let is_digit = |c: char| c.is_ascii_digit();
    name.strip_prefix("..").is_some_and(|rest| {
        rest.starts_with(is_digit) && rest.chars().all(|c| is_digit(c) || c == '_' || c == '.')
    })
}

fn make_stamped_folder(volume: &Folder<'_>, now: Timestamp) -> Result<String, ProjectionError> {
    let instant = now.to_zoned(TimeZone::UTC).strftime("..%Y_%m_%d_%H_%M_%S.%9f").to_string();
    for attempt in 0..STAMPS_MAX {
        let stamp = if attempt == 0 { instant.clone() } else { format!("{instant}_{attempt}") };
        if volume.make_folder(&stamp)? {
            return Ok(stamp);
        }
    }
    Err(foreign(instant, "the folder exists, and its successors too"))
}

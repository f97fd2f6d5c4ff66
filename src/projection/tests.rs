//! Swaps on a real file system, killed at every step.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use jiff::Timestamp;

use super::swap::{Step, replace_stepwise};
use super::*;

const OLD: &[(&str, &str)] = &[("password", "old-password"), ("username", "old-user"), ("gone", "old-gone")];
const NEW: &[(&str, &str)] =
    &[("password", "new-password"), ("username", "new-user"), ("fresh", "new-fresh")];

const STEPS: &[Step] = &[
    Step::Surveyed,
    Step::Swept,
    Step::FolderMade,
    Step::FileWritten,
    Step::FolderOpened,
    Step::NextLinked,
    Step::Swapped,
    Step::NamesAdded,
    Step::NamesRemoved,
    Step::FormerRemoved,
];

fn at(second: u8) -> Timestamp {
    format!("2026-11-22T08:30:{second:02}Z").parse().unwrap()
}

fn files<'a>(set: &'a [(&'a str, &'a str)]) -> Files<'a> {
    Files::new(set.iter().map(|(name, content)| (*name, content.as_bytes()))).unwrap()
}

fn open(volume: &Path) -> fs::File {
    fs::File::open(volume).unwrap()
}

fn put(volume: &Path, set: &[(&str, &str)], second: u8) -> Result<Former, ProjectionError> {
    let layout = Layout::with_default_mode(None, None);
    replace(open(volume).as_fd(), &files(set), layout, at(second))
}

/// Runs a swap that dies after `step`; with `nth`, at its nth passing.
fn put_and_die(volume: &Path, set: &[(&str, &str)], second: u8, step: Step, nth: usize) {
    let mut passed = 0;
    let mut die = |now: Step| {
        passed += usize::from(now == step);
        if now == step && passed == nth {
            let source = io::Error::other("killed");
            return Err(ProjectionError::Io { doing: "living", source });
        }
        Ok(())
    };
    let layout = Layout::with_default_mode(None, None);
    let outcome = replace_stepwise(open(volume).as_fd(), &files(set), layout, at(second), &mut die);
    assert!(outcome.is_err(), "step {step:?} was not reached");
}

/// What a reader sees who opens the folder once.
fn read_set(volume: &Path) -> BTreeMap<String, String> {
    let folder = fs::canonicalize(volume.join("..data")).unwrap();
    let read = |entry: io::Result<fs::DirEntry>| {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        (name, fs::read_to_string(entry.path()).unwrap())
    };
    fs::read_dir(folder).unwrap().map(read).collect()
}

fn owned(set: &[(&str, &str)]) -> BTreeMap<String, String> {
    set.iter().map(|(name, content)| ((*name).to_owned(), (*content).to_owned())).collect()
}

fn names_in(volume: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(volume).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn files_appear_under_their_names_and_change_together() {
    let volume = tempfile::tempdir().unwrap();
    put(volume.path(), OLD, 1).unwrap();
    assert_eq!(fs::read_to_string(volume.path().join("password")).unwrap(), "old-password");
    put(volume.path(), NEW, 2).unwrap();
    assert_eq!(fs::read_to_string(volume.path().join("password")).unwrap(), "new-password");
    assert_eq!(read_set(volume.path()), owned(NEW));
    assert_eq!(
        names_in(volume.path()),
        ["..2026_11_22_08_30_02.000000000", "..data", "fresh", "password", "username"]
    );
}

#[test]
fn a_swap_killed_at_any_step_leaves_a_complete_set_and_the_next_one_cleans_up() {
    for step in STEPS {
        let volume = tempfile::tempdir().unwrap();
        put(volume.path(), OLD, 1).unwrap();
        put_and_die(volume.path(), NEW, 2, *step, 1);

        let is_swapped =
            STEPS.iter().position(|s| s == step) >= STEPS.iter().position(|s| *s == Step::Swapped);
        let expected = if is_swapped { NEW } else { OLD };
        assert_eq!(read_set(volume.path()), owned(expected), "after {step:?}");
        for name in ["password", "username"] {
            let seen = fs::read_to_string(volume.path().join(name)).unwrap();
            assert_eq!(seen, owned(expected)[name], "{name} after {step:?}");
        }

        put(volume.path(), NEW, 3).unwrap();
        assert_eq!(read_set(volume.path()), owned(NEW), "completed after {step:?}");
        sweep(open(volume.path()).as_fd()).unwrap();
        assert_eq!(names_in(volume.path()).len(), 5, "left after {step:?}: {:?}", names_in(volume.path()));
    }
}

#[test]
fn a_first_swap_killed_at_any_step_is_completed_by_the_next() {
    for step in STEPS.iter().filter(|step| **step != Step::FormerRemoved) {
        let volume = tempfile::tempdir().unwrap();
        put_and_die(volume.path(), NEW, 1, *step, 1);
        put(volume.path(), NEW, 2).unwrap();
        assert_eq!(read_set(volume.path()), owned(NEW), "after {step:?}");
        sweep(open(volume.path()).as_fd()).unwrap();
        assert_eq!(names_in(volume.path()).len(), 5, "after {step:?}");
    }
}

#[test]
fn a_reader_who_is_on_his_way_into_the_former_files_finds_them_until_the_sweep() {
    const LATER: &[(&str, &str)] = &[("password", "later"), ("username", "later"), ("gone", "later")];
    let volume = tempfile::tempdir().unwrap();
    assert_eq!(put(volume.path(), OLD, 1).unwrap(), Former::Gone, "there was none");
    // He has looked the link up, and is not yet at the file.
    let on_his_way = volume.path().join(fs::read_link(volume.path().join("..data")).unwrap());
    assert_eq!(put(volume.path(), LATER, 2).unwrap(), Former::Lingers);
    assert_eq!(fs::read_to_string(on_his_way.join("password")).unwrap(), "old-password");
    assert_eq!(read_set(volume.path()), owned(LATER));
    sweep(open(volume.path()).as_fd()).unwrap();
    assert!(!on_his_way.exists());
    assert_eq!(read_set(volume.path()), owned(LATER));
    sweep(open(volume.path()).as_fd()).unwrap();
    assert_eq!(names_in(volume.path()).len(), 5);

    // Without a sweep the next swap removes what lingers, and what is taken from the pod goes at once.
    assert_eq!(put(volume.path(), OLD, 3).unwrap(), Former::Lingers);
    assert_eq!(put(volume.path(), LATER, 4).unwrap(), Former::Lingers);
    assert_eq!(names_in(volume.path()).len(), 6);
    assert_eq!(put(volume.path(), &LATER[..1], 5).unwrap(), Former::Gone);
    assert_eq!(names_in(volume.path()), ["..2026_11_22_08_30_05.000000000", "..data", "password"]);
}

#[test]
fn what_is_present_is_told_by_name_and_only_once_complete() {
    let volume = tempfile::tempdir().unwrap();
    assert_eq!(present(open(volume.path()).as_fd()).unwrap(), None);
    put_and_die(volume.path(), OLD, 1, Step::NextLinked, 1);
    assert_eq!(present(open(volume.path()).as_fd()).unwrap(), None);
    put(volume.path(), OLD, 2).unwrap();
    let names = present(open(volume.path()).as_fd()).unwrap().unwrap();
    assert_eq!(names, ["gone", "password", "username"]);
    put(volume.path(), &[], 3).unwrap();
    assert_eq!(present(open(volume.path()).as_fd()).unwrap(), Some(Vec::new()));
}

#[test]
fn a_half_written_folder_is_never_seen() {
    let volume = tempfile::tempdir().unwrap();
    put(volume.path(), OLD, 1).unwrap();
    put_and_die(volume.path(), NEW, 2, Step::FileWritten, 2);
    assert_eq!(read_set(volume.path()), owned(OLD));
    let half = volume.path().join("..2026_11_22_08_30_02.000000000");
    assert_eq!(fs::metadata(half).unwrap().permissions().mode() & 0o777, 0o700, "closed until it is whole");
}

#[test]
fn readers_see_one_version_at_a_time_while_files_are_swapped() {
    let volume = tempfile::tempdir().unwrap();
    put(volume.path(), OLD, 0).unwrap();
    let path = volume.path().to_owned();
    let writing = std::thread::spawn(move || {
        for round in 1..=200u8 {
            put(&path, if round % 2 == 0 { OLD } else { NEW }, round % 60).unwrap();
        }
    });
    let mut seen = 0;
    while !writing.is_finished() {
        // As a careful reader does: hold the folder, then read the files in it.
        let Ok(folder) = fs::canonicalize(volume.path().join("..data")) else { continue };
        let read = |name: &str| fs::read_to_string(folder.join(name));
        if let (Ok(password), Ok(username)) = (read("password"), read("username")) {
            assert_eq!(password.split('-').next(), username.split('-').next());
            seen += 1;
        }
        fs::read_to_string(volume.path().join("password")).unwrap_or_else(|error| {
            // The folder behind the link may go between the lookup of the link and of the file.
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
            String::new()
        });
    }
    writing.join().unwrap();
    assert!(seen > 0);
}

#[test]
fn two_swaps_in_one_instant_do_not_collide() {
    let volume = tempfile::tempdir().unwrap();
    put(volume.path(), OLD, 1).unwrap();
    put(volume.path(), NEW, 1).unwrap();
    assert_eq!(read_set(volume.path()), owned(NEW));
}

#[test]
fn an_empty_set_takes_every_file_away() {
    let volume = tempfile::tempdir().unwrap();
    put(volume.path(), OLD, 1).unwrap();
    put(volume.path(), &[], 2).unwrap();
    assert_eq!(names_in(volume.path()), ["..2026_11_22_08_30_02.000000000", "..data"]);
    assert!(read_set(volume.path()).is_empty());
}

#[test]
fn modes_group_and_owner_are_as_asked() {
    let volume = tempfile::tempdir().unwrap();
    let layout = Layout { mode: 0o400, group: Some(2000), owner: Some(1000) };
    replace(open(volume.path()).as_fd(), &files(OLD), layout, at(1)).unwrap();
    let file = fs::metadata(volume.path().join("password")).unwrap();
    assert_eq!((file.mode() & 0o7777, file.uid(), file.gid()), (0o400, 1000, 2000));
    let folder = fs::metadata(volume.path().join("..data")).unwrap();
    assert_eq!((folder.mode() & 0o777, folder.uid(), folder.gid()), (0o750, 0, 2000));

    assert_eq!(Layout::with_default_mode(Some(7), None).mode, 0o440);
    assert_eq!(Layout::with_default_mode(None, None).mode, 0o444);
}

#[test]
fn what_is_planted_in_a_volume_is_refused_and_left_alone() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().join("passwd");
    fs::write(&target, "untouched").unwrap();
    let stamp = "..2026_11_22_08_30_09.000000000";
    type Plant<'a> = (&'a str, &'a dyn Fn(&Path));
    let plants: &[Plant<'_>] = &[
        ("..data", &|v| {
            let _ = fs::remove_file(v.join("..data"));
            symlink(&target, v.join("..data")).unwrap();
        }),
        ("..data", &|v| {
            let _ = fs::remove_file(v.join("..data"));
            symlink("../..2026_11_22_08_30_00", v.join("..data")).unwrap();
        }),
        (stamp, &|v| symlink(outside.path(), v.join(stamp)).unwrap()),
        ("password", &|v| {
            fs::remove_file(v.join("password")).unwrap();
            symlink(&target, v.join("password")).unwrap();
        }),
        ("fresh", &|v| fs::write(v.join("fresh"), "mine").unwrap()),
        ("fresh", &|v| fs::create_dir(v.join("fresh")).unwrap()),
    ];
    for (index, (name, plant)) in plants.iter().enumerate() {
        let volume = tempfile::tempdir().unwrap();
        put(volume.path(), OLD, 1).unwrap();
        plant(volume.path());
        let before = names_in(volume.path());
        let error = put(volume.path(), NEW, 2).unwrap_err();
        assert!(
            matches!(&error, ProjectionError::Foreign { name: found, .. } if found == name),
            "plant {index}: {error}"
        );
        assert_eq!(error.reason(), "ForeignEntry");
        assert_eq!(names_in(volume.path()), before, "plant {index}");
        assert_eq!(fs::read_to_string(&target).unwrap(), "untouched", "plant {index}");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1, "plant {index}");
    }
}

/// As kubelet does for a `subPath` that is not there.
fn sub_path(volume: &Path, path: &str) {
    fs::create_dir_all(volume.join(path)).unwrap();
}

#[test]
fn what_is_not_ours_and_not_in_the_way_is_left_alone_and_stops_no_swap() {
    let outside = tempfile::tempdir().unwrap();
    let volume = tempfile::tempdir().unwrap();
    put(volume.path(), OLD, 1).unwrap();
    sub_path(volume.path(), "planted/deep");
    sub_path(volume.path(), "..planted");
    symlink(outside.path(), volume.path().join("elsewhere")).unwrap();
    fs::write(volume.path().join("planted/deep/mine"), "mine").unwrap();
    assert_eq!(present(open(volume.path()).as_fd()).unwrap().unwrap(), ["gone", "password", "username"]);

    put(volume.path(), NEW, 2).unwrap();
    assert_eq!(read_set(volume.path()), owned(NEW));
    // A right that ends takes the files all the same.
    put(volume.path(), &[], 3).unwrap();
    assert_eq!(
        names_in(volume.path()),
        ["..2026_11_22_08_30_03.000000000", "..data", "..planted", "elsewhere", "planted"]
    );
    assert_eq!(fs::read_to_string(volume.path().join("planted/deep/mine")).unwrap(), "mine");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);

    // Only a file of that very name cannot be, and then nothing is changed.
    let error = put(volume.path(), &[("password", "new"), ("planted", "new")], 4).unwrap_err();
    assert!(
        error.to_string().contains("\"planted\"") && error.to_string().contains("it is a folder"),
        "{error}"
    );
    assert!(read_set(volume.path()).is_empty());
}

#[test]
fn whatever_has_the_next_link_s_name_stops_no_swap() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("theirs"), "untouched").unwrap();
    let plants: &[&dyn Fn(&Path)] = &[
        &|next| fs::write(next, "mine").unwrap(),
        &|next| symlink(outside.path(), next).unwrap(),
        &|next| symlink("nowhere", next).unwrap(),
        &|next| fs::create_dir(next).unwrap(),
        &|next| fs::create_dir_all(next.join("deep/deeper")).unwrap(),
        &|next| {
            fs::create_dir(next).unwrap();
            fs::write(next.join("mine"), "mine").unwrap();
            symlink(outside.path(), next.join("way-out")).unwrap();
        },
    ];
    for (index, plant) in plants.iter().enumerate() {
        let volume = tempfile::tempdir().unwrap();
        let next = volume.path().join("..data_tmp");
        put(volume.path(), OLD, 1).unwrap();
        for (second, set) in [(2, NEW), (3, OLD), (4, &[][..])] {
            plant(&next);
            put(volume.path(), set, second).unwrap();
            assert_eq!(read_set(volume.path()), owned(set), "plant {index}");
            assert!(fs::symlink_metadata(&next).is_err(), "plant {index}");
        }
        plant(&next);
        sweep(open(volume.path()).as_fd()).unwrap();
        put(volume.path(), NEW, 5).unwrap();
        sweep(open(volume.path()).as_fd()).unwrap();
        assert_eq!(read_set(volume.path()), owned(NEW), "plant {index}");
        assert_eq!(fs::read_to_string(outside.path().join("theirs")).unwrap(), "untouched", "plant {index}");
    }
}

#[test]
fn a_folder_made_in_the_folder_in_force_stops_no_swap_and_keeps_no_value() {
    let volume = tempfile::tempdir().unwrap();
    put(volume.path(), OLD, 1).unwrap();
    sub_path(volume.path(), "..data/planted");
    put(volume.path(), NEW, 2).unwrap();
    assert!(!volume.path().join("..2026_11_22_08_30_01.000000000").exists(), "an empty one goes with ours");

    sub_path(volume.path(), "..data/planted/deep");
    sub_path(volume.path(), "..2026_11_22_08_29_00.000000000/planted/deep");
    put(volume.path(), OLD, 3).unwrap();
    put(volume.path(), NEW, 4).unwrap();
    assert_eq!(read_set(volume.path()), owned(NEW));
    for stays in ["..2026_11_22_08_30_02.000000000", "..2026_11_22_08_29_00.000000000"] {
        let left: Vec<_> =
            fs::read_dir(volume.path().join(stays)).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["planted"], "{stays} has lost its files");
    }
}

#[test]
fn a_symlink_planted_inside_a_stale_folder_is_removed_and_not_followed() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().join("passwd");
    fs::write(&target, "untouched").unwrap();
    let volume = tempfile::tempdir().unwrap();
    put(volume.path(), OLD, 1).unwrap();
    let stale = volume.path().join("..2026_11_22_08_29_00.000000000");
    fs::create_dir(&stale).unwrap();
    symlink(&target, stale.join("password")).unwrap();
    put(volume.path(), NEW, 2).unwrap();
    assert!(!stale.exists());
    assert_eq!(fs::read_to_string(&target).unwrap(), "untouched");
}

#[test]
fn names_that_lead_elsewhere_or_clash_with_ours_are_refused() {
    for (name, why) in [
        ("", "empty"),
        ("a/b", "slash"),
        ("..", "two dots"),
        ("..data", "two dots"),
        (".", "folder itself"),
        ("a\nb", "control"),
        ("a\0b", "control"),
    ] {
        let error = FileName::try_from(name).unwrap_err().to_string();
        assert!(error.contains(why), "{name:?}: {error}");
    }
    assert!(FileName::try_from("x".repeat(256).as_str()).is_err());
    for name in [".env", "tls.crt", "a b", "ключ", "x..y"] {
        assert_eq!(FileName::try_from(name).unwrap().as_str(), name);
    }
    let twice = Files::new([("a", &b"1"[..]), ("a", &b"2"[..])]);
    assert!(matches!(twice, Err(ProjectionError::NameTwice { .. })));
}

#[test]
fn the_footprint_counts_whole_pages_and_links() {
    let page = vec![0u8; 4097];
    let set = Files::new([("a", &b"1"[..]), ("b", &page[..])]).unwrap();
    assert_eq!(set.inodes(), 6);
    assert_eq!(set.footprint_bytes(), (1 + 2 + 6) * 4096);
    assert!(Files::default().footprint_bytes() > 0);
}

//! What is to be in a volume: names, contents, and who may read them.
//! Must not touch a file system.

use std::collections::BTreeMap;

use super::ProjectionError;

const NAME_BYTES_MAX: usize = 255;
const PAGE_BYTES: u64 = 4096;

/// The name of a file directly in a volume.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileName(String);

impl FileName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for FileName {
    type Error = ProjectionError;

    fn try_from(name: &str) -> Result<Self, ProjectionError> {
        let wrong = if name.is_empty() {
            Some("it is empty")
        } else if name.len() > NAME_BYTES_MAX {
            Some("it is longer than 255 bytes")
        } else if name.contains('/') {
            Some("it holds a slash")
        } else if name == "." || name.starts_with("..") {
            Some("names that begin with two dots are ours, and `.` is the folder itself")
        } else if name.chars().any(char::is_control) {
            Some("it holds a control character")
        } else {
            None
        };
        match wrong {
            Some(why) => Err(ProjectionError::Name { name: name.to_owned(), why }),
            None => Ok(FileName(name.to_owned())),
        }
    }
}

/// A complete set of files, in the order of their names.
#[derive(Default)]
pub struct Files<'a>(BTreeMap<FileName, &'a [u8]>);

impl<'a> Files<'a> {
    pub fn new(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Result<Files<'a>, ProjectionError> {
        let mut set = BTreeMap::new();
        for (name, content) in files {
            if set.insert(FileName::try_from(name)?, content).is_some() {
                return Err(ProjectionError::NameTwice { name: name.to_owned() });
            }
        }
        Ok(Files(set))
    }

    pub fn names(&self) -> impl Iterator<Item = &FileName> {
        self.0.keys()
    }

    pub fn contains(&self, name: &str) -> bool {
        self.0.keys().any(|known| known.as_str() == name)
    }

    /// What the set takes of a tmpfs: whole pages for contents, and for the links and the folder of one swap.
    pub fn footprint_bytes(&self) -> u64 {
        let pages: u64 = self.0.values().map(|content| (content.len() as u64).div_ceil(PAGE_BYTES)).sum();
        (pages + self.inodes()) * PAGE_BYTES
    }

    /// Files, their links, the folder and the link to it.
    pub fn inodes(&self) -> u64 {
        2 * self.0.len() as u64 + 2
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&FileName, &'a [u8])> {
        self.0.iter().map(|(name, content)| (name, *content))
    }
}

/// Mode and ownership of the files of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Permission bits of each file.
    pub mode: u32,
    /// The pod's fsGroup; with it, only that group can enter the folder.
    pub group: Option<u32>,
    /// The uid that owns each file; root where nobody asked for another.
    pub owner: Option<u32>,
}

impl Layout {
    /// 0440 where a group shares the files, 0444 where nothing but the volume's own pod sees them anyway.
    pub fn with_default_mode(group: Option<u32>, owner: Option<u32>) -> Layout {
        Layout { mode: if group.is_some() { 0o440 } else { 0o444 }, group, owner }
    }

    pub(super) fn folder_mode(&self) -> u32 {
        if self.group.is_some() { 0o750 } else { 0o755 }
    }
}

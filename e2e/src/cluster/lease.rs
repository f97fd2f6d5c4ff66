//! Hands out cluster numbers and takes away what dead clusters left.
//! A number is taken while anybody holds a shared lock on its file: the process that started the cluster, and
//! each node's first process. The kernel drops the locks of the dead, so nothing has to be remembered.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

use super::addresses::{Addresses, NODES_MAX, NUMBER_MAX};
use super::{cgroups, network};
use crate::cache;

/// A number that is ours, and the folder that goes with it.
pub(super) struct Lease {
    pub(super) addresses: Addresses,
    pub(super) folder: PathBuf,
    pub(super) lock_path: PathBuf,
    _lock: File,
}

impl Lease {
    /// Takes away what the cluster left; only for its owner, when its processes are gone.
    pub(super) fn clear(&self) -> Result<()> {
        clear(&cache::state_folder()?, self.addresses.number)
    }
}

/// Takes the lowest free number, with an empty folder. Leftovers of all free numbers go away on the way.
pub(super) fn take() -> Result<Lease> {
    let state = cache::state_folder()?;
    let mut taken = None;
    for number in 1..=NUMBER_MAX {
        let Some(lock) = claim(&state, number)? else { continue };
        clear(&state, number)?;
        // From exclusive to shared is not one step: another process may come between, then the number is his.
        if taken.is_none() && flock(&lock, FlockOperation::NonBlockingLockShared).is_ok() {
            taken = Some((number, lock));
        }
    }
    let Some((number, lock)) = taken else {
        bail!("all {NUMBER_MAX} cluster numbers are in use on this machine")
    };
    let folder = state.join(number.to_string());
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(Lease { addresses: Addresses { number }, folder, lock_path: lock_path(&state, number), _lock: lock })
}

/// Joins a running cluster by its number.
pub(super) fn share(number: u8) -> Result<Lease> {
    let state = cache::state_folder()?;
    let lock_path = lock_path(&state, number);
    let lock = cache::open_lock_file(&lock_path)?;
    flock(&lock, FlockOperation::NonBlockingLockShared)
        .with_context(|| format!("cluster number {number} is being taken down by somebody else"))?;
    let folder = state.join(number.to_string());
    Ok(Lease { addresses: Addresses { number }, folder, lock_path, _lock: lock })
}

/// Numbers whose cluster still runs, whoever started it.
pub(super) fn running() -> Result<Vec<u8>> {
    let state = cache::state_folder()?;
    let mut numbers = Vec::new();
    for number in 1..=NUMBER_MAX {
        if state.join(number.to_string()).exists() && claim(&state, number)?.is_none() {
            numbers.push(number);
        }
    }
    Ok(numbers)
}

fn claim(state: &Path, number: u8) -> Result<Option<File>> {
    let lock = cache::open_lock_file(&lock_path(state, number))?;
    Ok(flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok().then_some(lock))
}

fn lock_path(state: &Path, number: u8) -> PathBuf {
    state.join(format!("{number}.lock"))
}

/// What a cluster leaves when its processes are gone: cables, a bridge, cgroups, a folder.
fn clear(state: &Path, number: u8) -> Result<()> {
    network::remove(Addresses { number })?;
    let folder = state.join(number.to_string());
    (1..=NODES_MAX).for_each(|index| cgroups::remove_of(&folder.join(format!("node{index}"))));
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

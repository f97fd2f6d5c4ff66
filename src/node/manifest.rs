//! What the agent must know of a mount after its own restart, one file per mount, on the host's tmpfs.
//! Must never hold a value, nor anything derived from one.

mod served;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::request::Pod;
use super::target::Target;
use crate::wire::node::Mount;

const FORMAT: u32 = 1;
const ENDING: &str = ".json";
/// Attributes of 16 KiB and the names of all files of a volume, in JSON's longest way.
const BYTES_MAX: u64 = 1024 * 1024;
const TEMPORARY: &str = ".tmp";

/// A mount whose files are in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    pub target: Target,
    /// `None` when the file was lost and the mount was found without it.
    pub pod: Option<Pod>,
    pub attributes: BTreeMap<String, String>,
    pub group: Option<u32>,
    /// What the files hold; `None` after a withdrawal, or when it is not known.
    pub held: Option<Held>,
    pub file_names: Vec<String>,
    /// What the files take of the tmpfs.
    pub bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub secret_arn: String,
    pub version_id: String,
}

impl Manifest {
    /// As the server is told of it.
    pub fn mount(&self) -> Mount {
        let pod = self.pod.as_ref();
        let held = self.held.as_ref();
        Mount {
            mount_id: self.target.mount_id(),
            pod_namespace: pod.map(|pod| pod.namespace.clone()).unwrap_or_default(),
            pod_name: pod.map(|pod| pod.name.clone()).unwrap_or_default(),
            pod_uid: self.target.pod_uid().to_owned(),
            volume: self.target.volume().to_owned(),
            service_account: pod.map(|pod| pod.service_account.clone()).unwrap_or_default(),
            attributes: self.attributes.clone().into_iter().collect(),
            secret_arn: held.map(|held| held.secret_arn.clone()).unwrap_or_default(),
            version_id: held.map(|held| held.version_id.clone()).unwrap_or_default(),
            file_names: self.file_names.clone(),
            manifest_lost: pod.is_none(),
            copy_wanted: false,
        }
    }
}

/// As it is written. Kept apart from [`Manifest`], for files of former agents are read by later ones.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    format: u32,
    mount_id: String,
    pod_namespace: String,
    pod_name: String,
    service_account: String,
    attributes: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret_arn: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version_id: Option<String>,
    file_names: Vec<String>,
    bytes: u64,
    /// Only in a note of the trust window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    served_at_seconds: Option<i64>,
}

impl Stored {
    /// `None` for a manifest without a pod: it says nothing that the mount itself does not.
    fn of(manifest: &Manifest) -> Option<Stored> {
        let (pod, held) = (manifest.pod.as_ref()?, manifest.held.as_ref());
        Some(Stored {
            format: FORMAT,
            mount_id: manifest.target.mount_id(),
            pod_namespace: pod.namespace.clone(),
            pod_name: pod.name.clone(),
            service_account: pod.service_account.clone(),
            attributes: manifest.attributes.clone(),
            group: manifest.group,
            secret_arn: held.map(|held| held.secret_arn.clone()),
            version_id: held.map(|held| held.version_id.clone()),
            file_names: manifest.file_names.clone(),
            bytes: manifest.bytes,
            served_at_seconds: None,
        })
    }
}

/// The directory of manifests.
#[derive(Debug, Clone)]
pub struct Manifests {
    folder: PathBuf,
}

impl Manifests {
    /// Opens the directory, made readable by root only.
    pub fn open(folder: PathBuf) -> io::Result<Manifests> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(Manifests { folder })
    }

    /// Every manifest that can be read. One that cannot is removed: its mount is then found without it.
    pub fn load(&self) -> io::Result<Vec<Manifest>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if !fs::symlink_metadata(&path)?.is_file() {
                tracing::warn!(file = %path.display(), "something that is no file lies among the manifests");
                continue;
            }
            if path.to_str().is_some_and(|name| name.ends_with(served::ENDING_SERVED)) {
                continue;
            }
            let named = path.to_str().is_some_and(|name| name.ends_with(ENDING));
            match bytes(&path)?.filter(|_| named).and_then(|bytes| read(&bytes)) {
                Some(manifest) => found.push(manifest),
                None => {
                    tracing::warn!(file = %path.display(), "a manifest that cannot be read is removed");
                    fs::remove_file(&path)?;
                }
            }
        }
        Ok(found)
    }

    /// A manifest without a pod is not written.
    pub fn store(&self, manifest: &Manifest) -> io::Result<()> {
        Stored::of(manifest).map_or(Ok(()), |stored| self.write(&manifest.target, ENDING, &stored))
    }

    /// Writes at one instant: a reader finds the former file or this one.
    fn write(&self, target: &Target, ending: &str, stored: &Stored) -> io::Result<()> {
        let next = self.path(target, TEMPORARY);
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&next)?;
        file.write_all(&serde_json::to_vec(stored)?)?;
        fs::rename(next, self.path(target, ending))
    }

    pub fn remove(&self, target: &Target) -> io::Result<()> {
        match fs::remove_file(self.path(target, ENDING)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Neither part of a target's name can hold an underscore or a slash.
    fn path(&self, target: &Target, ending: &str) -> PathBuf {
        self.folder.join(format!("{}_{}{ending}", target.pod_uid(), target.volume()))
    }
}

/// What a file holds, unless that is too long for a manifest.
fn bytes(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= BYTES_MAX).then_some(bytes))
}

fn read(text: &[u8]) -> Option<Manifest> {
    parse(text).map(|(manifest, _)| manifest)
}

/// A manifest, and when its mount was made in the trust window if the file is a note of that.
fn parse(text: &[u8]) -> Option<(Manifest, Option<i64>)> {
    let stored: Stored = serde_json::from_slice(text).ok()?;
    if stored.format != FORMAT {
        return None;
    }
    let held = stored.secret_arn.zip(stored.version_id);
    let manifest = Manifest {
        target: Target::from_mount_id(&stored.mount_id)?,
        pod: Some(Pod {
            namespace: stored.pod_namespace,
            name: stored.pod_name,
            service_account: stored.service_account,
        }),
        attributes: stored.attributes,
        group: stored.group,
        held: held.map(|(secret_arn, version_id)| Held { secret_arn, version_id }),
        file_names: stored.file_names,
        bytes: stored.bytes,
    };
    Some((manifest, stored.served_at_seconds))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use proptest::prelude::*;

    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            target: Target::from_mount_id("uid-1/orders").unwrap(),
            pod: Some(Pod {
                namespace: "shop".into(),
                name: "web-0".into(),
                service_account: "orders-api".into(),
            }),
            attributes: BTreeMap::from([("secret".into(), "orders-db".into())]),
            group: Some(2000),
            held: Some(Held { secret_arn: "arn:x".into(), version_id: "v1".into() }),
            file_names: vec!["password".into()],
            bytes: 4096,
        }
    }

    #[test]
    fn a_manifest_is_read_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let manifests = Manifests::open(folder.path().join("deep/mounts")).unwrap();
        manifests.store(&manifest()).unwrap();
        assert_eq!(manifests.load().unwrap(), [manifest()]);
        let path = folder.path().join("deep/mounts/uid-1_orders.json");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let withdrawn = Manifest { held: None, file_names: Vec::new(), ..manifest() };
        manifests.store(&withdrawn).unwrap();
        assert_eq!(manifests.load().unwrap(), [withdrawn]);
        manifests.remove(&manifest().target).unwrap();
        manifests.remove(&manifest().target).unwrap();
        assert!(manifests.load().unwrap().is_empty());
    }

    #[test]
    fn the_first_format_is_read_for_ever() {
        let text = br#"{"format":1,"mountId":"uid-1/orders","podNamespace":"shop","podName":"web-0",
            "serviceAccount":"orders-api","attributes":{"secret":"orders-db"},"group":2000,
            "secretArn":"arn:x","versionId":"v1","fileNames":["password"],"bytes":4096}"#;
        assert_eq!(read(text), Some(manifest()));
    }

    #[test]
    fn what_cannot_be_read_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let manifests = Manifests::open(folder.path().into()).unwrap();
        fs::write(folder.path().join("half.json"), "{\"format\":1,").unwrap();
        fs::write(folder.path().join("uid-1_orders.tmp"), "").unwrap();
        fs::write(folder.path().join("later.json"), "{\"format\":99}").unwrap();
        fs::write(folder.path().join("long.json"), vec![b' '; 2 * 1024 * 1024]).unwrap();
        fs::write(folder.path().join("bytes.json"), [0xff, 0xfe, 0]).unwrap();
        assert!(manifests.load().unwrap().is_empty());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_no_file_does_not_keep_the_others_from_being_read() {
        let folder = tempfile::tempdir().unwrap();
        let manifests = Manifests::open(folder.path().into()).unwrap();
        manifests.store(&manifest()).unwrap();
        fs::create_dir(folder.path().join("folder.json")).unwrap();
        std::os::unix::fs::symlink("/etc/shadow", folder.path().join("link.json")).unwrap();
        assert_eq!(manifests.load().unwrap(), [manifest()]);
    }

    proptest! {
        #[test]
        fn what_is_not_a_manifest_is_not_taken_for_one(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            cut in 0..200_usize,
            mount_id in "([a-z0-9-]{0,4}|\\.\\.|\\PC{0,4})/([a-z0-9-]{0,4}|\\.\\.|\\PC{0,4})",
        ) {
            prop_assert_eq!(read(&bytes), None);
            let whole = serde_json::json!({
                "format": 1, "mountId": mount_id, "podNamespace": "shop", "podName": "web-0",
                "serviceAccount": "orders-api", "attributes": {}, "fileNames": [], "bytes": 1,
            })
            .to_string();
            prop_assert_eq!(read(&whole.as_bytes()[..cut.min(whole.len() - 1)]), None);
            if let Some(read) = read(whole.as_bytes()) {
                prop_assert_eq!(read.target.mount_id(), mount_id);
            }
        }
    }
}

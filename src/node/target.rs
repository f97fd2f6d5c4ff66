//! Where kubelet wants a volume of a pod: `<kubelet>/pods/<pod uid>/volumes/kubernetes.io~csi/<volume>/mount`.
//! Must not touch a file system; the path comes from kubelet, but is checked as if it came from a stranger.

use std::fmt;
use std::path::{Path, PathBuf};

const PODS: &str = "pods";
const DRIVER_FOLDER: &str = "volumes/kubernetes.io~csi";
/// kubelet makes the folder of the volume; the driver makes this one in it and mounts on it.
pub const MOUNT_FOLDER: &str = "mount";
const UID_BYTES_MAX: usize = 64;
const VOLUME_BYTES_MAX: usize = 63;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "target_path must be {kubelet}/pods/<pod uid>/volumes/kubernetes.io~csi/<volume>/mount, and is {path:?}; is the \
     kubelet directory configured right?"
)]
pub struct TargetError {
    kubelet: String,
    path: String,
}

/// A volume of a pod, as its path names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    pod_uid: String,
    volume: String,
}

impl Target {
    pub fn parse(kubelet: &Path, path: &str) -> Result<Target, TargetError> {
        parse(kubelet, path).ok_or_else(|| TargetError {
            kubelet: kubelet.display().to_string(),
            path: path.chars().filter(|c| !c.is_control()).take(300).collect(),
        })
    }

    /// From `<pod uid>/<volume>`, as [`Target::mount_id`] writes it.
    pub fn from_mount_id(mount_id: &str) -> Option<Target> {
        let (pod_uid, volume) = mount_id.split_once('/')?;
        Target::from_parts(pod_uid, volume)
    }

    fn from_parts(pod_uid: &str, volume: &str) -> Option<Target> {
        (is_uid(pod_uid) && is_volume(volume))
            .then(|| Target { pod_uid: pod_uid.to_owned(), volume: volume.to_owned() })
    }

    pub fn pod_uid(&self) -> &str {
        &self.pod_uid
    }

    pub fn volume(&self) -> &str {
        &self.volume
    }

    /// `<pod uid>/<volume>`: how agent and server name the mount.
    pub fn mount_id(&self) -> String {
        format!("{}/{}", self.pod_uid, self.volume)
    }

    /// The folder that kubelet has made, relative to kubelet's own.
    pub fn folder(&self) -> PathBuf {
        PathBuf::from(format!("{PODS}/{}/{DRIVER_FOLDER}/{}", self.pod_uid, self.volume))
    }

    pub fn path(&self, kubelet: &Path) -> PathBuf {
        kubelet.join(self.folder()).join(MOUNT_FOLDER)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.pod_uid, self.volume)
    }
}

fn parse(kubelet: &Path, path: &str) -> Option<Target> {
    let inner = path.strip_prefix(kubelet.to_str()?)?.strip_prefix('/')?;
    let (pod_uid, rest) = inner.strip_prefix(PODS)?.strip_prefix('/')?.split_once('/')?;
    let (volume, end) = rest.strip_prefix(DRIVER_FOLDER)?.strip_prefix('/')?.split_once('/')?;
    if end != MOUNT_FOLDER {
        return None;
    }
    Target::from_parts(pod_uid, volume)
}

/// A UID of the API server, or the hash that kubelet gives a static pod.
fn is_uid(text: &str) -> bool {
    (1..=UID_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// The name of a volume in a pod is a DNS label.
fn is_volume(text: &str) -> bool {
    (1..=VOLUME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KUBELET: &str = "/var/lib/kubelet";
    const GOOD: &str = "/var/lib/kubelet/pods/0b1e-aa/volumes/kubernetes.io~csi/orders-db/mount";

    #[test]
    fn a_path_of_kubelet_is_read_and_written_alike() {
        let target = Target::parse(Path::new(KUBELET), GOOD).unwrap();
        assert_eq!((target.pod_uid(), target.volume()), ("0b1e-aa", "orders-db"));
        assert_eq!(target.path(Path::new(KUBELET)), Path::new(GOOD));
        assert_eq!(Target::from_mount_id(&target.mount_id()), Some(target));
    }

    proptest! {
        #[test]
        fn a_path_that_is_taken_is_written_back_as_it_came_and_stays_below_kubelet(
            path in "/var/lib/kubelet/pods/([a-z0-9-]{0,66}|\\.\\.|\\PC{0,4})/volumes/kubernetes\\.io~csi/([a-z0-9-]{0,64}|\\.\\.|\\PC{0,4})/mount",
            mount_id in "([a-z0-9-]{0,4}|\\PC{0,4})/([a-z0-9-]{0,4}|\\PC{0,4})",
        ) {
            if let Ok(target) = Target::parse(Path::new(KUBELET), &path) {
                prop_assert_eq!(target.path(Path::new(KUBELET)), Path::new(&path));
                let plain = |part: &std::path::Component<'_>| matches!(part, std::path::Component::Normal(_));
                prop_assert!(target.folder().components().all(|part| plain(&part)));
                prop_assert_eq!(Target::from_mount_id(&target.mount_id()), Some(target));
            }
            if let Some(target) = Target::from_mount_id(&mount_id) {
                prop_assert_eq!(target.mount_id(), mount_id);
            }
        }
    }

    #[test]
    fn any_other_path_is_refused() {
        for path in [
            "",
            "/etc",
            "/var/lib/kubelet/pods/0b1e-aa/volumes/kubernetes.io~csi/orders-db",
            "/var/lib/kubelet/pods/0b1e-aa/volumes/kubernetes.io~csi/orders-db/mount/",
            "/var/lib/kubelet/pods/0b1e-aa/volumes/kubernetes.io~csi/orders-db/mount/..",
            "/var/lib/kubelet/pods/../volumes/kubernetes.io~csi/orders-db/mount",
            "/var/lib/kubelet/pods/0b1e-aa/volumes/kubernetes.io~csi/../mount",
            "/var/lib/kubelet/pods/0b1e-aa/volumes/kubernetes.io~secret/orders-db/mount",
            "/var/lib/kubelet//pods/0b1e-aa/volumes/kubernetes.io~csi/orders-db/mount",
            "/var/lib/kubelets/pods/0b1e-aa/volumes/kubernetes.io~csi/orders-db/mount",
            "/var/lib/kubelet/pods/0b1e-aa/volumes/kubernetes.io~csi/a b/mount",
            "/var/lib/kubelet/pods/0b1e-aa/volumes/kubernetes.io~csi//mount",
            "pods/0b1e-aa/volumes/kubernetes.io~csi/orders-db/mount",
        ] {
            assert!(Target::parse(Path::new(KUBELET), path).is_err(), "{path}");
        }
        assert_eq!(Target::from_mount_id("../x"), None);
        assert_eq!(Target::from_mount_id("a/b/c"), None);
    }
}

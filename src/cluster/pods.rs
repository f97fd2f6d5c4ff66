//! Is there such a pod, and does it have our volume? For mounts that come back without a token.
//! Must not decide who may have a secret: it only vouches for who the pod is.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, ServiceAccount as AccountObject};
use kube::{Api, Client};

use super::{Unanswered, within};
use crate::access::{PodIdentity, Principal, ServiceAccount};
use crate::crd::is_object_name;

/// The CSI driver whose volumes are ours.
pub const DRIVER: &str = "csi.tidelock.dev";

/// Labels of a ServiceAccount that begin so are its tags, for policies that ask for `aws:PrincipalTag`.
const TAG_LABELS: &str = "tags.tidelock.dev/";

/// What a node says of one of its mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountClaim {
    pub pod_namespace: String,
    pub pod_name: String,
    pub pod_uid: String,
    /// The node that the stream belongs to.
    pub node: String,
    pub service_account: String,
    /// The name of the volume in the pod's spec.
    pub volume: String,
    /// The attributes of that volume, without those that kubelet adds.
    pub attributes: BTreeMap<String, String>,
}

/// Why a claim does not hold. All but `Unavailable` are a no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PodRefused {
    #[error("there is no pod {0} with that UID any more")]
    Gone(String),
    #[error("there is no ServiceAccount {0} with that UID any more")]
    ServiceAccountGone(String),
    #[error("the pod {pod} runs on node {runs_on}, not on {claimed}")]
    OtherNode { pod: String, runs_on: String, claimed: String },
    #[error("the pod {pod} runs as ServiceAccount {runs_as}, not as {claimed}")]
    OtherServiceAccount { pod: String, runs_as: String, claimed: String },
    #[error("the pod {pod} has no volume {volume} of driver {DRIVER} with these attributes")]
    NoSuchVolume { pod: String, volume: String },
    #[error("the pod could not be read: {0}")]
    Unavailable(String),
}

impl PodRefused {
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Gone(_) => "PodGone",
            Self::ServiceAccountGone(_) => "ServiceAccountGone",
            Self::OtherNode { .. } => "PodOnOtherNode",
            Self::OtherServiceAccount { .. } => "PodOfOtherServiceAccount",
            Self::NoSuchVolume { .. } => "PodWithoutVolume",
            Self::Unavailable(_) => "PodUnavailable",
        }
    }

    /// Whether asking again later may bring another answer.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// Whether the API knows a pod by name and UID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodPresence {
    There,
    Gone,
}

/// Reads pods and the ServiceAccounts they run as.
#[derive(Clone)]
pub struct PodReader {
    client: Client,
}

impl PodReader {
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Checks every part of a node's claim against the pod's own object, and says who the pod is.
    pub async fn vouch(&self, claim: &MountClaim) -> Result<Principal, PodRefused> {
        let pod = self.pod(&claim.pod_namespace, &claim.pod_name).await?;
        let pod = pod.ok_or_else(|| PodRefused::Gone(label(claim)))?;
        check(&pod, claim)?;
        let account =
            ServiceAccount { namespace: claim.pod_namespace.clone(), name: claim.service_account.clone() };
        let uid = self.account_uid(&account).await?.ok_or_else(|| PodRefused::Gone(label(claim)))?;
        Ok(vouched(account, uid, claim))
    }

    /// The presence of the very pod; an error is not an absence.
    pub async fn presence(&self, namespace: &str, name: &str, uid: &str) -> Result<PodPresence, PodRefused> {
        let pod = self.pod(namespace, name).await?;
        let same = pod.is_some_and(|pod| pod.metadata.uid.as_deref() == Some(uid));
        Ok(if same { PodPresence::There } else { PodPresence::Gone })
    }

    pub(super) async fn pod(&self, namespace: &str, name: &str) -> Result<Option<Pod>, PodRefused> {
        if !is_object_name(namespace) || !is_object_name(name) {
            return Ok(None);
        }
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        within(pods.get_opt(name)).await.map_err(|error| unavailable(&error))
    }

    pub(super) async fn account_uid(&self, account: &ServiceAccount) -> Result<Option<String>, PodRefused> {
        Ok(self.account(account).await?.and_then(|account| account.metadata.uid))
    }

    /// What the labels of a ServiceAccount say as tags. Another one's that has the same name are not this one's; of one
    /// whose uid is not known yet, whoever has the name is meant.
    pub(super) async fn tags(
        &self,
        account: &ServiceAccount,
        uid: &str,
    ) -> Result<BTreeMap<String, String>, PodRefused> {
        let found = self.account(account).await?.map(|found| found.metadata);
        let found = found.filter(|found| uid.is_empty() || found.uid.as_deref() == Some(uid));
        Ok(tags_of(found.and_then(|found| found.labels).unwrap_or_default()))
    }

    async fn account(&self, account: &ServiceAccount) -> Result<Option<AccountObject>, PodRefused> {
        if !is_object_name(&account.namespace) || !is_object_name(&account.name) {
            return Ok(None);
        }
        let accounts: Api<AccountObject> = Api::namespaced(self.client.clone(), &account.namespace);
        within(accounts.get_opt(&account.name)).await.map_err(|error| unavailable(&error))
    }
}

fn tags_of(labels: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let tag = |(label, value): (String, String)| Some((label.strip_prefix(TAG_LABELS)?.to_owned(), value));
    labels.into_iter().filter_map(tag).collect()
}

fn unavailable(error: &Unanswered) -> PodRefused {
    PodRefused::Unavailable(error.to_string())
}

fn check(pod: &Pod, claim: &MountClaim) -> Result<(), PodRefused> {
    if pod.metadata.uid.as_deref() != Some(claim.pod_uid.as_str()) {
        return Err(PodRefused::Gone(label(claim)));
    }
    let spec = pod.spec.as_ref().ok_or_else(|| PodRefused::Gone(label(claim)))?;
    let runs_on = spec.node_name.as_deref().unwrap_or_default();
    if runs_on != claim.node || runs_on.is_empty() {
        let (runs_on, claimed) = (runs_on.to_owned(), claim.node.clone());
        return Err(PodRefused::OtherNode { pod: label(claim), runs_on, claimed });
    }
    let runs_as = spec.service_account_name.as_deref().unwrap_or("default");
    if runs_as != claim.service_account {
        let (runs_as, claimed) = (runs_as.to_owned(), claim.service_account.clone());
        return Err(PodRefused::OtherServiceAccount { pod: label(claim), runs_as, claimed });
    }
    let no_attributes = BTreeMap::new();
    let volume_is_there =
        spec.volumes.iter().flatten().filter(|volume| volume.name == claim.volume).any(|v| {
            v.csi.as_ref().is_some_and(|csi| {
                csi.driver == DRIVER
                    && csi.volume_attributes.as_ref().unwrap_or(&no_attributes) == &claim.attributes
            })
        });
    if volume_is_there {
        Ok(())
    } else {
        Err(PodRefused::NoSuchVolume { pod: label(claim), volume: claim.volume.clone() })
    }
}

/// The identity that a token of this pod would have proved, without the claims that only a token carries.
fn vouched(account: ServiceAccount, uid: String, claim: &MountClaim) -> Principal {
    let groups = [
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{}", account.namespace),
        "system:authenticated".to_owned(),
    ];
    let pod = PodIdentity {
        name: claim.pod_name.clone(),
        uid: claim.pod_uid.clone(),
        node: Some(claim.node.clone()),
    };
    Principal::ServiceAccount {
        account,
        uid,
        groups: Arc::new(groups),
        extra: Arc::default(),
        pod: Some(pod),
        via: Box::default(),
    }
}

fn label(claim: &MountClaim) -> String {
    format!("{}/{}", claim.pod_namespace, claim.pod_name)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{CSIVolumeSource, PodSpec, Volume};

    use super::*;

    fn claim() -> MountClaim {
        MountClaim {
            pod_namespace: "shop".into(),
            pod_name: "orders-0".into(),
            pod_uid: "uid-1".into(),
            node: "node-1".into(),
            service_account: "orders-api".into(),
            volume: "orders-db".into(),
            attributes: BTreeMap::from([("secret".to_owned(), "orders-db".to_owned())]),
        }
    }

    fn pod() -> Pod {
        let mut pod = Pod::default();
        pod.metadata.uid = Some("uid-1".into());
        let csi = CSIVolumeSource {
            driver: DRIVER.into(),
            volume_attributes: Some(claim().attributes),
            ..CSIVolumeSource::default()
        };
        let ours = Volume { name: "orders-db".into(), csi: Some(csi), ..Volume::default() };
        pod.spec = Some(PodSpec {
            node_name: Some("node-1".into()),
            service_account_name: Some("orders-api".into()),
            volumes: Some(vec![Volume { name: "tmp".into(), ..Volume::default() }, ours]),
            ..PodSpec::default()
        });
        pod
    }

    fn refusal(change: impl FnOnce(&mut MountClaim, &mut Pod)) -> &'static str {
        let (mut claim, mut pod) = (claim(), pod());
        change(&mut claim, &mut pod);
        check(&pod, &claim).map_or_else(|refused| refused.reason(), |()| "none")
    }

    #[test]
    fn a_claim_holds_only_when_uid_node_account_and_volume_are_the_pod_s_own() {
        assert_eq!(refusal(|_, _| ()), "none");
        assert_eq!(refusal(|claim, _| claim.pod_uid = "uid-2".into()), "PodGone");
        assert_eq!(refusal(|claim, _| claim.node = "node-2".into()), "PodOnOtherNode");
        assert_eq!(refusal(|claim, _| claim.service_account = "admin".into()), "PodOfOtherServiceAccount");
        assert_eq!(refusal(|claim, _| claim.volume = "tmp".into()), "PodWithoutVolume");
        assert_eq!(refusal(|claim, _| claim.attributes.clear()), "PodWithoutVolume");
        assert_eq!(
            refusal(|_, pod| {
                let volumes = pod.spec.as_mut().unwrap().volumes.as_mut().unwrap();
                volumes[1].csi.as_mut().unwrap().driver = "csi.other.dev".into();
            }),
            "PodWithoutVolume"
        );
    }

    #[test]
    fn a_pod_that_no_node_has_yet_is_on_no_node() {
        let unscheduled = |claim: &mut MountClaim, pod: &mut Pod| {
            claim.node.clear();
            pod.spec.as_mut().unwrap().node_name = None;
        };
        assert_eq!(refusal(unscheduled), "PodOnOtherNode");
    }

    #[test]
    fn a_vouched_pod_has_the_three_groups_of_its_account_and_no_extra() {
        let account = ServiceAccount { namespace: "shop".into(), name: "orders-api".into() };
        let Principal::ServiceAccount { groups, extra, uid, .. } =
            vouched(account, "account-uid".into(), &claim())
        else {
            panic!("a pod is a ServiceAccount");
        };
        assert_eq!(
            *groups,
            ["system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"]
        );
        assert!(extra.is_empty() && uid == "account-uid");
    }

    #[test]
    fn labels_with_the_prefix_are_tags_and_others_are_not() {
        let labels = [("tags.tidelock.dev/team", "orders"), ("team", "x"), ("tidelock.dev/team", "y")];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(tags_of(labels.into()), [("team".to_owned(), "orders".to_owned())].into());
    }

    #[test]
    fn names_that_no_object_has_are_never_part_of_a_url() {
        assert!(is_object_name("orders-0") && is_object_name("a.b"));
        for wrong in ["", "..", "../secrets", "a/b", "A", "a?b", &"a".repeat(254)] {
            assert!(!is_object_name(wrong), "{wrong}");
        }
    }
}

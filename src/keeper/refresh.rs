//! Refresh: what mounts that are complete have to do when a secret changes, and when rights are asked again.
//! Must not withdraw anything because a question could not be asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt as _, stream};

use super::files::Selection;
use super::live::{LiveMount, Placed};
use super::project::{Asking, Projectable, current};
use super::{FirstMounts, Keeper, KeeperError, Payload, Projected, measure};
use crate::access::Denied;
use crate::secret::Arn;

/// What is to be done with the files of a mount that is complete.
pub enum Refreshed {
    /// Nobody could be asked: the files stay as they are.
    Unknown,
    /// The files are right as they are.
    Keep(FirstMounts),
    /// The same, and the node wants the values for its own copy.
    Copy(Projected),
    Place(Projected),
    /// The right is gone, or the secret is: the reason word, and a sentence for people.
    Withdraw {
        reason: &'static str,
        message: String,
    },
}

/// The payloads of one refresh, so that mounts which ask for the same share one.
pub(super) type Payloads = BTreeMap<String, Arc<Payload>>;

/// Mounts whose rights are asked for together.
const ASKED_AT_ONCE: usize = 16;

impl Keeper {
    /// What the mounts of one node have to do because a secret changed. Rights change apart from values, and are asked
    /// again soon for each pod: so the cluster is asked once for each ServiceAccount.
    pub async fn refresh(&self, node: &str, arn: &Arn) -> Vec<(String, Refreshed)> {
        let concerns =
            |wanted: Option<&Arn>, placed: Option<&Arn>| wanted == Some(arn) || placed == Some(arn);
        self.refresh_where(node, Asking::ByAccount, concerns).await
    }

    /// The same for every mount of a node: RBAC tells nobody when it changes, so it is asked again and again.
    pub async fn refresh_node(&self, node: &str) -> Vec<(String, Refreshed)> {
        self.refresh_where(node, Asking::ByPod, |_, _| true).await
    }

    async fn refresh_where(
        &self,
        node: &str,
        asking: Asking,
        concerns: impl Fn(Option<&Arn>, Option<&Arn>) -> bool,
    ) -> Vec<(String, Refreshed)> {
        let mounts: Vec<LiveMount> = {
            let memory = self.memory();
            let concerned = memory.mounts.on_node(node).filter(|mount| {
                let wanted = memory.by_resource.get(&mount.resource());
                concerns(wanted, mount.placed.as_ref().map(|placed| &placed.arn))
            });
            concerned.cloned().collect()
        };
        let may = |mount: LiveMount| async move {
            let right = self.projectable(&mount, asking).await;
            (mount, right)
        };
        let asked: Vec<_> = stream::iter(mounts).map(may).buffered(ASKED_AT_ONCE).collect().await;
        let mut payloads = Payloads::new();
        let mut refreshed = Vec::with_capacity(asked.len());
        for (mount, right) in asked {
            let id = mount.request.mount_id.clone();
            refreshed.push((id, self.refresh_one(mount, right, &mut payloads).await));
        }
        refreshed
    }

    pub(super) async fn refresh_one(
        &self,
        mount: LiveMount,
        right: Result<Projectable, KeeperError>,
        payloads: &mut Payloads,
    ) -> Refreshed {
        let id = mount.request.mount_id.as_str();
        let (reason, message) = match self.due(&mount, right, payloads).await {
            Ok(refreshed) => {
                if let Refreshed::Place(projected) | Refreshed::Copy(projected) = &refreshed {
                    self.set_placed(id, Some(Placed::from(projected)));
                }
                return refreshed;
            }
            Err(KeeperError::Denied(Denied::No(message))) => ("AccessDenied", message),
            Err(error @ KeeperError::NoSuchResource { .. }) => ("SecretRemoved", error.to_string()),
            Err(error) => {
                tracing::warn!(reason = error.reason(), mount_id = id, "a mount could not be refreshed");
                let is_answer =
                    matches!(error, KeeperError::InvalidParameter(_) | KeeperError::NoValueForStage(_));
                return if is_answer { Refreshed::Keep(FirstMounts::Refused) } else { Refreshed::Unknown };
            }
        };
        let Some(placed) = &mount.placed else { return Refreshed::Keep(FirstMounts::Refused) };
        if let Err(error) = self.note_withdrawn(&mount, &placed.arn, reason).await {
            tracing::error!(reason = error.reason(), mount_id = id, "a withdrawal could not be written down");
        }
        self.set_placed(id, None);
        measure::withdrawn(reason);
        Refreshed::Withdraw { reason, message }
    }

    /// What a mount should hold and does not, or that it holds that.
    async fn due(
        &self,
        mount: &LiveMount,
        right: Result<Projectable, KeeperError>,
        payloads: &mut Payloads,
    ) -> Result<Refreshed, KeeperError> {
        let (record, decided) = right?;
        let authorized = decided?;
        if mount.placed.is_none() && record.deletion.is_some() {
            return Ok(Refreshed::Keep(FirstMounts::Refused));
        }
        let selection = Selection::of(authorized.keys(), &mount.wanted.keys);
        if selection.is_nothing() {
            selection.check_complete(&mount.wanted.keys)?;
        }
        let first_mounts = FirstMounts::of(&record, &selection, mount);
        let version = current(&record)?;
        let id = selection.payload_id(&record.arn, &version);
        let placed = mount.placed.as_ref();
        if placed.is_some_and(|placed| placed.payload_id.as_ref() == Some(&id)) {
            return Ok(Refreshed::Keep(first_mounts));
        }
        let payload = match payloads.get(&id) {
            Some(payload) => payload.clone(),
            None => self.payload(&authorized, &record.arn, &version, &selection).await?,
        };
        payloads.insert(id, payload.clone());
        let account_uid = mount.pod.uid().to_owned();
        let projected = Projected { arn: record.arn, version, payload, first_mounts, account_uid };
        // After a restart: the same version under the same names is the same files.
        if placed.is_some_and(|placed| placed.payload_id.is_none() && placed.holds(&projected)) {
            if mount.copy_wanted && first_mounts == FirstMounts::Served {
                return Ok(Refreshed::Copy(projected));
            }
            self.set_placed(&mount.request.mount_id, Some(Placed::from(&projected)));
            return Ok(Refreshed::Keep(first_mounts));
        }
        Ok(Refreshed::Place(projected))
    }
}

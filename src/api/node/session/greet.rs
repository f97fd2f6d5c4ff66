//! The beginning of a stream: the agent names every mount of its node, each is vouched for by its pod's own object,
//! and what the server knows beyond them has been unpublished meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt as _;
use jiff::Timestamp;
use tonic::{Status, Streaming};

use super::{Answer, End, HELLO_MAX, MOUNTS_MAX, Question, Reviewed, Session, unreadable};
use crate::access::Principal;
use crate::api::node::admit;
use crate::api::node::refusal::Refusal;
use crate::cluster::{MountClaim, PodRefused};
use crate::keeper::{FirstMounts, KeeperError, Refreshed};
use crate::wire::node::from_node::Message;
use crate::wire::node::refused::Reason;
use crate::wire::node::{
    self as wire, FromNode, Hello, Keep, Mount, PROTOCOL_VERSION, Recorded, Served, Welcome, Withdraw,
};

/// The largest sum of files that one payload may have: a value as keys and whole, twice over.
pub(super) const PAYLOAD_BYTES_MAX: usize = 4 * 65_536;

/// As many as an agent notes before it serves no more on its own.
const SERVED_MAX: usize = 1024;

impl Session {
    pub(super) async fn greet(&mut self, inbound: &mut Streaming<FromNode>) -> Result<(), End> {
        let hello = match tokio::time::timeout(HELLO_MAX, inbound.next()).await {
            Ok(Some(Ok(FromNode { message: Some(Message::Hello(hello)) }))) => hello,
            Ok(Some(Ok(_))) => return Err(Status::invalid_argument("a stream begins with Hello").into()),
            Ok(Some(Err(wrong))) => return Err(unreadable(&wrong)),
            Ok(None) => return Err(End::Closed),
            Err(_) => return Err(Status::deadline_exceeded("no Hello came").into()),
        };
        self.check(&hello)?;
        let known = self.hub.settings().keeper.mounts_on_node(&self.node).await.map_err(|error| {
            tracing::error!(reason = error.reason(), %error, "the mounts of a node could not be read");
            Status::unavailable("the server cannot read its store now")
        })?;
        let version = PROTOCOL_VERSION;
        self.out
            .send(Welcome { protocol_version: version, payload_bytes_max: PAYLOAD_BYTES_MAX as u64 })
            .await?;
        tracing::info!(mounts = hello.mounts.len(), agent = agent_version(&hello), "a node has come");
        let mut records: BTreeMap<String, Mount> = BTreeMap::new();
        for record in known {
            records.insert(
                record.id.clone(),
                Mount {
                    mount_id: record.id,
                    pod_namespace: record.pod_namespace,
                    pod_name: record.pod_name,
                    pod_uid: record.pod_uid,
                    volume: String::new(),
                    service_account: record.account.name,
                    attributes: record.attributes.into_iter().collect(),
                    ..Mount::default()
                },
            );
        }
        self.take_note(&hello.served).await?;
        for mount in &hello.mounts {
            let record = records.remove(&mount.mount_id);
            self.welcome(mount, record).await?;
        }
        for mount_id in records.into_keys() {
            self.ask(Question::Detach { mount_id }).await?;
        }
        Ok(())
    }

    fn check(&self, hello: &Hello) -> Result<(), Status> {
        if hello.protocol_version != PROTOCOL_VERSION {
            return Err(Status::failed_precondition(format!(
                "the agent speaks version {} of the stream's protocol, this server version {PROTOCOL_VERSION}",
                hello.protocol_version
            )));
        }
        if hello.node_name != self.node {
            return Err(Status::permission_denied("the agent's token is of another node than its Hello"));
        }
        if hello.mounts.len() > MOUNTS_MAX {
            return Err(Status::resource_exhausted(format!("a node has at most {MOUNTS_MAX} mounts")));
        }
        if hello.served.len() > SERVED_MAX {
            return Err(Status::resource_exhausted(format!("a Hello tells of at most {SERVED_MAX} Served")));
        }
        Ok(())
    }

    /// What the node did on its own is written down before its mounts are judged.
    async fn take_note(&mut self, served: &[Served]) -> Result<(), End> {
        for served in served {
            let mount = served.mount.clone().unwrap_or_default();
            match (admit::well_formed(&mount), Timestamp::from_second(served.at_seconds)) {
                (Ok(()), Ok(at)) if !mount.manifest_lost => self.ask(Question::Served { mount, at }).await?,
                _ => tracing::warn!("the node tells of a mount in the trust window that is none"),
            }
        }
        Ok(())
    }

    async fn welcome(&mut self, mount: &Mount, record: Option<Mount>) -> Result<(), End> {
        let mount_id = mount.mount_id.clone();
        if let Err(wrong) = admit::well_formed(mount) {
            return self.withdraw(mount_id, "BadMount", &wrong).await;
        }
        let mount = match (mount.manifest_lost, record) {
            (false, _) => mount.clone(),
            (true, Some(record)) => {
                let known = Mount { volume: mount.volume.clone(), ..record };
                self.lost.insert(mount_id, known.clone());
                known
            }
            (true, None) => {
                return self
                    .withdraw(mount_id, "UnknownMount", "the server has no record of this mount")
                    .await;
            }
        };
        self.waiting.begin(mount.clone(), 0, self.now());
        self.vouch(mount).await
    }

    /// Asks the cluster who the pod of a mount is.
    pub(super) async fn vouch(&mut self, mount: Mount) -> Result<(), End> {
        let hub = Arc::clone(&self.hub);
        let claim = MountClaim {
            pod_namespace: mount.pod_namespace.clone(),
            pod_name: mount.pod_name.clone(),
            pod_uid: mount.pod_uid.clone(),
            node: self.node.clone(),
            service_account: mount.service_account.clone(),
            volume: mount.volume.clone(),
            attributes: mount.attributes.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        };
        self.review(async move {
            let outcome = hub.vouch(&claim).await;
            Reviewed::Object { mount, outcome }
        })
        .await
    }

    pub(super) async fn vouched(
        &mut self,
        mount: Mount,
        outcome: Result<Principal, PodRefused>,
    ) -> Result<(), End> {
        let mount_id = mount.mount_id.clone();
        if !self.waiting.contains(&mount_id) {
            return Ok(());
        }
        match outcome {
            Ok(pod) => self.ask(Question::Resume { mount, pod }).await,
            Err(refused) if refused.is_passing() => {
                self.postpone(&mount, &refused.to_string());
                Ok(())
            }
            // The API has the pod no more: it consumes no more. Its files go with the mount.
            Err(PodRefused::Gone(_)) => {
                self.waiting.forget(&mount_id);
                self.lost.remove(&mount_id);
                let first_mounts = wire::FirstMounts::Refused.into();
                self.out.send(Keep { mount_id: mount_id.clone(), first_mounts }).await?;
                self.ask(Question::Detach { mount_id }).await
            }
            Err(refused) => {
                tracing::warn!(mount_id, reason = refused.reason(), %refused, "a mount is not what the node says");
                self.waiting.forget(&mount_id);
                self.withdraw(mount_id.clone(), refused.reason(), &refused.to_string()).await?;
                self.ask(Question::Detach { mount_id }).await
            }
        }
    }

    pub(super) async fn resumed(
        &mut self,
        mount: Mount,
        outcome: Result<Refreshed, KeeperError>,
    ) -> Result<(), End> {
        let mount_id = mount.mount_id.clone();
        if !self.waiting.contains(&mount_id) {
            // Unpublished meanwhile: the keeper has just learnt of it again.
            return self.ask(Question::Detach { mount_id }).await;
        }
        let refreshed = match outcome {
            Ok(refreshed) => refreshed,
            Err(KeeperError::InvalidParameter(wrong)) => {
                self.waiting.forget(&mount_id);
                return self.withdraw(mount_id, "BadMount", &wrong).await;
            }
            Err(error) => {
                self.postpone(&mount, error.reason());
                return Ok(());
            }
        };
        if !self.waiting.granted(&mount_id, 0) {
            // An Attach for the same mount has begun since; it is answered on its own.
            return Ok(());
        }
        let arn = crate::secret::Arn::parse(&mount.secret_arn);
        self.live.insert(mount_id.clone(), arn);
        let first_mounts = match refreshed {
            Refreshed::Unknown => wire::FirstMounts::Unknown,
            Refreshed::Keep(FirstMounts::Served) => wire::FirstMounts::Served,
            Refreshed::Keep(FirstMounts::Refused) => {
                self.closed.insert(mount_id.clone());
                wire::FirstMounts::Refused
            }
            other => return self.apply(mount_id, other).await,
        };
        Ok(self.out.send(Keep { mount_id, first_mounts: first_mounts.into() }).await?)
    }

    /// Nobody could be asked. The files stay as they are, and the question is asked again.
    fn postpone(&mut self, mount: &Mount, why: &str) {
        let refusal = Refusal::new(Reason::Unavailable, why);
        if self.waiting.refused(&mount.mount_id, 0, None, &refusal) {
            tracing::warn!(mount_id = mount.mount_id, why, "a mount cannot be resumed now");
        }
    }

    pub(super) async fn withdraw(
        &mut self,
        mount_id: String,
        reason: &str,
        message: &str,
    ) -> Result<(), End> {
        let dropped = self.payloads.release(&mount_id);
        self.out.send(Withdraw { mount_id, reason: format!("{reason}: {message}") }).await?;
        self.drop_payload(dropped).await
    }

    pub(super) async fn answered(&mut self, answer: Answer) -> Result<(), End> {
        match answer {
            Answer::Attached { request_id, mount, pod, outcome: Ok(projected) } => {
                self.attached(request_id, mount, pod, projected).await
            }
            Answer::Attached { request_id, mount, pod, outcome: Err(refusal) } => {
                self.refuse(request_id, &mount, Some(pod), &refusal).await
            }
            Answer::Recorded { mount_id } => Ok(self.out.send(Recorded { mount_id }).await?),
            Answer::Resumed { mount, outcome } => self.resumed(mount, outcome).await,
            Answer::Refreshed(all) => self.refreshed(all).await,
        }
    }
}

/// Shown in a log: bounded, whatever the agent says.
fn agent_version(hello: &Hello) -> String {
    hello.agent_version.chars().take(64).collect()
}

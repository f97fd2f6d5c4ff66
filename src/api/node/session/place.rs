//! What goes down the stream: payloads, once each, and what the mounts are to do with them.
//! Must not send more than it promised in Welcome.

use super::greet::PAYLOAD_BYTES_MAX;
use super::{End, Session};
use crate::access::Principal;
use crate::api::node::refusal::Refusal;
use crate::keeper::{FirstMounts, Payload as Files, Projected, Refreshed};
use crate::wire::node::refused::Reason;
use crate::wire::node::{self as wire, DropPayload, File, Keep, Mount, Payload, Place};

impl Session {
    /// A first mount gets its files.
    pub(super) async fn attached(
        &mut self,
        request_id: u64,
        mount: Mount,
        pod: Principal,
        projected: Projected,
    ) -> Result<(), End> {
        if size(&projected.payload) > PAYLOAD_BYTES_MAX {
            let refusal = Refusal::new(Reason::TooLarge, too_large(&projected.payload));
            self.refuse(request_id, &mount, Some(pod), &refusal).await?;
            return self.ask(super::Question::Detach { mount_id: mount.mount_id }).await;
        }
        let mount_id = mount.mount_id;
        if self.waiting.granted(&mount_id, request_id) {
            return self.place(mount_id, request_id, &projected, false).await;
        }
        if !self.waiting.contains(&mount_id) && !self.live.contains_key(&mount_id) {
            // Given up meanwhile: the keeper must not count it as a consumer.
            return self.ask(super::Question::Detach { mount_id }).await;
        }
        Ok(())
    }

    pub(super) async fn refreshed(&mut self, all: Vec<(String, Refreshed)>) -> Result<(), End> {
        self.refreshing = false;
        for (mount_id, refreshed) in all {
            // What this stream has not announced is not its own; what waits is answered by its own question.
            if self.live.contains_key(&mount_id) {
                self.apply(mount_id, refreshed).await?;
            }
        }
        self.refresh().await
    }

    pub(super) async fn apply(&mut self, mount_id: String, refreshed: Refreshed) -> Result<(), End> {
        match refreshed {
            Refreshed::Unknown => Ok(()),
            Refreshed::Keep(FirstMounts::Served) => {
                self.closed.remove(&mount_id);
                Ok(())
            }
            Refreshed::Keep(FirstMounts::Refused) => {
                if self.closed.insert(mount_id.clone()) {
                    let first_mounts = wire::FirstMounts::Refused.into();
                    self.out.send(Keep { mount_id, first_mounts }).await?;
                }
                Ok(())
            }
            Refreshed::Place(projected) | Refreshed::Copy(projected)
                if size(&projected.payload) > PAYLOAD_BYTES_MAX =>
            {
                tracing::error!(mount_id, "{}", too_large(&projected.payload));
                Ok(())
            }
            Refreshed::Copy(projected) => self.place(mount_id, 0, &projected, true).await,
            Refreshed::Place(projected) => self.place(mount_id, 0, &projected, false).await,
            Refreshed::Withdraw { reason, message } => {
                tracing::info!(mount_id, reason, "files are withdrawn");
                self.live.insert(mount_id.clone(), None);
                self.withdraw(mount_id, reason, &message).await
            }
        }
    }

    async fn place(
        &mut self,
        mount_id: String,
        request_id: u64,
        projected: &Projected,
        copy_only: bool,
    ) -> Result<(), End> {
        let used = self.payloads.place(&mount_id, &projected.payload.id);
        let secret_arn = projected.arn.to_string();
        let version_id = projected.version.to_string();
        if used.is_new {
            metrics::counter!("tidelock_stream_payloads_sent_total").increment(1);
            self.out
                .send(Payload {
                    payload_id: used.payload_id,
                    secret_arn: secret_arn.clone(),
                    version_id: version_id.clone(),
                    files: files(&projected.payload),
                })
                .await?;
        }
        let mount = self.lost.remove(&mount_id);
        self.live.insert(mount_id.clone(), Some(projected.arn.clone()));
        metrics::counter!("tidelock_stream_places_sent_total").increment(1);
        let first_mounts = match projected.first_mounts {
            FirstMounts::Served => {
                self.closed.remove(&mount_id);
                wire::FirstMounts::Served
            }
            FirstMounts::Refused => {
                self.closed.insert(mount_id.clone());
                wire::FirstMounts::Refused
            }
        };
        let place = Place {
            mount_id,
            request_id,
            payload_id: used.payload_id,
            secret_arn,
            version_id,
            mount,
            copy_only,
            first_mounts: first_mounts.into(),
            account_uid: projected.account_uid.clone(),
        };
        self.out.send(place).await?;
        self.drop_payload(used.dropped).await
    }

    pub(super) async fn refuse(
        &mut self,
        request_id: u64,
        mount: &Mount,
        pod: Option<Principal>,
        refusal: &Refusal,
    ) -> Result<(), End> {
        if self.waiting.refused(&mount.mount_id, request_id, pod, refusal) {
            let pod = format!("{}/{}", mount.pod_namespace, mount.pod_name);
            tracing::info!(pod, reason = refusal.reason.as_str_name(), "a first mount waits");
            self.out.send(refusal.message(request_id, &mount.mount_id)).await?;
        }
        Ok(())
    }

    pub(super) async fn release(&mut self, mount_id: &str) -> Result<(), End> {
        let dropped = self.payloads.release(mount_id);
        self.drop_payload(dropped).await
    }

    pub(super) async fn drop_payload(&mut self, dropped: Option<u64>) -> Result<(), End> {
        if let Some(payload_id) = dropped {
            self.out.send(DropPayload { payload_id }).await?;
        }
        Ok(())
    }
}

/// The copy that goes out; wiped by the message's own drop.
fn files(payload: &Files) -> Vec<File> {
    let file = |(name, content): &(String, crate::secret::Plaintext)| File {
        name: name.clone(),
        content: content.expose().to_vec(),
    };
    payload.files.iter().map(file).collect()
}

fn size(payload: &Files) -> usize {
    payload.files.iter().map(|(name, content)| name.len() + content.len()).sum()
}

fn too_large(payload: &Files) -> String {
    format!(
        "the files of this volume have {} bytes together, at most {PAYLOAD_BYTES_MAX} are sent",
        size(payload)
    )
}

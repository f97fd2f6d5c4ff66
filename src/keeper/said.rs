//! What a resource policy may ask about a request: what the request says, what the secret is, who asks and when.
//! Must not decide, nor put a value of a secret under any key.

use std::collections::BTreeMap;

use super::authorise::Asked;
use super::{Keeper, KeeperError};
use crate::access::{Denied, Operation, Principal};
use crate::policy::{Asker, Context, Policy};
use crate::secret::{Stage, VersionId};

const STAGE: &str = "secretsmanager:VersionStage";

/// What a request to read or move a version says: what it names, and nothing that it does not.
pub(super) fn of_version(version: Option<&VersionId>, stage: Option<&Stage>) -> Context {
    let mut said = Context::default();
    version.into_iter().for_each(|version| said.put("secretsmanager:VersionId", version.as_str()));
    stage.into_iter().for_each(|stage| said.put(STAGE, stage.as_str()));
    said
}

/// Files hold the version that bears AWSCURRENT, always.
pub(super) fn of_projection() -> Context {
    of_version(None, Some(&Stage::current()))
}

pub(super) fn of_description(description: Option<&str>) -> Context {
    let mut said = Context::default();
    description.into_iter().for_each(|text| said.put("secretsmanager:Description", text));
    said
}

pub(super) fn of_tags(said: &mut Context, tags: &BTreeMap<String, String>) {
    said.put_tags("aws:RequestTag", tags);
    tags.keys().for_each(|key| said.put("aws:TagKeys", key));
}

impl Keeper {
    /// All that is known of one request. The tags of whoever asks cost a question, so they are there only for a policy
    /// that asks for them.
    pub(super) async fn context(
        &self,
        asked: &Asked<'_>,
        asker: &Asker,
        policy: &Policy,
    ) -> Result<Result<Context, Denied>, KeeperError> {
        let (mut context, record, now) = (asked.said.clone(), asked.record, self.now());
        context.put("aws:CurrentTime", now.to_string());
        context.put("aws:EpochTime", now.as_second().to_string());
        context.put("aws:PrincipalArn", asker.principal_arn());
        context.put("secretsmanager:SecretId", record.arn.as_str());
        for tags in record.tags.iter().filter(|_| asked.act.operation != Operation::Create) {
            context.put_tags("aws:ResourceTag", tags);
            context.put_tags("secretsmanager:ResourceTag", tags);
        }
        match asked.act.by {
            // Without TLS, and to this machine only.
            Principal::Local => {
                context.put("aws:SecureTransport", "false");
                context.put("aws:SourceIp", "127.0.0.1");
            }
            Principal::ServiceAccount { via, .. } => {
                context.put("aws:SecureTransport", "true");
                via.address.iter().for_each(|address| {
                    context.put("aws:SourceIp", address.to_canonical().to_string());
                });
            }
            Principal::Controller => {}
        }
        if policy.asks_for_principal_tags() {
            match self.ports.rights.tags(asked.act.by).await {
                Ok(tags) => context.put_tags("aws:PrincipalTag", &tags),
                Err(why) => {
                    return Ok(Err(Denied::Unknown {
                        who: asked.act.by.to_string(),
                        verb: asked.act.operation.verb(),
                        name: record.name.to_string(),
                        why,
                    }));
                }
            }
        }
        Ok(Ok(context))
    }
}

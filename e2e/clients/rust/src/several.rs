//! The second half of the story: several secrets, policies, rotation and replication.

use aws_sdk_secretsmanager::error::ProvideErrorMetadata as _;
use aws_sdk_secretsmanager::types::{Filter, FilterNameStringType, ReplicaRegionType, RotationRulesType};

use super::{Outcome, Story, equal, expect, refused};

const NO_REPLICATION: &str = "Replication is not supported by this version of Tidelock.";

impl Story {
    pub(super) async fn batch_get_secret_value(&self) -> Outcome {
        let batch = self.client.batch_get_secret_value().secret_id_list(&self.id).secret_id_list(&self.bytes);
        let found = batch.secret_id_list(format!("{}/none", self.place)).send().await?;
        let named = |name: &str| found.secret_values().iter().find(|each| each.name() == Some(name));
        equal(named(&self.id).and_then(|each| each.secret_string()), Some("third"))?;
        let binary = named(&self.bytes).and_then(|each| each.secret_binary());
        expect(binary.is_some_and(|found| found.as_ref() == self.every), "other bytes")?;
        let errors: Vec<_> = found.errors().iter().filter_map(|each| each.error_code()).collect();
        equal(errors, vec!["ResourceNotFoundException"])
    }

    pub(super) async fn list_secrets(&self) -> Outcome {
        let ours =
            Filter::builder().key(FilterNameStringType::Name).values(format!("{}/", self.place)).build();
        let mut listing = self.client.list_secrets().filters(ours).into_paginator().page_size(1).send();
        let (mut pages, mut found) = (0, Vec::new());
        while let Some(page) = listing.next().await {
            pages += 1;
            found.extend(page?.secret_list().iter().filter_map(|each| each.name().map(str::to_owned)));
        }
        expect(pages > 1, "one page")?;
        found.sort();
        equal(found, vec![self.bytes.clone(), self.id.clone()])
    }

    fn policy(&self) -> String {
        let namespace = self.place.split('/').next().unwrap_or_default();
        let principal = format!("arn:aws:iam::000000000000:role/{namespace}/nobody");
        format!(
            "{{\"Version\":\"2012-10-17\",\"Statement\":[{{\"Effect\":\"Deny\",\"Principal\":{{\"AWS\":\"{principal}\"}},\
             \"Action\":\"secretsmanager:GetSecretValue\",\"Resource\":\"*\"}}]}}"
        )
    }

    pub(super) async fn put_resource_policy(&self) -> Outcome {
        let put = || self.client.put_resource_policy().secret_id(&self.id);
        put().resource_policy(self.policy()).block_public_policy(true).send().await?;
        let malformed = put().resource_policy("{\"Statement\": 1}").send().await;
        refused(malformed, |error| error.is_malformed_policy_document_exception(), "Statement")
    }

    pub(super) async fn get_resource_policy(&self) -> Outcome {
        let found = self.client.get_resource_policy().secret_id(&self.id).send().await?;
        equal(found.resource_policy(), Some(self.policy().as_str()))
    }

    pub(super) async fn validate_resource_policy(&self) -> Outcome {
        let validate = || self.client.validate_resource_policy().secret_id(&self.id);
        let found = validate().resource_policy(self.policy()).send().await?;
        equal(found.policy_validation_passed(), true)?;
        let public =
            "{\"Statement\":{\"Effect\":\"Allow\",\"Principal\":\"*\",\"Action\":\"*\",\"Resource\":\"*\"}}";
        let found = validate().resource_policy(public).send().await?;
        let checks: Vec<_> = found.validation_errors().iter().filter_map(|each| each.check_name()).collect();
        equal(checks.first(), Some(&"BROAD_ACCESS"))
    }

    pub(super) async fn delete_resource_policy(&self) -> Outcome {
        self.client.delete_resource_policy().secret_id(&self.id).send().await?;
        let found = self.client.get_resource_policy().secret_id(&self.id).send().await?;
        equal(found.resource_policy(), None)
    }

    pub(super) async fn rotate_secret(&self) -> Outcome {
        let rotate = || self.client.rotate_secret().secret_id(&self.id);
        let unknown = rotate().rotation_lambda_arn("nobody").send().await;
        let text = "cannot invoke the specified Lambda function";
        refused(unknown, |error| error.code() == Some("AccessDeniedException"), text)?;
        let rules = RotationRulesType::builder().automatically_after_days(30).build();
        let rotating = rotate().rotation_lambda_arn("generate").rotation_rules(rules.clone()).send().await?;
        let found = self.describe().await?;
        equal((found.rotation_enabled(), found.rotation_lambda_arn()), (Some(true), Some("generate")))?;
        equal(found.rotation_rules(), Some(&rules))?;
        let stages = found.version_ids_to_stages().and_then(|all| all.get(rotating.version_id()?));
        equal(stages.map(|stages| stages.join(" ")), Some("AWSPENDING".to_owned()))?;
        let text = "A previous rotation isn't complete.";
        refused(rotate().send().await, |error| error.is_invalid_request_exception(), text)
    }

    pub(super) async fn cancel_rotate_secret(&self) -> Outcome {
        self.client.cancel_rotate_secret().secret_id(&self.id).send().await?;
        equal(self.describe().await?.rotation_enabled(), Some(false))
    }

    pub(super) async fn replicate_secret_to_regions(&self) -> Outcome {
        let region = ReplicaRegionType::builder().region("eu-west-1").build();
        let answer =
            self.client.replicate_secret_to_regions().secret_id(&self.id).add_replica_regions(region);
        refused(answer.send().await, |error| error.is_invalid_request_exception(), NO_REPLICATION)
    }

    pub(super) async fn remove_regions_from_replication(&self) -> Outcome {
        let answer = self.client.remove_regions_from_replication().secret_id(&self.id);
        let answer = answer.remove_replica_regions("eu-west-1").send().await;
        refused(answer, |error| error.is_invalid_request_exception(), NO_REPLICATION)
    }

    pub(super) async fn stop_replication_to_replica(&self) -> Outcome {
        let answer = self.client.stop_replication_to_replica().secret_id(&self.id).send().await;
        refused(answer, |error| error.is_invalid_request_exception(), NO_REPLICATION)
    }
}

//! AWS's SDK for Rust: the story of ../python/story.py. Must take nothing but its environment.

mod several;
mod single;

use std::error::Error;
use std::fmt::Debug;
use std::process::ExitCode;

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_secretsmanager::operation::describe_secret::DescribeSecretOutput;

const TEXT: &str = "{\"username\": \"admin\", \"password\": \"a\\\"b\\\\c\u{e4}\u{20ac}\u{1f600}\"}";

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

struct Story {
    client: Client,
    /// Under the namespace and name of our ServiceAccount.
    place: String,
    id: String,
    bytes: String,
    every: Vec<u8>,
    versions: Vec<String>,
}

fn equal<T: PartialEq + Debug>(found: T, wanted: T) -> Outcome {
    if found == wanted { Ok(()) } else { Err(format!("{found:?} is not {wanted:?}").into()) }
}

fn expect(holds: bool, what: &str) -> Outcome {
    if holds { Ok(()) } else { Err(what.into()) }
}

/// The call must end with an error that the client makes this of, with this text.
fn refused<T: Debug, E>(result: Result<T, SdkError<E>>, is: impl Fn(&E) -> bool, text: &str) -> Outcome
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    match result {
        Err(SdkError::ServiceError(error))
            if is(error.err()) && error.err().message().is_some_and(|said| said.contains(text)) =>
        {
            Ok(())
        }
        Err(error) => Err(format!("{} is not: {text}", DisplayErrorContext(error)).into()),
        Ok(answer) => Err(format!("no error, but {answer:?}").into()),
    }
}

impl Story {
    async fn current(&self) -> Outcome<String> {
        self.at("AWSCURRENT").await
    }

    async fn at(&self, stage: &str) -> Outcome<String> {
        let found = self.client.get_secret_value().secret_id(&self.id).version_stage(stage).send().await?;
        Ok(found.secret_string().unwrap_or_default().to_owned())
    }

    async fn describe(&self) -> Outcome<DescribeSecretOutput> {
        Ok(self.client.describe_secret().secret_id(&self.id).send().await?)
    }

    async fn tags(&self) -> Outcome<String> {
        let found = self.describe().await?;
        let tag = |tag: &aws_sdk_secretsmanager::types::Tag| {
            format!("{}={}", tag.key().unwrap_or_default(), tag.value().unwrap_or_default())
        };
        let mut tags: Vec<_> = found.tags().iter().map(tag).collect();
        tags.sort();
        Ok(tags.join(" "))
    }

    async fn step(&mut self, operation: &str) -> Outcome {
        match operation {
            "GetRandomPassword" => self.get_random_password().await,
            "CreateSecret" => self.create_secret().await,
            "GetSecretValue" => self.get_secret_value().await,
            "DescribeSecret" => self.describe_secret().await,
            "PutSecretValue" => self.put_secret_value().await,
            "UpdateSecretVersionStage" => self.update_secret_version_stage().await,
            "ListSecretVersionIds" => self.list_secret_version_ids().await,
            "UpdateSecret" => self.update_secret().await,
            "TagResource" => self.tag_resource().await,
            "UntagResource" => self.untag_resource().await,
            "BatchGetSecretValue" => self.batch_get_secret_value().await,
            "ListSecrets" => self.list_secrets().await,
            "PutResourcePolicy" => self.put_resource_policy().await,
            "GetResourcePolicy" => self.get_resource_policy().await,
            "ValidateResourcePolicy" => self.validate_resource_policy().await,
            "DeleteResourcePolicy" => self.delete_resource_policy().await,
            "RotateSecret" => self.rotate_secret().await,
            "CancelRotateSecret" => self.cancel_rotate_secret().await,
            "ReplicateSecretToRegions" => self.replicate_secret_to_regions().await,
            "RemoveRegionsFromReplication" => self.remove_regions_from_replication().await,
            "StopReplicationToReplica" => self.stop_replication_to_replica().await,
            "DeleteSecret" => self.delete_secret().await,
            "RestoreSecret" => self.restore_secret().await,
            other => Err(format!("no step {other}").into()),
        }
    }
}

const OPERATIONS: [&str; 23] = [
    "GetRandomPassword",
    "CreateSecret",
    "GetSecretValue",
    "DescribeSecret",
    "PutSecretValue",
    "UpdateSecretVersionStage",
    "ListSecretVersionIds",
    "UpdateSecret",
    "TagResource",
    "UntagResource",
    "BatchGetSecretValue",
    "ListSecrets",
    "PutResourcePolicy",
    "GetResourcePolicy",
    "ValidateResourcePolicy",
    "DeleteResourcePolicy",
    "RotateSecret",
    "CancelRotateSecret",
    "ReplicateSecretToRegions",
    "RemoveRegionsFromReplication",
    "StopReplicationToReplica",
    "DeleteSecret",
    "RestoreSecret",
];

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::disallowed_methods, reason = "a client of a pod knows itself by its environment")]
async fn main() -> ExitCode {
    let role = std::env::var("AWS_ROLE_ARN").unwrap_or_default();
    let place = role.split_once(":role/").map(|(_, place)| place.to_owned()).unwrap_or_default();
    let mut story = Story {
        client: Client::new(&aws_config::load_from_env().await),
        id: format!("{place}/db"),
        bytes: format!("{place}/bytes"),
        place,
        every: (0..=u8::MAX).collect(),
        versions: Vec::new(),
    };
    for operation in OPERATIONS {
        // Nothing after the first that fails.
        if let Err(error) = story.step(operation).await {
            println!("{operation} failed {}", DisplayErrorContext(&*error).to_string().replace('\n', " "));
            return ExitCode::FAILURE;
        }
        println!("{operation} ok");
    }
    ExitCode::SUCCESS
}

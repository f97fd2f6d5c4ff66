//! The way to the server's AWS API: a port-forward to its pod, TLS to its own certificates, and the identity of a
//! ServiceAccount that the person names. A kubeconfig itself proves nothing to our server.
//! Must not hold a token longer than the command runs.

use clap::Args;
use futures::StreamExt;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ServiceAccount};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::wrappers::TcpListenerStream;

use super::{CliError, SettingsFile};
use crate::wire::aws;

/// Where the server is, and as whom to ask it.
#[derive(Args, Debug, Clone)]
pub struct ServerTarget {
    /// The namespace that Tidelock is installed in.
    #[arg(long, default_value = "tidelock-system", value_name = "NAMESPACE")]
    pub server_namespace: String,
    /// The name of the installation in tokens. Default: `tidelock.<server namespace>`.
    #[arg(long, value_name = "NAME")]
    pub installation: Option<String>,
}

const API_PORT: u16 = 8444;
const TRUST: &str = "tidelock-ca";
const SERVER: &str = "app.kubernetes.io/name=tidelock,app.kubernetes.io/component=server";
/// The shortest life that Kubernetes gives a token.
const TOKEN_SECONDS: i64 = 600;

/// A ServiceAccount that a person may make tokens for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub namespace: String,
    pub name: String,
}

impl Account {
    /// From `namespace/name`.
    pub fn parse(text: &str) -> Option<Self> {
        let (namespace, name) = text.split_once('/')?;
        let is_name =
            |word: &str| !word.is_empty() && !word.contains(|c: char| c == '/' || c.is_whitespace());
        (is_name(namespace) && is_name(name))
            .then(|| Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }

    /// The same as a flag's value.
    pub fn flag(text: &str) -> Result<Self, String> {
        Self::parse(text).ok_or_else(|| "write namespace/name, such as shop/orders-api".to_owned())
    }
}

/// The account that was given, or the one that is settled for each time.
pub fn account(given: Option<&Account>, settings: &SettingsFile, what: &str) -> Result<Account, CliError> {
    let settled = match given {
        Some(given) => Some(given.clone()),
        None => settings.read()?.service_account,
    };
    settled.ok_or_else(|| {
        CliError::Refused(format!(
            "as whom? {what} as a ServiceAccount that may do so and that you may make tokens for: add \
             --service-account NAMESPACE/NAME, or write `serviceAccount: NAMESPACE/NAME` into {}",
            settings.shown()
        ))
    })
}

/// A client of the AWS API that acts as the ServiceAccount, by the person's own right to make tokens for it.
pub async fn connect(
    client: &Client,
    target: &ServerTarget,
    account: &Account,
) -> Result<aws::Api, CliError> {
    let credential = aws::Credential::Token(token(client, target, account).await?);
    let ca = trust(client, target).await?;
    let port = forward(client, target).await?;
    aws::Api::trusting(&format!("https://localhost:{port}"), &ca, credential)
        .map_err(|error| CliError::Refused(error.to_string()))
}

async fn token(client: &Client, target: &ServerTarget, account: &Account) -> Result<aws::Token, CliError> {
    let Account { namespace, name } = account;
    let installation =
        target.installation.clone().unwrap_or_else(|| format!("tidelock.{}", target.server_namespace));
    let spec = TokenRequestSpec {
        audiences: vec![format!("{installation}/api")],
        expiration_seconds: Some(TOKEN_SECONDS),
        ..TokenRequestSpec::default()
    };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let made = accounts.create_token_request(name, &PostParams::default(), &request).await;
    let made = made.map_err(|error| match error {
        kube::Error::Api(status) if status.code == 404 => CliError::Refused(format!(
            "there is no ServiceAccount {namespace}/{name} to make a token for: correct --service-account, or \
             serviceAccount in your settings"
        )),
        other => other.into(),
    })?;
    let nothing = || CliError::Kube(format!("the cluster made no token for {namespace}/{name}"));
    made.status.map(|status| aws::Token::new(status.token)).ok_or_else(nothing)
}

async fn trust(client: &Client, target: &ServerTarget) -> Result<String, CliError> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &target.server_namespace);
    let found = maps.get_opt(TRUST).await?.and_then(|map| map.data?.remove("ca.crt"));
    found.ok_or_else(|| {
        CliError::Refused(format!(
            "namespace {} has no ConfigMap {TRUST} with ca.crt: name the right one with --server-namespace",
            target.server_namespace
        ))
    })
}

/// A local port that leads to the server's pod until this process ends.
async fn forward(client: &Client, target: &ServerTarget) -> Result<u16, CliError> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &target.server_namespace);
    let list = pods.list(&ListParams::default().labels(SERVER)).await?;
    let running = list
        .items
        .iter()
        .find(|pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running"));
    let pod = running.map(ResourceExt::name_any).ok_or_else(|| {
        CliError::Refused(format!("no server of Tidelock runs in namespace {}", target.server_namespace))
    })?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    // It ends with the process: a command is one call.
    tokio::spawn(async move {
        let mut callers = TcpListenerStream::new(listener);
        while let Some(Ok(caller)) = callers.next().await {
            tokio::spawn(carry(pods.clone(), pod.clone(), caller));
        }
    });
    Ok(port)
}

async fn carry(pods: Api<Pod>, pod: String, mut caller: TcpStream) {
    let Ok(mut forwarder) = pods.portforward(&pod, &[API_PORT]).await else { return };
    if let Some(mut stream) = forwarder.take_stream(API_PORT) {
        // An end on either side is an end; the caller's TLS tells a cut from a close.
        let _ = tokio::io::copy_bidirectional(&mut caller, &mut stream).await;
    }
}

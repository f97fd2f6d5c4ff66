//! Keeps the server's certificates: makes the authority once, publishes what to trust, renews the leaf in memory, and
//! puts back the caBundle of our webhook where `kubectl replace` has wiped it.
//! Must not overwrite an authority that it cannot read, nor make a webhook configuration that nobody installed.
//!
//! Every replica runs this: what is written is either made once (`create`), guarded by a resourceVersion, or the same
//! whoever writes it.

mod objects;

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use jiff::Timestamp;
use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::pki::{Authority, Certificates, Change, Leaf, Lifetimes, PkiError};
use crate::telemetry::Component;
use objects::{Objects, Stored};

/// How often objects are looked at that are not watched, and the webhook's in case the watch has missed something.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// For all requests of one round together.
const ROUND_TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Debug, Clone)]
pub struct TrustSettings {
    /// Our own namespace, where the authority lies.
    pub namespace: String,
    /// The Secret with the authority.
    pub secret: String,
    /// The ConfigMap with the bundle, key `ca.crt`: `tidelock-ca`.
    pub config_map: String,
    /// Namespaces beside our own in which the ConfigMap is published.
    pub more_namespaces: Vec<String>,
    /// The MutatingWebhookConfiguration of the chart.
    pub webhook_configuration: String,
    /// In the name of the authority, for people.
    pub installation: String,
    /// Under which the server is reached: `<service>.<namespace>.svc` and its longer forms.
    pub server_names: Vec<String>,
    pub lifetimes: Lifetimes,
}

#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("cannot {what}: {source}")]
    Ask { what: &'static str, source: Box<kube::Error> },
    #[error("the API server did not answer within {} s", ROUND_TIMEOUT.as_secs())]
    TooSlow,
    #[error("Secret {secret}: {source}")]
    Authority { secret: String, source: PkiError },
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error("somebody else has just written {0}; looking again")]
    Outrun(&'static str),
}

impl TrustError {
    fn reason(&self) -> &'static str {
        match self {
            TrustError::Ask { .. } | TrustError::TooSlow => "APIServerUnavailable",
            TrustError::Authority { .. } => "AuthorityUnreadable",
            TrustError::Pki(_) => "CertificateNotMade",
            TrustError::Outrun(_) => "Outrun",
        }
    }
}

/// The loop. What it makes is in `Certificates`, for TLS, and in the bundle, for rotation Jobs.
pub struct Trust {
    settings: TrustSettings,
    objects: Objects,
    clock: Arc<dyn Clock>,
    certificates: Arc<Certificates>,
    component: Component,
    bundle: watch::Sender<Arc<str>>,
    authority: Option<Authority>,
    leaf: Option<Leaf>,
}

impl Trust {
    pub fn new(
        client: Client,
        settings: TrustSettings,
        clock: Arc<dyn Clock>,
        certificates: Arc<Certificates>,
        component: Component,
    ) -> Trust {
        let objects = Objects::new(client, &settings);
        let bundle = watch::Sender::new(Arc::from(""));
        Trust { settings, objects, clock, certificates, component, bundle, authority: None, leaf: None }
    }

    /// The certificates to trust, as PEM; empty until the first round.
    pub fn bundle(&self) -> watch::Receiver<Arc<str>> {
        self.bundle.subscribe()
    }

    pub async fn run(mut self, shutdown: CancellationToken) {
        let changes = self.objects.webhook_changes();
        let mut changes = std::pin::pin!(changes);
        let mut retry = RETRY_MIN;
        loop {
            let wait = match self.round().await {
                Ok(()) => {
                    retry = RETRY_MIN;
                    self.component.ready();
                    self.until_due()
                }
                Err(error) => {
                    self.report(&error);
                    let wait = retry;
                    retry = (retry * 2).min(RETRY_MAX);
                    // A leaf is renewed in time also while the API server is away.
                    wait.min(self.until_due())
                }
            };
            let waited = shutdown.run_until_cancelled(wait_for(wait, &mut changes)).await;
            if waited.is_none() {
                return;
            }
        }
    }

    /// One look at everything. Certificates come first: they need nobody once the authority is known.
    async fn round(&mut self) -> Result<(), TrustError> {
        self.renew_leaf()?;
        tokio::time::timeout(ROUND_TIMEOUT, self.reconcile()).await.unwrap_or(Err(TrustError::TooSlow))
    }

    async fn reconcile(&mut self) -> Result<(), TrustError> {
        // 1. Observe the authority, or make it.
        let stored = match self.objects.authority().await? {
            Some(stored) => stored,
            None => self.create().await?,
        };
        // 2. Move it on if its time has come, and store that before anybody sees it.
        let authority = self.advance(stored).await?;
        // 3. Publish what to trust before showing a leaf of it.
        let bundle = authority.bundle(self.clock.now());
        self.objects.publish(&bundle).await?;
        self.objects.restore_ca_bundle(&bundle).await?;
        // 4. Show a leaf of this authority.
        let is_other = **self.bundle.borrow() != *bundle;
        self.authority = Some(authority);
        if is_other {
            self.leaf = None;
            self.bundle.send_replace(Arc::from(bundle));
        }
        self.renew_leaf()
    }

    async fn create(&self) -> Result<Stored, TrustError> {
        let authority =
            Authority::create(&self.settings.installation, self.settings.lifetimes, self.clock.now())?;
        let stored = self.objects.create(authority).await?;
        tracing::info!(secret = self.settings.secret, "certificate authority made");
        Ok(stored)
    }

    async fn advance(&self, stored: Stored) -> Result<Authority, TrustError> {
        let Stored { mut authority, version } = stored;
        let now = self.clock.now();
        match authority.advance(&self.settings.installation, self.settings.lifetimes, now)? {
            Change::None => Ok(authority),
            change => {
                let authority = self.objects.replace(authority, version).await?;
                tracing::info!(?change, "certificate authority moved on");
                Ok(authority)
            }
        }
    }

    fn renew_leaf(&mut self) -> Result<(), TrustError> {
        let now = self.clock.now();
        let is_fresh = self.leaf.as_ref().is_some_and(|leaf| now < leaf.renew_at());
        if let Some(authority) = self.authority.as_ref().filter(|_| !is_fresh) {
            let leaf = authority.issue(&self.settings.server_names, self.settings.lifetimes, now)?;
            self.certificates.show(&leaf);
            tracing::debug!(ends = %leaf.ends(), "serving certificate renewed");
            self.leaf = Some(leaf);
        }
        Ok(())
    }

    /// How long there is nothing to do.
    fn until_due(&self) -> Duration {
        let now = self.clock.now();
        let leaf = self.leaf.as_ref().map(Leaf::renew_at);
        let authority = self.authority.as_ref().map(Authority::advance_at);
        let due = leaf.into_iter().chain(authority).min().unwrap_or(Timestamp::MAX);
        Duration::try_from(due.duration_since(now)).unwrap_or_default().min(LOOK_INTERVAL)
    }

    /// Without a leaf nothing can be served; with one, an API server that is away is no reason to stop.
    fn report(&self, error: &TrustError) {
        let is_served = self.leaf.as_ref().is_some_and(|leaf| self.clock.now() < leaf.ends());
        if is_served {
            tracing::warn!(reason = error.reason(), %error, "trust not kept up");
        } else {
            self.component.not_ready(error.reason(), error.to_string());
        }
    }
}

async fn wait_for(wait: Duration, changes: &mut (impl Stream<Item = ()> + Unpin)) {
    tokio::select! {
        () = tokio::time::sleep(wait) => {}
        Some(()) = changes.next() => {}
    }
}

//! What the API server counted of all requests to it. Must not count what it asks of itself, nor this test's own looks.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Result;
use kube::Client;

/// Requests by verb and resource, as `PATCH managedsecrets/status`.
#[derive(Debug, Clone, Default)]
pub struct Requests(BTreeMap<String, u64>);

impl Requests {
    pub async fn so_far(client: &Client) -> Result<Self> {
        let page = client.request_text(http::Request::get("/metrics").body(Vec::new())?).await?;
        let mut counted = BTreeMap::new();
        for line in page.lines().filter_map(|line| line.strip_prefix("apiserver_request_total{")) {
            let Some((labels, count)) = line.rsplit_once("} ") else { continue };
            let label = |name: &str| {
                let (_, rest) = labels.split_once(&format!("{name}=\""))?;
                rest.split_once('"').map(|(value, _)| value)
            };
            let (resource, part) =
                (label("resource").unwrap_or_default(), label("subresource").unwrap_or_default());
            // Without a resource: health and metrics.
            if resource.is_empty() {
                continue;
            }
            let slash = if part.is_empty() { "" } else { "/" };
            let key = format!("{} {resource}{slash}{part}", label("verb").unwrap_or_default());
            *counted.entry(key).or_default() += count.parse::<f64>()? as u64;
        }
        Ok(Self(counted))
    }

    pub fn since(&self, before: &Self) -> Self {
        let more = self.0.iter().map(|(key, count)| (key.clone(), count - before.0.get(key).unwrap_or(&0)));
        Self(more.filter(|(_, count)| *count > 0).collect())
    }

    pub fn all(&self) -> u64 {
        self.0.values().sum()
    }

    pub fn events(&self) -> u64 {
        self.0.iter().filter(|(key, _)| key.ends_with(" events")).map(|(_, count)| count).sum()
    }

    pub fn status_writes(&self) -> u64 {
        let of_status = |key: &&String| key.ends_with(" managedsecrets/status") && !key.starts_with("GET");
        self.0.keys().filter(of_status).map(|key| self.0[key]).sum()
    }
}

impl fmt::Display for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<_> = self.0.iter().map(|(key, count)| format!("{count} {key}")).collect();
        f.write_str(&parts.join(", "))
    }
}

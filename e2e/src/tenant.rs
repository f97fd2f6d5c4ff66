//! Somebody with rights in one namespace of a cluster: kubectl with a kubeconfig of his own.
//! Must not know how Tidelock works inside.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{Cluster, program};

pub struct Tenant<'a> {
    /// How the cluster calls him.
    pub user: String,
    pub namespace: String,
    cluster: &'a Cluster,
    home: tempfile::TempDir,
}

impl<'a> Tenant<'a> {
    /// Who bears a token of this ServiceAccount.
    pub async fn account(cluster: &'a Cluster, namespace: &str, account: &str) -> Result<Self> {
        let token = cluster.kubectl(&["-n", namespace, "create", "token", account]).await?;
        let user = format!("system:serviceaccount:{namespace}:{account}");
        Self::with(cluster, namespace, user, |_| json!({"token": token.trim()}))
    }

    /// A person of this name, by impersonation.
    pub fn person(cluster: &'a Cluster, namespace: &str, name: &str) -> Result<Self> {
        Self::with(cluster, namespace, name.to_owned(), |administrator| {
            let mut user = administrator.clone();
            user["as"] = json!(name);
            user
        })
    }

    fn with(
        cluster: &'a Cluster,
        namespace: &str,
        user: String,
        credentials: impl FnOnce(&Value) -> Value,
    ) -> Result<Self> {
        let home = tempfile::tempdir()?;
        let mut kubeconfig: Value = serde_json::from_slice(&fs::read(cluster.kubeconfig())?)
            .context("a kubeconfig of these clusters is JSON")?;
        kubeconfig["users"][0]["user"] = credentials(&kubeconfig["users"][0]["user"]);
        kubeconfig["contexts"][0]["context"]["namespace"] = json!(namespace);
        fs::write(home.path().join("kubeconfig"), kubeconfig.to_string())?;
        Ok(Self { user, namespace: namespace.to_owned(), cluster, home })
    }

    /// Runs kubectl with his rights, in his namespace unless he names another.
    pub async fn kubectl(&self, words: &[&str]) -> Result<String> {
        let mut command = self.cluster.kubectl_command(words);
        program::run(command.env("KUBECONFIG", self.home.path().join("kubeconfig"))).await
    }

    pub async fn creates(&self, object: &Value) -> Result<String> {
        let file = self.file(object)?;
        self.kubectl(&["create", "-f", &file.display().to_string()]).await
    }

    /// `POST` to a path of the API server.
    pub async fn posts(&self, path: &str, object: &Value) -> Result<String> {
        let file = self.file(object)?;
        self.kubectl(&["create", "--raw", path, "-f", &file.display().to_string()]).await
    }

    /// A merge patch of an object such as `pod/app`, of its `subresource` if one is named.
    pub async fn patches(&self, object: &str, subresource: Option<&str>, patch: &Value) -> Result<String> {
        let (patch, subresource) =
            (patch.to_string(), subresource.map(|name| format!("--subresource={name}")));
        let mut words = vec!["patch", object, "--type=merge", "-p", &patch];
        words.extend(subresource.as_deref());
        self.kubectl(&words).await
    }

    /// A token that he gets for a ServiceAccount, bound to a pod if one is named.
    pub async fn token(&self, account: &str, audience: &str, pod: Option<&str>) -> Result<String> {
        let mut words = vec!["create", "token", account, "--audience", audience];
        if let Some(pod) = pod {
            words.extend(["--bound-object-kind", "Pod", "--bound-object-name", pod]);
        }
        Ok(self.kubectl(&words).await?.trim().to_owned())
    }

    fn file(&self, object: &Value) -> Result<PathBuf> {
        let file = self.home.path().join("object.json");
        fs::write(&file, object.to_string())?;
        Ok(file)
    }
}

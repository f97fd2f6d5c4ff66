//! Somebody who calls the AWS API as a ServiceAccount, on the address of its Service.
//! Must not know how Tidelock works inside.

use anyhow::{Context, Result};
use http::Request;
use kube::client::Body;
use kube::config::AuthInfo;
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::install;
use crate::shop::{NAMESPACE, Shop};

pub struct Caller {
    client: Client,
    /// The bundle is read again while the client lives.
    _authority: tempfile::TempDir,
}

impl Caller {
    /// With a token that the ServiceAccount gets for this audience.
    pub async fn new(shop: &Shop, account: &str, audience: &str) -> Result<Self> {
        let arguments = ["-n", NAMESPACE, "create", "token", account, "--audience", audience];
        Self::bearing(shop, shop.cluster.kubectl(&arguments).await?.trim()).await
    }

    /// With a token for the API.
    pub async fn of_api(shop: &Shop, account: &str) -> Result<Self> {
        Self::new(shop, account, &format!("tidelock.{}/api", install::NAMESPACE)).await
    }

    /// As `operator`, a ServiceAccount that may put values, and what these rules of RBAC allow.
    pub async fn operator(shop: &Shop, rules: &[Value]) -> Result<Self> {
        let put =
            json!({"apiGroups": ["tidelock.dev"], "resources": ["managedsecrets/value"], "verbs": ["put"]});
        let rules = [&[put], rules].concat();
        let rbac = "rbac.authorization.k8s.io";
        let api_version = format!("{rbac}/v1");
        let metadata = json!({"name": "operator", "namespace": NAMESPACE});
        shop.apply(&[
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}),
            json!({"apiVersion": api_version, "kind": "Role", "metadata": metadata, "rules": rules}),
            json!({"apiVersion": api_version, "kind": "RoleBinding", "metadata": metadata,
                "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "operator"},
                "subjects": [{"kind": "ServiceAccount", "name": "operator", "namespace": NAMESPACE}]}),
        ])
        .await?;
        Self::of_api(shop, "operator").await
    }

    pub async fn bearing(shop: &Shop, token: &str) -> Result<Self> {
        let arguments = ["get", "service", "tidelock-server", "-o", "jsonpath={.spec.clusterIP}"];
        let address = shop.cluster.kubectl(&[&["-n", install::NAMESPACE], &arguments[..]].concat()).await?;
        Self::at(shop, &address, token).await
    }

    /// At the address of one of the server's pods.
    pub async fn at(shop: &Shop, address: &str, token: &str) -> Result<Self> {
        let arguments = ["get", "configmap", "tidelock-ca", "-o", "jsonpath={.data.ca\\.crt}"];
        let authority = shop.cluster.kubectl(&[&["-n", install::NAMESPACE], &arguments[..]].concat()).await?;
        let mut config = Config::new(format!("https://{address}:8444").parse()?);
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("ca.crt");
        std::fs::write(&file, authority)?;
        config.root_cert_file = Some(file);
        config.tls_server_name = Some(format!("tidelock-server.{}.svc", install::NAMESPACE));
        config.auth_info = AuthInfo { token: Some(token.to_owned().into()), ..AuthInfo::default() };
        Ok(Self { client: Client::try_from(config)?, _authority: folder })
    }

    /// Status and body of the answer.
    pub async fn call(&self, operation: &str, body: Value) -> Result<(u16, Value)> {
        let request = Request::post("/")
            .header("x-amz-target", format!("secretsmanager.{operation}"))
            .header("content-type", "application/x-amz-json-1.1")
            .body(Body::from(body.to_string().into_bytes()))?;
        let response = self.client.send(request).await?;
        let status = response.status().as_u16();
        let bytes = response.into_body().collect_bytes().await?;
        Ok((status, serde_json::from_slice(&bytes).context("the answer is no JSON")?))
    }

    /// Status and text of STS's answer to who would be this role with that token.
    pub async fn assumes(&self, role: &str, token: &str) -> Result<(u16, String)> {
        let words = ["Action=AssumeRoleWithWebIdentity", "Version=2011-06-15", "RoleSessionName=test"];
        let form = format!("{}&RoleArn={role}&WebIdentityToken={token}", words.join("&"));
        let request = Request::post("/")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(form.into_bytes()))?;
        let response = self.client.send(request).await?;
        let status = response.status().as_u16();
        let bytes = response.into_body().collect_bytes().await?;
        Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
    }

    pub async fn reveals(&self, id: &str) -> Result<(u16, Value)> {
        self.call("GetSecretValue", json!({"SecretId": id})).await
    }
}

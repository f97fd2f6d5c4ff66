//! Certificates and kubeconfig files of one cluster, made fresh by rcgen for each.
//! Good for a throwaway cluster only: the keys lie in its folder.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use serde_json::json;

use super::addresses::Addresses;

/// The administrator's kubeconfig: what tests and people use.
pub(super) const ADMIN: &str = "admin";
pub(super) const API_SERVER: &str = "kube-apiserver";
pub(super) const CONTROLLER_MANAGER: &str = "kube-controller-manager";
pub(super) const SCHEDULER: &str = "kube-scheduler";
pub(super) const PROXY: &str = "kube-proxy";

/// Paths in a cluster's folder.
#[derive(Clone)]
pub(super) struct Pki {
    folder: PathBuf,
}

impl Pki {
    pub(super) fn in_folder(cluster: &Path) -> Self {
        Self { folder: cluster.join("pki") }
    }

    pub(super) fn certificate(&self, who: &str) -> PathBuf {
        self.folder.join(format!("{who}.crt"))
    }

    pub(super) fn key(&self, who: &str) -> PathBuf {
        self.folder.join(format!("{who}.key"))
    }

    pub(super) fn kubeconfig(&self, who: &str) -> PathBuf {
        self.folder.join(format!("{who}.kubeconfig"))
    }

    pub(super) fn authority(&self) -> PathBuf {
        self.certificate("ca")
    }

    pub(super) fn service_account_key(&self) -> PathBuf {
        self.key("service-accounts")
    }

    pub(super) fn service_account_public_key(&self) -> PathBuf {
        self.folder.join("service-accounts.pub")
    }

    /// Makes everything for a cluster of these nodes.
    pub(super) fn write(&self, addresses: Addresses, nodes: usize) -> Result<()> {
        fs::create_dir_all(&self.folder).with_context(|| format!("cannot make {}", self.folder.display()))?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "tidelock-test-cluster");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        fs::write(self.authority(), authority.pem())?;
        fs::write(self.key("ca"), authority.key().serialize_pem())?;
        let tokens = KeyPair::generate()?;
        fs::write(self.service_account_key(), tokens.serialize_pem())?;
        fs::write(self.service_account_public_key(), tokens.public_key_pem())?;

        let api_names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
        let api_addresses = [Ipv4Addr::LOCALHOST, addresses.api(), addresses.api_service()];
        self.issue(&authority, API_SERVER, "kube-apiserver", None, &api_names, &api_addresses)?;
        self.issue(&authority, ADMIN, "admin", Some("system:masters"), &[], &[])?;
        for part in [CONTROLLER_MANAGER, SCHEDULER, PROXY] {
            self.issue(&authority, part, &format!("system:{part}"), None, &[], &[])?;
        }
        for index in 1..=nodes {
            let name = format!("node{index}");
            let user = format!("system:node:{name}");
            self.issue(&authority, &name, &user, Some("system:nodes"), &[&name], &[addresses.node(index)])?;
        }
        for who in [ADMIN, CONTROLLER_MANAGER, SCHEDULER, PROXY] {
            self.write_kubeconfig(addresses, who)?;
        }
        (1..=nodes).try_for_each(|index| self.write_kubeconfig(addresses, &format!("node{index}")))
    }

    fn issue(
        &self,
        authority: &CertifiedIssuer<'_, KeyPair>,
        file: &str,
        user: &str,
        group: Option<&str>,
        names: &[&str],
        addresses: &[Ipv4Addr],
    ) -> Result<()> {
        let key = KeyPair::generate()?;
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
        params
            .subject_alt_names
            .extend(addresses.iter().map(|address| SanType::IpAddress(IpAddr::V4(*address))));
        params.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, authority)?;
        fs::write(self.certificate(file), certificate.pem())?;
        fs::write(self.key(file), key.serialize_pem())?;
        Ok(())
    }

    /// JSON is YAML too.
    fn write_kubeconfig(&self, addresses: Addresses, who: &str) -> Result<()> {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tidelock-test", "cluster": {
                "server": format!("https://{}:6443", addresses.api()),
                "certificate-authority": self.authority(),
            }}],
            "users": [{"name": who, "user": {
                "client-certificate": self.certificate(who),
                "client-key": self.key(who),
            }}],
            "contexts": [{"name": "tidelock-test", "context": {"cluster": "tidelock-test", "user": who}}],
            "current-context": "tidelock-test",
        });
        fs::write(self.kubeconfig(who), serde_json::to_vec_pretty(&config)?)?;
        Ok(())
    }
}

//! AWS's own clients, unmodified, beside the server as it ships: over HTTPS with our own CA, each with nothing but its
//! pod's token, and kept from speaking to anybody else. Every operation that a client has is called by it, and each refuses
//! another CA and is refused another's role. Must not need nodes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::future::{join_all, try_join_all};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::PostParams;
use serde_json::json;
use tidelock_e2e::clients::{Client, Driver, truststore};
use tidelock_e2e::egress::Egress;
use tidelock_e2e::site::{Ended, SHOP, Site, ended, ended_as};
use tidelock_e2e::wait_for;

const DEADLINE: Duration = Duration::from_secs(90);

/// A client, how it is run, and what its pod is given.
struct Pod {
    client: Client,
    driver: Driver,
    given: Vec<(String, String)>,
}

impl Pod {
    async fn new(site: &Site, client: Client, driver: Driver) -> Result<Self> {
        let account = format!("client-{}", client.word());
        let token = site.pod(&account).await?;
        let mut given = site.dressed(&account, &token).await?;
        if client == Client::Java {
            let folder = site.folder().join("truststore");
            fs::create_dir(&folder)?;
            let options = truststore(&site.authority().await?, &folder).await?;
            given.push(("JAVA_TOOL_OPTIONS".to_owned(), options));
        }
        Ok(Self { client, driver, given })
    }

    /// With one of its variables changed.
    fn with(&self, change: impl Fn(&str, &mut String)) -> Self {
        let mut given = self.given.clone();
        given.iter_mut().for_each(|(name, value)| change(name, value));
        Self { client: self.client, driver: self.driver.clone(), given }
    }

    /// What it says, kept from speaking to anybody but this machine.
    async fn told(&self, egress: &Egress) -> Result<Ended> {
        let words: Vec<&str> = self.driver.words.iter().map(String::as_str).collect();
        let told = ended_as(egress.group(), &self.driver.program, &words, &self.given);
        let told = tokio::time::timeout(4 * DEADLINE, told).await;
        told.with_context(|| format!("{} does not end", self.client.word()))?
    }
}

/// The operations of the service, as the documentation has them.
fn operations(document: &str) -> Vec<&str> {
    let rows = document.lines().take_while(|line| *line != "## Clients");
    rows.filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect()
}

/// All ServiceAccounts of the namespace may do everything there.
async fn allow(site: &Site) -> Result<()> {
    let rule = json!({
        "apiGroups": ["tidelock.dev"], "verbs": ["*"],
        "resources": ["managedsecrets", "managedsecrets/value", "managedsecrets/policy", "managedsecrets/rotation"],
    });
    let role = serde_json::from_value(json!({"metadata": {"name": "clients"}, "rules": [rule]}))?;
    Api::<Role>::namespaced(site.client.clone(), SHOP).create(&PostParams::default(), &role).await?;
    let group = format!("system:serviceaccounts:{SHOP}");
    let binding = serde_json::from_value(json!({
        "metadata": {"name": "clients"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "clients"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group}],
    }))?;
    Api::<RoleBinding>::namespaced(site.client.clone(), SHOP)
        .create(&PostParams::default(), &binding)
        .await?;
    Ok(())
}

async fn ready(pod: &Pod) -> Result<()> {
    let draw = "import boto3; boto3.client('secretsmanager').get_random_password()";
    let answered =
        async || ended(&pod.driver.program, &["-c", draw], &pod.given).await.ok().filter(|ended| ended.well);
    wait_for("the server to answer", DEADLINE, answered).await.map(drop)
}

/// Each operation's name with `ok`, or with why not.
fn cells(ended: &Ended) -> BTreeMap<String, String> {
    let lines = ended.stdout.lines().filter_map(|line| line.split_once(' '));
    lines.map(|(operation, outcome)| (operation.to_owned(), outcome.to_owned())).collect()
}

fn table(all: &[&str], columns: &[(Client, BTreeMap<String, String>)]) -> String {
    let mut text = "| operation |".to_owned();
    for (client, _) in columns {
        let _ = write!(text, " {} |", client.word());
    }
    let _ = write!(text, "\n|---|{}", "---|".repeat(columns.len()));
    for operation in all {
        let _ = write!(text, "\n| {operation} |");
        for (client, cells) in columns {
            let has = client.operations(all).contains(operation);
            let cell = match cells.get(*operation).map(String::as_str) {
                Some("ok") if has => "ok",
                Some(_) => "FAILED",
                None if has => "not reached",
                None => "absent",
            };
            let _ = write!(text, " {cell} |");
        }
    }
    text
}

/// Whatever is wrong with what a client said of its operations.
fn faults(all: &[&str], client: Client, ended: &Ended) -> Option<String> {
    let cells = cells(ended);
    let expected: BTreeMap<String, String> =
        client.operations(all).into_iter().map(|name| (name.to_owned(), "ok".to_owned())).collect();
    (!ended.well || cells != expected).then(|| format!("{}: {}{}", client.word(), ended.stdout, ended.stderr))
}

/// The first thing that a client tried has failed, and for this reason.
fn refused(client: Client, ended: &Ended, reasons: &[&str]) -> Result<()> {
    let said = format!("{}{}", ended.stdout, ended.stderr);
    let told = reasons.iter().any(|reason| said.contains(reason));
    let none = !ended.stdout.lines().any(|line| line.ends_with(" ok"));
    ensure!(!ended.well && none && told, "{} is not refused as it should be: {said}", client.word());
    Ok(())
}

/// A CA that signed nothing here.
fn other_authority(folder: &Path) -> Result<String> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let file = folder.join("other.crt");
    fs::write(&file, made.cert.pem())?;
    Ok(file.display().to_string())
}

/// Each client with another CA and with another account's role, and what it agreed with the server on the way.
async fn refusals(site: &Site, egress: &Egress, pods: &[Pod]) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let other = other_authority(folder.path())?;
    let java = truststore(Path::new(&other), folder.path()).await?;
    for pod in pods {
        let mistrusting = pod.with(|name, value| match name {
            "AWS_CA_BUNDLE" | "SSL_CERT_FILE" | "NODE_EXTRA_CA_CERTS" => value.clone_from(&other),
            "JAVA_TOOL_OPTIONS" => value.clone_from(&java),
            _ => {}
        });
        let words = [
            "certificate verify failed",
            "failed to verify certificate",
            "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
            "unable to find valid certification path",
            "UnknownIssuer",
        ];
        refused(pod.client, &mistrusting.told(egress).await?, &words)?;
        let mut borrowing = pod.with(|name, value| {
            if name == "AWS_ROLE_ARN" {
                *value = value.replace("000000000000", "111111111111");
            }
        });
        if pod.client == Client::JavaScript {
            borrowing.given.push(("NODE_OPTIONS".to_owned(), "--tls-max-v1.2".to_owned()));
        }
        let before = site.log()?.len();
        refused(pod.client, &borrowing.told(egress).await?, &["AccessDenied", "Not authorized to perform"])?;
        agreed(pod.client, &site.log()?[before..])?;
    }
    Ok(())
}

/// HTTP/2 where the client speaks it, TLS 1.2 where it was told to go no higher.
fn agreed(client: Client, log: &str) -> Result<()> {
    let h2 = matches!(client, Client::Go | Client::Rust);
    let tls = if client == Client::JavaScript { "TLSv1_2" } else { "TLSv1_3" };
    let mut handshakes = log
        .lines()
        .filter(|line| line.contains("handshake completed") && line.contains("\"api\""))
        .peekable();
    ensure!(handshakes.peek().is_some(), "{} made no connection", client.word());
    for line in handshakes {
        let right = line.contains(&format!("h2={h2}")) && line.contains(tls);
        ensure!(right, "{} agreed on another protocol: {line}", client.word());
    }
    Ok(())
}

#[tokio::test]
async fn every_operation_of_every_client_is_answered_as_it_understands() -> Result<()> {
    let document = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/aws-api.md"))?;
    let all = operations(&document);
    let drivers = try_join_all(Client::ALL.map(Client::driver)).await?;
    let site = Site::new(Path::new(env!("CARGO_BIN_EXE_tidelock"))).await?;
    allow(&site).await?;
    let mut pods = Vec::new();
    for (client, driver) in Client::ALL.into_iter().zip(drivers) {
        pods.push(Pod::new(&site, client, driver).await?);
    }
    ready(pods.first().context("no client")?).await.with_context(|| site.log().unwrap_or_default())?;
    let egress = Egress::denied().await?;
    let begun = Instant::now();
    let told =
        join_all(pods.iter().map(|pod| pod.told(&egress))).await.into_iter().collect::<Result<Vec<_>>>()?;
    let columns: Vec<_> = pods.iter().zip(&told).map(|(pod, ended)| (pod.client, cells(ended))).collect();
    let seconds = begun.elapsed().as_secs_f32();
    let _ = writeln!(std::io::stdout(), "\n{}\n{seconds:.0} s", table(&all, &columns));
    let faults: Vec<_> =
        pods.iter().zip(&told).filter_map(|(pod, ended)| faults(&all, pod.client, ended)).collect();
    ensure!(faults.is_empty(), "{}\n{}", faults.join("\n"), site.log()?);
    ensure!(egress.rejected().await? == 0, "a client speaks to somebody else");
    refusals(&site, &egress, &pods).await?;
    // Without keys, some ask the machine that they run on: so the counter counts.
    ensure!(egress.rejected().await? > 0, "nothing is counted");
    Ok(())
}

//! A server that is replaced again and again under programs that read and write without a pause: none of them, with
//! the retries that SDKs make by default, sees a failure. Those retries are over within a tenth of a second, so somebody has
//! to hold the port meanwhile, as systemd does by socket activation. Must not need nodes.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use tidelock_e2e::pypi;
use tidelock_e2e::site::{Ended, SHOP, Site, ended};

const RESTARTS: u32 = 100;
/// Long enough for calls between two restarts.
const PAUSE: Duration = Duration::from_millis(500);
const DEADLINE: Duration = Duration::from_secs(600);

/// Clients of boto3 as it comes, each in a thread.
/// They read what was last written, so a write that was acknowledged and lost would be seen.
const PROGRAM: &str = r#"
import boto3, json, os, sys, threading

stop, told = sys.argv[1], {"calls": 0, "retries": 0, "failures": []}
lock = threading.Lock()

def call(operation, **words):
    answer = operation(**words)
    with lock:
        told["calls"] += 1
        told["retries"] += answer["ResponseMetadata"]["RetryAttempts"]
    return answer

def work(number):
    name = f"shop/restarts-{number}"
    try:
        client = boto3.session.Session().client("secretsmanager")
        call(client.create_secret, Name=name, SecretString="0")
        turn = 0
        while not os.path.exists(stop):
            turn += 1
            call(client.put_secret_value, SecretId=name, SecretString=str(turn))
            for _ in range(5):
                read = call(client.get_secret_value, SecretId=name)["SecretString"]
                if read != str(turn):
                    raise Exception(f"{read} was read after {turn} was written")
    except Exception as error:
        with lock:
            told["failures"].append(f"{number}: {type(error).__name__}: {error}")

threads = [threading.Thread(target=work, args=[number]) for number in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps(told))
"#;

async fn allow(site: &Site) -> Result<()> {
    let rules = json!([
        {"apiGroups": ["tidelock.dev"], "resources": ["managedsecrets"], "verbs": ["create"]},
        {"apiGroups": ["tidelock.dev"], "resources": ["managedsecrets/value"], "verbs": ["reveal", "put"]},
    ]);
    let role = serde_json::from_value(json!({"metadata": {"name": "restless"}, "rules": rules}))?;
    Api::<Role>::namespaced(site.client.clone(), SHOP).create(&PostParams::default(), &role).await?;
    let binding = serde_json::from_value(json!({
        "metadata": {"name": "restless"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "restless"},
        "subjects": [{"kind": "ServiceAccount", "name": "restless", "namespace": SHOP}],
    }))?;
    let bindings = Api::<RoleBinding>::namespaced(site.client.clone(), SHOP);
    bindings.create(&PostParams::default(), &binding).await?;
    Ok(())
}

/// The end of what the servers said.
fn last_words(site: &Site) -> Result<String> {
    let log = site.log()?;
    let lines: Vec<&str> = log.lines().filter(|line| !line.contains("request answered")).collect();
    Ok(lines[lines.len().saturating_sub(200)..].join("\n"))
}

#[tokio::test]
async fn no_program_sees_a_failure_while_the_server_is_replaced_a_hundred_times() -> Result<()> {
    let python = pypi::programs("boto3").await?.join("python");
    let mut site = Site::holding_port(Path::new(env!("CARGO_BIN_EXE_tidelock"))).await?;
    let given = site.dressed("restless", &site.pod("restless").await?).await?;
    allow(&site).await?;
    site.ready().await?;
    let folder = tempfile::tempdir()?;
    let stop = folder.path().join("stop");
    let words = ["-c".to_owned(), PROGRAM.to_owned(), stop.display().to_string()];
    let clients = tokio::spawn(async move {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        ended(&python, &words, &given).await
    });
    let (begun, mut longest) = (std::time::Instant::now(), Duration::ZERO);
    for _ in 0..RESTARTS {
        if clients.is_finished() {
            break;
        }
        longest = longest.max(site.roll().await?);
        site.ready().await?;
        tokio::time::sleep(PAUSE).await;
    }
    let took = begun.elapsed();
    std::fs::write(&stop, "")?;
    let Ended { well, stdout, stderr } = tokio::time::timeout(DEADLINE, clients).await???;
    ensure!(well, "{stderr}");
    let told: Value = serde_json::from_str(&stdout).context("the clients tell how it went")?;
    let outcome = format!(
        "{RESTARTS} restarts in {:.0} s, an end took {:.2} s at most; {} calls, {} of them tried again by the client",
        took.as_secs_f32(),
        longest.as_secs_f32(),
        told["calls"],
        told["retries"]
    );
    let _ = writeln!(
        std::io::stdout(),
        "\nfault: server replaced under boto3's clients | again and again | {outcome}"
    );
    ensure!(told["failures"] == json!([]), "{}\n{outcome}\n{}", told["failures"], last_words(&site)?);
    ensure!(told["calls"].as_u64() > Some(10 * u64::from(RESTARTS)), "{outcome}");
    ensure!(told["retries"].as_u64() > Some(0), "nobody noticed a restart: {outcome}");
    Ok(())
}

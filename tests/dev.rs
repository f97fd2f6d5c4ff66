//! `tidelock dev` as its README has it: the program, a shell, and AWS's own command line from PyPI.
//! Must not need a cluster, nor root.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tidelock_e2e::pypi;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

const PROGRAM: &str = env!("CARGO_BIN_EXE_tidelock");
const README: &str = include_str!("../README.md");
const DEADLINE: Duration = Duration::from_secs(60);

/// A running `tidelock dev`, and what it said to type.
struct Dev {
    child: Child,
    lines: Vec<String>,
}

impl Dev {
    /// `command` as a person types it, with the program on his path.
    async fn typed(command: &str) -> Self {
        let begun = Instant::now();
        let folder = Path::new(PROGRAM).parent().unwrap().display();
        let mut child = Command::new("bash")
            .env("PATH", format!("{folder}:/usr/bin:/bin"))
            .args(["-c", &format!("exec {command}")])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.as_mut().unwrap()).lines();
        let mut lines = Vec::new();
        while let Some(line) = timeout(DEADLINE, out.next_line()).await.unwrap().unwrap() {
            lines.push(line);
            if lines.last().unwrap().starts_with("unset ") {
                // Not `println`: what a test that passes prints there is not shown.
                let took = begun.elapsed().as_millis();
                let _ = writeln!(std::io::stdout(), "\n`{command}`: ready after {took} ms");
                return Self { child, lines };
            }
        }
        panic!("it ended: {}", Self { child, lines }.said().await);
    }

    /// The next shell: what was said, then the command. What the shell had before must not matter.
    async fn then(&self, tools: &Path, command: &str) -> Result<Value, String> {
        let home = tempfile::tempdir().unwrap();
        let output = Command::new("bash")
            .env_clear()
            .env("HOME", home.path())
            .env("PATH", format!("{}:/usr/bin:/bin", tools.display()))
            .envs([("AWS_PROFILE", "other"), ("AWS_SESSION_TOKEN", "old"), ("AWS_PAGER", "")])
            .env("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
            .args(["-euo", "pipefail", "-c", &format!("{}\n{command}", self.lines.join("\n"))])
            .output();
        let output = timeout(DEADLINE, output).await.unwrap().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if !output.status.success() {
            return Err(text(&output.stderr));
        }
        serde_json::from_str(&text(&output.stdout))
            .map_err(|error| format!("{error}: {}", text(&output.stdout)))
    }

    async fn end(mut self, signal: Signal) -> String {
        let id = i32::try_from(self.child.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
        timeout(DEADLINE, self.child.wait()).await.unwrap().unwrap();
        self.said().await
    }

    /// All that it wrote but what it said to type.
    async fn said(mut self) -> String {
        let mut said = String::new();
        self.child.stderr.as_mut().unwrap().read_to_string(&mut said).await.unwrap();
        said
    }
}

/// The commands of the README's first minute.
fn first_minute() -> Vec<&'static str> {
    let (_, section) = README.split_once("\n## In a minute").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let blocks = section.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.flat_map(str::lines).collect()
}

#[tokio::test]
async fn the_readme_s_first_minute_works_as_it_is_typed() {
    let tools = pypi::programs("awscli").await.unwrap();
    let commands = first_minute();
    let [start, create, read] = commands[..] else { panic!("{commands:?}") };
    assert_eq!(start, "tidelock dev");
    let dev = Dev::typed(start).await;
    assert_eq!(dev.lines.len(), 8, "{:?}", dev.lines);
    let created = dev.then(&tools, create).await.unwrap();
    let arn = "arn:aws:secretsmanager:local-1:000000000000:secret:myDatabaseCredentials-";
    assert!(created["ARN"].as_str().unwrap().starts_with(arn), "{created}");
    let got = dev.then(&tools, read).await.unwrap();
    assert_eq!(got["SecretString"], "{\"username\":\"admin\",\"password\":\"mypassword\"}");
    let caller = dev.then(&tools, "aws sts get-caller-identity").await.unwrap();
    assert_eq!(caller["Arn"], "arn:aws:iam::000000000000:root");
    let wrong = dev.then(&tools, &format!("export AWS_SECRET_ACCESS_KEY=x\n{read}")).await.unwrap_err();
    assert!(wrong.contains("InvalidSignatureException"), "{wrong}");
    let said = dev.end(Signal::TERM).await;
    assert!(!said.contains("mypassword"), "{said}");
}

#[tokio::test]
async fn a_folder_keeps_secrets_and_key_and_memory_keeps_nothing() {
    let tools = pypi::programs("awscli").await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("data");
    let kept = format!("tidelock dev --listen 127.0.0.1:0 --data {}", folder.display());
    let dev = Dev::typed(&kept).await;
    let key = dev.lines.clone();
    dev.then(&tools, "aws secretsmanager create-secret --name a/b --secret-string mypassword").await.unwrap();
    dev.end(Signal::KILL).await;
    let mode = |name: &str| fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(""), mode("root-key"), mode("tidelock.db")), (0o700, 0o600, 0o600));

    let dev = Dev::typed(&kept).await;
    let pair = |lines: &[String]| lines[5..7].to_vec();
    assert_eq!(pair(&dev.lines), pair(&key), "the shells that were dressed before still work");
    let got = dev.then(&tools, "aws secretsmanager get-secret-value --secret-id a/b").await.unwrap();
    assert_eq!(got["SecretString"], "mypassword");
    dev.end(Signal::TERM).await;

    fs::set_permissions(folder.join("root-key"), fs::Permissions::from_mode(0o644)).unwrap();
    let refused = Command::new(PROGRAM).args(["dev", "--data"]).arg(&folder).output().await.unwrap();
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && error.contains("chmod 600"), "{error}");

    let dev = Dev::typed("tidelock dev --listen 127.0.0.1:0").await;
    let before = in_memory(dev.child.id().unwrap());
    assert_eq!(before.len(), 1, "{before:?}");
    assert_ne!(pair(&dev.lines), pair(&key));
    dev.end(Signal::INT).await;
    assert!(!before[0].exists());
}

/// The folders in memory's file system that a process has files open in.
fn in_memory(process: u32) -> Vec<PathBuf> {
    let open = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let files = open.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    let mut folders: Vec<PathBuf> = files
        .filter(|file| file.to_string_lossy().contains("tidelock-dev-"))
        .filter_map(|file| Some(file.parent()?.to_owned()))
        .collect();
    folders.sort();
    folders.dedup();
    folders
}

#[tokio::test]
async fn no_other_machine_is_listened_to() {
    let refused = Command::new(PROGRAM).args(["dev", "--listen", "0.0.0.0:8444"]).output().await.unwrap();
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && error.contains("such as 127.0.0.1:8444"), "{error}");
}

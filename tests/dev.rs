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
use tidelock_e2e::wait_for;
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

#[tokio::test]
async fn secrets_are_listed_without_their_values_in_pages_by_filters_and_with_their_ends() {
    let tools = pypi::programs("awscli").await.unwrap();
    let dev = Dev::typed("tidelock dev --listen 127.0.0.1:0").await;
    assert_eq!(listed(&dev, &tools, "").await, Vec::<String>::new());
    for name in ["app/db", "app/key", "billing"] {
        let create = format!("aws secretsmanager create-secret --name {name} --secret-string mypassword");
        dev.then(&tools, &format!("{create} --tags Key=owner,Value={name}")).await.unwrap();
    }
    dev.then(&tools, "aws secretsmanager delete-secret --secret-id app/key").await.unwrap();
    for (words, expected) in [
        ("", &["app/db", "billing"][..]),
        ("--page-size 1", &["app/db", "billing"]),
        ("--include-planned-deletion", &["app/db", "app/key", "billing"]),
        ("--filters Key=name,Values=app/", &["app/db"]),
        ("--filters Key=name,Values=app/ --include-planned-deletion", &["app/db", "app/key"]),
        ("--filters Key=tag-value,Values=billing", &["billing"]),
        ("--filters Key=name,Values=nothing", &[]),
    ] {
        assert_eq!(listed(&dev, &tools, words).await, expected, "{words}");
    }
    let first = "aws secretsmanager list-secrets --no-paginate --max-results 1";
    let page = dev.then(&tools, first).await.unwrap();
    let next = page["NextToken"].as_str().unwrap();
    let rest = dev.then(&tools, &format!("{first} --next-token '{next}'")).await.unwrap();
    assert!(page["SecretList"].as_array().unwrap().len() == 1 && rest["NextToken"].is_null(), "{rest}");
    assert_ne!(page["SecretList"][0]["Name"], rest["SecretList"][0]["Name"]);
    dev.end(Signal::TERM).await;
}

/// The names that `list-secrets` tells, sorted.
async fn listed(dev: &Dev, tools: &Path, words: &str) -> Vec<String> {
    let answer = dev.then(tools, &format!("aws secretsmanager list-secrets {words}")).await.unwrap();
    assert!(!answer.to_string().contains("mypassword"), "{answer}");
    let secrets = answer["SecretList"].as_array().unwrap().iter();
    let mut names: Vec<String> = secrets.map(|secret| secret["Name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
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

/// A rotator as people write one for AWS, with boto3: its event from a file, everything else from the environment. It
/// writes down each step, waits in setSecret for as long as the file `hold` is there, in testSecret for `hold-test`, and
/// fails the latter while there is `fail`.
const ROTATE: &str = r#"
import boto3, json, os, pathlib, sys, time
here = pathlib.Path(sys.argv[1])
step, event = os.environ["TIDELOCK_STEP"], json.load(open(os.environ["TIDELOCK_EVENT"]))
secret, token = event["SecretId"], event["ClientRequestToken"]
assert event["Step"] == step
with open(here / "steps", "a") as steps: steps.write(f"{step} {token}\n")
client = boto3.client("secretsmanager")
versions = client.describe_secret(SecretId=secret)["VersionIdsToStages"]
assert "AWSPENDING" in versions[token], versions
pending = dict(SecretId=secret, VersionId=token, VersionStage="AWSPENDING")
if step == "createSecret":
    try: client.get_secret_value(**pending)
    except client.exceptions.ResourceNotFoundException:
        new = "made-" + client.get_random_password(ExcludePunctuation=True)["RandomPassword"]
        client.put_secret_value(SecretId=secret, ClientRequestToken=token, SecretString=new, VersionStages=["AWSPENDING"])
elif step == "setSecret":
    while (here / "hold").exists(): time.sleep(0.05)
elif step == "testSecret":
    print("tried", client.get_secret_value(**pending)["SecretString"])
    while (here / "hold-test").exists(): time.sleep(0.05)
    if (here / "fail").exists(): sys.exit(3)
elif step == "finishSecret":
    current = next(id for id, stages in versions.items() if "AWSCURRENT" in stages)
    if current != token:
        client.update_secret_version_stage(SecretId=secret, VersionStage="AWSCURRENT", MoveToVersionId=token, RemoveFromVersionId=current)
"#;

/// `tidelock dev` with that rotator under the name `db`, its secrets in a folder.
async fn rotating(home: &Path) -> String {
    let python = pypi::programs("boto3").await.unwrap().join("python");
    let script = home.join("rotate.py");
    fs::write(&script, ROTATE).unwrap();
    let (python, script, home) = (python.display(), script.display(), home.display());
    format!("tidelock dev --listen 127.0.0.1:0 --data {home}/data --rotator 'db={python} {script} {home}'")
}

/// The secret's description, once `is_so` of it.
async fn described(dev: &Dev, tools: &Path, name: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let command = format!("aws secretsmanager describe-secret --secret-id {name}");
    let look = async || Some(dev.then(tools, &command).await.unwrap()).filter(|found| is_so(found));
    wait_for("the secret to be so", DEADLINE, look).await.unwrap()
}

fn stages(description: &Value, version: &str) -> Vec<String> {
    let stages = description["VersionIdsToStages"][version].as_array().cloned().unwrap_or_default();
    stages.iter().map(|stage| stage.as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_rotator_of_one_s_own_rotates_and_what_was_cut_off_goes_on() {
    let tools = pypi::programs("awscli").await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let start = rotating(home.path()).await;
    let dev = Dev::typed(&start).await;
    let made = "aws secretsmanager create-secret --name app/db --secret-string first";
    let first = dev.then(&tools, made).await.unwrap()["VersionId"].as_str().unwrap().to_owned();
    let wrong = "aws secretsmanager rotate-secret --secret-id app/db --rotation-lambda-arn nobody";
    let refused = dev.then(&tools, wrong).await.unwrap_err();
    assert!(refused.contains("AccessDeniedException") && refused.contains("cannot invoke"), "{refused}");
    let configure = "aws secretsmanager rotate-secret --secret-id app/db --rotation-rules AutomaticallyAfterDays=30 \
                     --rotation-lambda-arn arn:aws:lambda:local-1:000000000000:function:db";
    let begun = dev.then(&tools, configure).await.unwrap();
    let second = begun["VersionId"].as_str().unwrap().to_owned();
    let done = |version: &str| {
        let version = version.to_owned();
        move |found: &Value| stages(found, &version).contains(&"AWSCURRENT".to_owned())
    };
    let description = described(&dev, &tools, "app/db", done(&second)).await;
    assert_eq!(stages(&description, &first), ["AWSPREVIOUS"]);
    assert_eq!(
        (&description["RotationEnabled"], &description["RotationRules"]["AutomaticallyAfterDays"]),
        (&Value::from(true), &Value::from(30))
    );
    assert!(!description["LastRotatedDate"].is_null() && !description["NextRotationDate"].is_null());
    let got = dev.then(&tools, "aws secretsmanager get-secret-value --secret-id app/db").await.unwrap();
    let value = got["SecretString"].as_str().unwrap().to_owned();
    assert!(value.starts_with("made-"), "{value}");

    // Killed in the middle of a step: the next start goes on under the same token.
    fs::write(home.path().join("hold"), "").unwrap();
    let steps = || fs::read_to_string(home.path().join("steps")).unwrap();
    let rotate = "aws secretsmanager rotate-secret --secret-id app/db";
    let third = dev.then(&tools, rotate).await.unwrap()["VersionId"].as_str().unwrap().to_owned();
    let at_step = async || steps().contains(&format!("setSecret {third}")).then_some(());
    wait_for("the step setSecret", DEADLINE, at_step).await.unwrap();
    let id = i32::try_from(dev.child.id().unwrap()).unwrap();
    kill_process(Pid::from_raw(id).unwrap(), Signal::KILL).unwrap();
    // The step outlives it and holds the same standard error: what was said ends only when that does.
    fs::remove_file(home.path().join("hold")).unwrap();
    let said = dev.end(Signal::KILL).await;
    let dev = Dev::typed(&start).await;
    let description = described(&dev, &tools, "app/db", done(&third)).await;
    assert_eq!(stages(&description, &second), ["AWSPREVIOUS"]);
    let created = steps().lines().filter(|line| *line == format!("createSecret {third}")).count();
    assert_eq!(created, 2, "one attempt before, one after: {}", steps());
    // What a step prints goes to the terminal, and into no line of ours.
    let ours = said.lines().filter(|line| line.contains("INFO") || line.contains("WARN"));
    assert!(said.contains(&format!("tried {value}")) && !ours.into_iter().any(|line| line.contains(&value)));
    dev.end(Signal::TERM).await;
}

#[tokio::test]
async fn the_built_in_rotator_is_there_and_a_cancelled_rotation_ends() {
    let tools = pypi::programs("awscli").await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let dev = Dev::typed(&rotating(home.path()).await).await;
    for (name, value) in [("plain", "first"), ("object", r#"{"user":"orders","password":"first"}"#)] {
        let create = format!("aws secretsmanager create-secret --name {name} --secret-string '{value}'");
        dev.then(&tools, &create).await.unwrap();
        let rotate =
            format!("aws secretsmanager rotate-secret --secret-id {name} --rotation-lambda-arn generate");
        let version = dev.then(&tools, &rotate).await.unwrap()["VersionId"].as_str().unwrap().to_owned();
        let current = |found: &Value| stages(found, &version).contains(&"AWSCURRENT".to_owned());
        described(&dev, &tools, name, current).await;
        let got = dev.then(&tools, &format!("aws secretsmanager get-secret-value --secret-id {name}")).await;
        let text = got.unwrap()["SecretString"].as_str().unwrap().to_owned();
        match serde_json::from_str::<Value>(&text) {
            Ok(object) if name == "object" => {
                assert_eq!(object["user"], "orders");
                assert!(object["password"] != "first");
            }
            _ => assert!(name == "plain" && text != "first" && text.len() == 32, "{name}"),
        }
    }
    fs::write(home.path().join("hold"), "").unwrap();
    let rotate = "aws secretsmanager rotate-secret --secret-id plain --rotation-lambda-arn db";
    let version = dev.then(&tools, rotate).await.unwrap()["VersionId"].as_str().unwrap().to_owned();
    let steps = || fs::read_to_string(home.path().join("steps")).unwrap_or_default();
    let at_step = async || steps().contains("setSecret").then_some(());
    wait_for("the step setSecret", DEADLINE, at_step).await.unwrap();
    let holds = || children(dev.child.id().unwrap()).len();
    assert_eq!(holds(), 1);
    dev.then(&tools, "aws secretsmanager cancel-rotate-secret --secret-id plain").await.unwrap();
    let description = described(&dev, &tools, "plain", |_| holds() == 0).await;
    assert_eq!(description["RotationEnabled"], false);
    assert_eq!(stages(&description, &version), ["AWSPENDING"]);
    dev.end(Signal::TERM).await;
}

#[tokio::test]
async fn a_rotation_that_is_not_due_is_tested_on_a_copy_that_no_end_leaves_behind() {
    let tools = pypi::programs("awscli").await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let start = rotating(home.path()).await;
    let (hold, fail) = (home.path().join("hold-test"), home.path().join("fail"));
    let steps = || fs::read_to_string(home.path().join("steps")).unwrap_or_default();
    let dev = Dev::typed(&start).await;
    let made = "aws secretsmanager create-secret --name app/db --secret-string first";
    let first = dev.then(&tools, made).await.unwrap()["VersionId"].as_str().unwrap().to_owned();
    let configure = |token: &str| {
        format!(
            "aws secretsmanager rotate-secret --secret-id app/db --rotation-rules AutomaticallyAfterDays=30 \
             --rotation-lambda-arn db --no-rotate-immediately --client-request-token {token}"
        )
    };
    // Untouched, on schedule, and with nothing at AWSPENDING.
    let is_as_before = |found: &Value| {
        found["VersionIdsToStages"] == serde_json::json!({&first: ["AWSCURRENT"]})
            && found["RotationEnabled"] == true
            && !found["NextRotationDate"].is_null()
    };
    let token = |n: u8| format!("0197f2c0-5b3a-4c1e-9d2f-1a2b3c4d5e{n:02x}");
    let begun = dev.then(&tools, &configure(&token(1))).await.unwrap();
    assert!(begun["VersionId"].is_null(), "{begun}");
    described(&dev, &tools, "app/db", is_as_before).await;
    fs::write(&fail, "").unwrap();
    dev.then(&tools, &configure(&token(2))).await.unwrap();
    let at_step = async |n| steps().contains(&token(n)).then_some(());
    wait_for("the second test", DEADLINE, async || at_step(2).await).await.unwrap();
    described(&dev, &tools, "app/db", is_as_before).await;
    fs::remove_file(&fail).unwrap();

    // While it runs nothing else begins; killed in the middle, it has failed, and leaves nothing either.
    fs::write(&hold, "").unwrap();
    dev.then(&tools, &configure(&token(3))).await.unwrap();
    wait_for("the third test", DEADLINE, async || at_step(3).await).await.unwrap();
    let description = described(&dev, &tools, "app/db", |_| true).await;
    assert_eq!(stages(&description, &token(3)), ["AWSPENDING"]);
    let refused = dev.then(&tools, "aws secretsmanager rotate-secret --secret-id app/db").await.unwrap_err();
    assert!(refused.contains("A previous rotation isn't complete."), "{refused}");
    let id = i32::try_from(dev.child.id().unwrap()).unwrap();
    kill_process(Pid::from_raw(id).unwrap(), Signal::KILL).unwrap();
    fs::remove_file(&hold).unwrap();
    let said = dev.end(Signal::KILL).await;
    for reason in ["TestRotationStarted", "TestRotationSucceeded", "TestRotationFailed"] {
        assert!(said.contains(reason), "{reason}: {said}");
    }
    assert!(said.contains("the test of the rotator failed: testSecret ended with exit status: 3"), "{said}");
    let dev = Dev::typed(&start).await;
    described(&dev, &tools, "app/db", is_as_before).await;
    assert_eq!(steps().lines().count(), 3, "no other step, and none twice: {}", steps());
    assert!(steps().lines().all(|line| line.starts_with("testSecret")), "{}", steps());

    // A value that somebody writes ends it, and so does its cancellation; the process goes.
    let holds = || children(dev.child.id().unwrap()).len();
    for (n, end) in [
        (4, "aws secretsmanager put-secret-value --secret-id app/db --secret-string mine"),
        (5, "aws secretsmanager cancel-rotate-secret --secret-id app/db"),
    ] {
        fs::write(&hold, "").unwrap();
        dev.then(&tools, &configure(&token(n))).await.unwrap();
        wait_for("another test", DEADLINE, async || at_step(n).await).await.unwrap();
        assert_eq!(holds(), 1);
        dev.then(&tools, end).await.unwrap();
        let description = described(&dev, &tools, "app/db", |_| holds() == 0).await;
        assert!(description["VersionIdsToStages"][token(n)].is_null(), "{description}");
        assert_eq!(description["RotationEnabled"], n == 4);
    }
    // No copy is there without a label either: only what was written, first and by hand.
    let list = "aws secretsmanager list-secret-version-ids --secret-id app/db --include-deprecated";
    let versions = dev.then(&tools, list).await.unwrap();
    assert_eq!(versions["Versions"].as_array().map(Vec::len), Some(2), "{versions}");
    let said = dev.end(Signal::TERM).await;
    let failed = "the test of the rotator failed: tidelock dev ended in the middle of it";
    assert!(said.contains(failed) && !said.contains("TestRotationSucceeded"), "{said}");
}

#[tokio::test]
async fn the_built_in_rotator_s_test_fails_for_a_value_that_it_cannot_start_from() {
    let tools = pypi::programs("awscli").await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let dev = Dev::typed(&rotating(home.path()).await).await;
    let test = "aws secretsmanager rotate-secret --secret-id bytes --rotation-lambda-arn generate --no-rotate-immediately";
    fs::write(home.path().join("bytes"), [0xff]).unwrap();
    let file = home.path().join("bytes");
    let made =
        format!("aws secretsmanager create-secret --name bytes --secret-binary fileb://{}", file.display());
    dev.then(&tools, &made).await.unwrap();
    dev.then(&tools, test).await.unwrap();
    let pendings = |found: &Value| found["VersionIdsToStages"].as_object().map(serde_json::Map::len);
    described(&dev, &tools, "bytes", |found| pendings(found) == Some(1)).await;
    let said = dev.end(Signal::TERM).await;
    assert!(said.contains("TestRotationFailed") && said.contains("the current value is bytes"), "{said}");
}

/// The processes that a process started and that still run.
fn children(process: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let of_task = |task: std::io::Result<fs::DirEntry>| {
        fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default()
    };
    tasks.flat_map(|task| of_task(task).split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

//! The program as it is started, where no cluster is needed.
//! Must not repeat what a unit test of the parser shows.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tidelock");

fn completion(shell: &str) -> String {
    let output = Command::new(PROGRAM).args(["completion", shell]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn completion_is_written_for_each_shell_and_bash_understands_it() {
    for shell in ["bash", "zsh", "fish"] {
        let script = completion(shell);
        for word in ["tidelock", "describe", "reveal", "approve", "accept-loss"] {
            assert!(script.contains(word), "{shell} is not told of `{word}`");
        }
        // What only the chart calls is no help to people.
        assert!(!script.contains("pre-delete"), "{shell} offers what is hidden");
    }
    let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
    bash.stdin.take().unwrap().write_all(completion("bash").as_bytes()).unwrap();
    assert!(bash.wait().unwrap().success());
    // In a shell that has loaded it, the words come, and those of hidden roles do not.
    for (begun, offered) in [("desc", "describe"), ("mou", ""), ("rota", "rotate")] {
        let ask = "source <(\"$0\" completion bash); COMP_WORDS=(tidelock $1); COMP_CWORD=1; \
                   _tidelock tidelock $1 tidelock; echo \"${COMPREPLY[@]}\"";
        let output = Command::new("bash").args(["-c", ask, PROGRAM, begun]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), offered);
    }
}

#[test]
fn the_program_takes_what_the_chart_s_schema_lets_through() {
    let schema = include_str!("../charts/tidelock/values.schema.json");
    let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
    let formats = schema["properties"]["log"]["properties"]["format"]["enum"].as_array().unwrap();
    assert!(!formats.is_empty());
    for format in formats {
        let taken =
            Command::new(PROGRAM).args(["crds", "--log-format", format.as_str().unwrap()]).output().unwrap();
        assert!(taken.status.success(), "{format}: {}", String::from_utf8_lossy(&taken.stderr));
    }
}

#[test]
fn kubectl_calls_the_same_program_by_another_name() {
    let help = Command::new(PROGRAM).arg0("/usr/local/bin/kubectl-tidelock").arg("--help").output().unwrap();
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    assert!(help.contains("Usage: kubectl tidelock"), "{help}");
}

#[test]
fn a_cluster_that_cannot_be_reached_is_said_in_one_line() {
    let nowhere =
        Command::new(PROGRAM).args(["list", "--kubeconfig", "/nonexistent/kubeconfig"]).output().unwrap();
    let error = String::from_utf8_lossy(&nowhere.stderr).into_owned();
    assert!(
        !nowhere.status.success() && error.starts_with("tidelock: the kubeconfig cannot be used:"),
        "{error}"
    );
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[test]
fn a_server_with_a_wrong_file_of_issuers_ends_at_once_and_says_in_one_line_what_would_be_right() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("issuers.yaml");
    let entry = |more: &str| {
        format!(
            "- {{issuer: 'https://ci.example', audience: tidelock, {more}rules: [{{serviceAccount: shop/ci, \
             claims: {{sub: ['repo:acme/x']}}}}]}}"
        )
    };
    for (text, words) in [
        (entry("audiences: x, "), "oidcIssuers[0].audiences: unknown field `audiences`"),
        (entry("caFile: ca.crt, "), "oidcIssuers[0].caFile: write the whole path of a file of certificates"),
        (
            entry("caFile: /nonexistent/ca.crt, "),
            "https://ci.example: caFile /nonexistent/ca.crt: No such file",
        ),
        (entry("").replace("https", "http"), "oidcIssuers[0].issuer: write the issuer's URL"),
        (entry("").replace("repo:acme/x", "*"), "oidcIssuers[0].rules[0].claims: write at least one claim"),
        ("{".to_owned(), "the file is not YAML"),
    ] {
        std::fs::write(&file, &text).unwrap();
        let said = refused_to_start("--oidc-issuers-file", &file);
        let begin = format!("the issuers' file {} is not right: ", file.display());
        assert!(said.contains(&begin) && said.contains(words), "{text}: {said}");
    }
}

#[test]
fn a_server_with_a_wrong_file_of_rotators_ends_at_once_and_says_in_one_line_what_would_be_right() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rotators.yaml");
    for (text, words) in [
        ("tokens: {generate: {password: {length: many}}}", "tokens.generate.password.length: invalid type"),
        ("tokens: {generate: {}}\nother: [", "the file is not YAML"),
    ] {
        std::fs::write(&file, text).unwrap();
        let said = refused_to_start("--rotators-file", &file);
        let begin = format!("the rotators' file {} is not right: ", file.display());
        assert!(said.contains(&begin) && said.contains(words), "{text}: {said}");
    }
}

/// What a server says, in one line, that does not start with this file.
fn refused_to_start(flag: &str, file: &Path) -> String {
    let args = ["server", "--namespace", "tidelock", "--pod-name", "one", "--installation", "tidelock.test"];
    let given = ["--image", "none", "--health-listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0"];
    let mut server = Command::new(PROGRAM);
    server.args(args).args(given).arg("--store-dir").arg(file.parent().unwrap());
    server.arg(flag).arg(file).env("KUBECONFIG", "/nonexistent/kubeconfig");
    let ended = server.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(!ended.status.success() && said.lines().count() == 1, "{said}");
    said
}

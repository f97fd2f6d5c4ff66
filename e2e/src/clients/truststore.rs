//! A truststore for Java, made by the very words of `docs/sdk.md`. Must not know better than the document.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::process::Command;

use super::build::java_home;
use crate::program::run;

const DOCUMENT: &str = include_str!("../../../docs/sdk.md");
/// The places of a pod that the document speaks of.
const AUTHORITY: &str = "/run/tidelock-aws/trust/ca.crt";
const STORE: &str = "/truststore/";
const SCRATCH: &str = "/tmp";

/// Makes it in the folder, of the JDK's own roots and this PEM file, and returns the options that name it.
pub async fn truststore(authority: &Path, folder: &Path) -> Result<String> {
    let (script, options) = recipe()?;
    let scratch = tempfile::tempdir()?;
    let script = placed(&script, SCRATCH, scratch.path())?;
    let script = placed(&script, AUTHORITY, authority)?;
    let script = placed(&script, STORE, &folder.join(""))?;
    let mut shell = Command::new("sh");
    shell.args(["-ec", &script]).env("JAVA_HOME", java_home().await?);
    run(&mut shell).await.context("the truststore of docs/sdk.md cannot be made")?;
    placed(&options, STORE, &folder.join(""))
}

/// The init container's script and the program's options.
fn recipe() -> Result<(String, String)> {
    let (_, section) = DOCUMENT.split_once("\n## Java\n").context("docs/sdk.md has no section on Java")?;
    let block = section.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next());
    let pod: Value = serde_yaml::from_str(block.context("the section on Java has no YAML")?)?;
    let script = pod["spec"]["initContainers"][0]["args"][0].as_str().context("there is no script")?;
    let options = pod["spec"]["containers"][0]["env"][0]["value"].as_str().context("there are no options")?;
    Ok((script.to_owned(), options.to_owned()))
}

/// A pod's place, exchanged for one of this machine.
fn placed(text: &str, place: &str, here: &Path) -> Result<String> {
    anyhow::ensure!(text.contains(place), "docs/sdk.md does not speak of {place}: {text}");
    Ok(text.replace(place, &here.display().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_words_of_the_document_make_a_store_of_the_public_roots_and_each_authority() -> Result<()> {
        crate::prerequisites::java().await?;
        let folder = tempfile::tempdir()?;
        let authority = folder.path().join("given.crt");
        let pem =
            || rcgen::generate_simple_self_signed(vec!["tidelock".to_owned()]).map(|made| made.cert.pem());
        std::fs::write(&authority, format!("{}{}", pem()?, pem()?))?;
        let options = truststore(&authority, folder.path()).await?;
        let store = folder.path().join("cacerts.p12").display().to_string();
        assert!(options.contains(&format!("-Djavax.net.ssl.trustStore={store}")), "{options}");
        let list = ["-list", "-keystore", &store, "-storetype", "PKCS12", "-storepass", "changeit"];
        let listed = run(Command::new("keytool").args(list)).await?;
        let trusted = listed.lines().filter(|line| line.contains("trustedCertEntry")).count();
        assert!(listed.contains("tidelock-1.crt") && listed.contains("tidelock-2.crt"), "{listed}");
        assert!(trusted > 100, "{trusted}");
        Ok(())
    }
}

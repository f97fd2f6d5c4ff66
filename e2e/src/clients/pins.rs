//! Which version of each client its lock pins, and whether the documentation says so. Must not ask a registry.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::{Client, sources};

/// A package of a registry at one version.
#[derive(Debug, PartialEq, Eq)]
pub struct Pin {
    pub package: &'static str,
    pub version: String,
}

pub(super) fn of(client: Client) -> Result<Pin> {
    let pip = |package, name: &str| {
        found(package, Path::new("../pypi").join(format!("{name}.txt")), &format!("{package}=="))
    };
    match client {
        Client::Boto3 => pip("boto3", "boto3"),
        Client::CommandLine => pip("awscli", "awscli"),
        Client::Caching => pip("aws-secretsmanager-caching", "caching"),
        Client::Go => {
            let module = "github.com/aws/aws-sdk-go-v2/service/secretsmanager";
            found(module, "go/go.mod", &format!("{module} v"))
        }
        Client::JavaScript => {
            let package = "@aws-sdk/client-secrets-manager";
            found(package, "js/package.json", &format!("\"{package}\": \""))
        }
        // Its version is that of the bill of materials.
        Client::Java => {
            let bill = "<artifactId>bom</artifactId>\n        <version>";
            found("software.amazon.awssdk:secretsmanager", "java/pom.xml", bill)
        }
        Client::Rust => {
            let package = "aws-sdk-secretsmanager";
            found(package, "rust/Cargo.lock", &format!("name = \"{package}\"\nversion = \""))
        }
    }
}

/// The version that stands behind these words in that lock.
fn found(package: &'static str, lock: impl AsRef<Path>, before: &str) -> Result<Pin> {
    let path = sources().join(lock);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let rest = text.split_once(before).with_context(|| format!("{} pins no {package}", path.display()))?.1;
    let version = rest.split(|end: char| !end.is_ascii_alphanumeric() && end != '.').next();
    Ok(Pin { package, version: version.unwrap_or_default().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first column of the table of operations.
    fn operations(document: &str) -> Vec<&str> {
        let rows = document.lines().take_while(|line| *line != "## Clients");
        rows.filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect()
    }

    #[test]
    fn the_documented_clients_are_those_that_are_run() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/aws-api.md");
        let document = fs::read_to_string(path).unwrap();
        let all = operations(&document);
        assert_eq!(all.len(), 26);
        let quoted =
            |names: Vec<&str>| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        for client in Client::ALL {
            let Pin { package, version } = client.pin().unwrap();
            let has = client.operations(&all);
            let lacks = all.iter().copied().filter(|name| !has.contains(name)).collect::<Vec<_>>();
            let which = match (has.len(), lacks.len()) {
                (_, 0) => "all 26".to_owned(),
                (few, _) if few < 5 => quoted(has),
                (many, _) => format!("{many}, all but {}", quoted(lacks)),
            };
            let row = format!("| `{package}` | {version} | {which} |");
            assert!(document.contains(&row), "docs/aws-api.md lacks the row\n{row}");
        }
    }
}

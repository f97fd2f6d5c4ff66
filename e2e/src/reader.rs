//! Documents whose commands a test types literally: finds them in the text, and types them into a shell.
//! Must not know what they are to come to.

use std::fs;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::shop::Shop;
use crate::{Person, Tools};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// What an inline command begins with; other code in the text is no command.
const PROGRAMS: [&str; 10] =
    ["make", "helm", "kubectl", "skopeo", "tidelock", "umount", "findmnt", "docker", "cargo", "buildah"];

/// The commands of a text: the lines of its blocks in `sh`, and code within sentences that begins with a program.
pub fn commands(text: &str) -> Vec<String> {
    let (mut found, mut prose, mut block) = (Vec::new(), String::new(), None::<(bool, String)>);
    for line in text.lines().map(str::trim) {
        match (line.strip_prefix("```"), &mut block) {
            (Some(kind), None) => {
                found.extend(inline(&prose));
                prose.clear();
                block = Some((kind == "sh", String::new()));
            }
            (Some(_), Some((is_sh, lines))) => {
                if *is_sh {
                    let joined = lines.replace("\\\n", "");
                    found.extend(joined.lines().filter(|line| !line.is_empty()).map(str::to_owned));
                }
                block = None;
            }
            (None, Some((_, lines))) => lines.push_str(&format!("{line}\n")),
            (None, None) => prose.push_str(&format!("{line}\n")),
        }
    }
    found.extend(inline(&prose));
    found
}

fn inline(prose: &str) -> Vec<String> {
    let code = prose.split('`').skip(1).step_by(2).map(|code| code.replace('\n', " "));
    code.filter(|code| code.split_once(' ').is_some_and(|(program, _)| PROGRAMS.contains(&program))).collect()
}

/// Somebody who reads a document beside a cluster.
pub struct Reader {
    pub shop: Shop,
    pub person: Person,
    /// What nobody has typed yet.
    pub left: Vec<String>,
    tools: Tools,
}

impl Reader {
    /// As administrator of the shop's cluster, with a document at the root of the clone.
    pub async fn of(document: &str, shop: Shop) -> Result<Self> {
        let path = format!("{ROOT}/{document}");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let person = Person::administrator(&shop.cluster).await?;
        Ok(Self { shop, person, left: commands(&text), tools: Tools::ensure().await? })
    }

    /// The one command that begins so. From now on it counts as run.
    #[track_caller]
    pub fn finds(&mut self, begin: &str) -> String {
        let at = self.left.iter().position(|command| command.starts_with(begin));
        self.left.remove(at.unwrap_or_else(|| panic!("there is no command `{begin}`")))
    }

    /// Types the command into a shell, at the root of the clone.
    pub async fn types(&self, command: &str) -> Result<String> {
        let mut shell = Command::new("bash");
        let output = self
            .person
            .dress(&mut shell)
            .current_dir(ROOT)
            .env("PATH", self.person.search_path(self.tools.folder()))
            .args(["-euo", "pipefail", "-c", command])
            .output()
            .await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        ensure!(output.status.success(), "`{command}`: {}", text(&output.stderr));
        Ok(text(&output.stdout) + &text(&output.stderr))
    }

    pub async fn does(&mut self, begin: &str) -> Result<String> {
        let command = self.finds(begin);
        self.types(&command).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_in_blocks_and_in_sentences() {
        let text = "Say `make demo`, or\n`helm install x\ny`; not `target/x` nor `make`.\n  ```sh\n  a \\\n    b\n  c\n  ```\n```yaml\nd\n```\n";
        assert_eq!(commands(text), ["make demo", "helm install x y", "a b", "c"]);
    }
}

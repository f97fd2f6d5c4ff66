//! Somebody at a terminal: the command line as it ships, with a kubeconfig and a configuration folder of his own.
//! Must not know what the commands do.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{Cluster, images};

/// One person with his rights in a cluster.
pub struct Person {
    program: PathBuf,
    home: tempfile::TempDir,
}

/// What a command answered.
#[derive(Debug)]
pub struct Said {
    /// Standard output: the answer.
    pub answer: String,
    /// Standard error: progress, or why not.
    pub aside: String,
    pub success: bool,
    /// With what the process ended; nothing when a signal ended it.
    pub code: Option<i32>,
}

impl Person {
    /// With all rights.
    pub async fn administrator(cluster: &Cluster) -> Result<Self> {
        Self::with(cluster, None).await
    }

    /// With the rights that the cluster gives a user of this name.
    pub async fn named(cluster: &Cluster, user: &str) -> Result<Self> {
        Self::with(cluster, Some(user)).await
    }

    async fn with(cluster: &Cluster, user: Option<&str>) -> Result<Self> {
        let home = tempfile::tempdir()?;
        let mut kubeconfig: Value = serde_json::from_slice(&fs::read(cluster.kubeconfig())?)
            .context("a kubeconfig of these clusters is JSON")?;
        if let Some(user) = user {
            kubeconfig["users"][0]["user"]["as"] = json!(user);
        }
        fs::write(home.path().join("kubeconfig"), kubeconfig.to_string())?;
        Ok(Self { program: images::tidelock_program().await?, home })
    }

    /// Where `tidelock` is, for a search path.
    pub fn program(&self) -> &Path {
        &self.program
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.home.path().join("kubeconfig")
    }

    /// What stands in his settings from now on.
    pub fn settles(&self, yaml: &str) -> Result<()> {
        let folder = self.home.path().join("tidelock");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("config.yaml"), yaml)?;
        Ok(())
    }

    /// Types `tidelock` and these words, and reads what comes back.
    pub async fn types(&self, words: &[&str]) -> Result<Said> {
        let mut command = Command::new(&self.program);
        let output = self.dress(&mut command).args(words).output().await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Said {
            answer: text(&output.stdout),
            aside: text(&output.stderr),
            success: output.status.success(),
            code: output.status.code(),
        })
    }

    /// The environment of his terminal.
    pub fn dress<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("KUBECONFIG", self.kubeconfig())
            .env("XDG_CONFIG_HOME", self.home.path())
            .env("HOME", self.home.path())
            .stdin(Stdio::null())
            .kill_on_drop(true)
    }

    /// A search path on which his programs come first.
    pub fn search_path(&self, tools: &Path) -> std::ffi::OsString {
        let own = self.program.parent().unwrap_or(Path::new("/")).as_os_str();
        [own, tools.as_os_str(), OsStr::new("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")]
            .join(OsStr::new(":"))
    }
}

impl Said {
    /// The answer of a command that did what it should.
    #[track_caller]
    pub fn well(self) -> String {
        assert!(self.success, "{}", self.aside);
        self.answer
    }

    /// Why a command did not.
    #[track_caller]
    pub fn refused(self) -> String {
        assert!(!self.success, "was done, though it should have been refused: {}{}", self.answer, self.aside);
        assert_eq!(self.answer, "", "a refusal is no answer");
        self.aside
    }
}

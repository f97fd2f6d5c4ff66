//! Programs with AWS's own clients, each unmodified from its registry at the version that its lock in `e2e/clients/`
//! pins, built once into the cache. Must not know what the server answers: that is the story that each of them tells.

mod build;
mod pins;
mod truststore;

use std::path::{Path, PathBuf};

use anyhow::Result;

pub use pins::Pin;
pub use truststore::truststore;

/// Operations that the models of some clients do not have yet.
const NEWEST: [&str; 3] =
    ["AssociateCrossAccountReplica", "DisassociateCrossAccountReplica", "ListResourcePolicies"];

/// Where the programs and their locks lie.
fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    Boto3,
    CommandLine,
    Caching,
    Go,
    JavaScript,
    Java,
    Rust,
}

/// What to run: a program and its words.
#[derive(Debug, Clone)]
pub struct Driver {
    pub program: PathBuf,
    pub words: Vec<String>,
}

impl Client {
    pub const ALL: [Self; 7] =
        [Self::Boto3, Self::CommandLine, Self::Caching, Self::Go, Self::JavaScript, Self::Java, Self::Rust];

    /// One word, for names and tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::Boto3 => "boto3",
            Self::CommandLine => "awscli",
            Self::Caching => "caching",
            Self::Go => "go",
            Self::JavaScript => "js",
            Self::Java => "java",
            Self::Rust => "rust",
        }
    }

    /// The operations of the service that it has, of all of them.
    pub fn operations<'all>(self, all: &[&'all str]) -> Vec<&'all str> {
        let has = |operation: &&str| match self {
            Self::Caching => ["DescribeSecret", "GetSecretValue"].contains(operation),
            Self::CommandLine | Self::JavaScript | Self::Java | Self::Rust => !NEWEST.contains(operation),
            Self::Boto3 | Self::Go => true,
        };
        all.iter().copied().filter(|operation| has(operation)).collect()
    }

    pub fn pin(self) -> Result<Pin> {
        pins::of(self)
    }

    /// Built and installed where it is not yet.
    pub async fn driver(self) -> Result<Driver> {
        match self {
            Self::Boto3 => build::python("boto3", "boto3_client.py").await,
            Self::CommandLine => build::python("awscli", "awscli_client.py").await,
            Self::Caching => build::python("caching", "caching_client.py").await,
            Self::Go => build::go().await,
            Self::JavaScript => build::js().await,
            Self::Java => build::java().await,
            Self::Rust => build::rust().await,
        }
    }
}

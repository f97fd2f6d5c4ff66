//! One image by buildah, as an OCI archive in the cache. Must not know what is inside.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tokio::process::Command;

use crate::cache::{self, Key};
use crate::program::run;
use crate::progress;

/// An image that pods can name once its archive is loaded into a cluster. They pull it `Never` or `IfNotPresent`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Without the tag, as charts want it.
    pub repository: String,
    pub tag: String,
    pub archive: PathBuf,
}

impl Image {
    /// The whole name, as pods want it.
    pub fn name(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }
}

/// Builds `recipe` on the folder that `prepare` fills, unless this recipe with this key is in the cache.
/// The tag is the key, so that a cluster never runs an older build of the same name.
pub(super) async fn build(
    name: &str,
    key: Key,
    recipe: &str,
    prepare: impl Fn(&Path) -> Result<()>,
) -> Result<Image> {
    let tag = key.text(recipe).to_string();
    let folder = cache::folder()?.join("images").join(format!("{name}-{tag}"));
    let image = Image {
        repository: format!("tidelock.test/{name}"),
        tag,
        archive: folder.join(format!("{name}.tar")),
    };
    if folder.exists() {
        return Ok(image);
    }
    let _alone = cache::lock("images").await?;
    cache::fill(&folder, async |partial| {
        let step = progress::step(&format!("build image {}", image.name()), "");
        let context = partial.join("context");
        fs::create_dir_all(&context)?;
        prepare(&context)?;
        fs::write(partial.join("Containerfile"), recipe)?;
        let archive = partial.join(format!("{name}.tar"));
        buildah(&partial.join("Containerfile"), &context, &image.name(), &archive).await?;
        fs::remove_dir_all(&context)?;
        step.done();
        Ok(())
    })
    .await
    .with_context(|| format!("cannot build the image {name}"))?;
    Ok(image)
}

async fn buildah(recipe: &Path, context: &Path, name: &str, archive: &Path) -> Result<()> {
    // Storage of our own, so that neither the user's images nor leftovers of other builds are touched.
    let storage = tempfile::tempdir_in(cache::folder()?)?;
    let policy = storage.path().join("policy.json");
    fs::write(&policy, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#)?;
    let buildah = |verb: &str| {
        let mut command = Command::new("buildah");
        command.args(["--storage-driver", "vfs"]);
        command.arg("--root").arg(storage.path().join("root"));
        command.arg("--runroot").arg(storage.path().join("run"));
        command.arg(verb).arg("--signature-policy").arg(&policy);
        command
    };
    run(buildah("build")
        .args(["--isolation", "chroot", "--timestamp", "0", "--tag", name, "--file"])
        .arg(recipe)
        .arg(context))
    .await?;
    run(buildah("push").arg(name).arg(format!("oci-archive:{}:{name}", archive.display()))).await?;
    Ok(())
}

//! The shared libraries that a program of this machine loads, so that it runs in an image without anything else.
//! Linked dynamically on purpose: a program linked statically against glibc crashes when it resolves a name.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::program::run;

/// The loader and the libraries, by the paths under which the program looks for them.
pub(super) async fn of(program: &Path) -> Result<Vec<PathBuf>> {
    let listed = run(Command::new("ldd").arg(program)).await?;
    let libraries = parse(&listed);
    ensure!(!libraries.is_empty(), "`ldd {}` names no library:\n{listed}", program.display());
    Ok(libraries)
}

/// Lines are `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x...)` or, for the loader, `/lib64/ld-... (0x...)`.
fn parse(listed: &str) -> Vec<PathBuf> {
    listed
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(PathBuf::from)
        .collect()
}

/// Copies them under `root`, links resolved, paths kept.
pub(super) fn place(libraries: &[PathBuf], root: &Path) -> Result<()> {
    for library in libraries {
        let inside = root.join(library.strip_prefix("/").unwrap_or(library));
        if let Some(parent) = inside.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::copy(library, &inside).with_context(|| format!("cannot copy {}", library.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_loader_are_read_and_the_virtual_one_is_left_out() {
        let listed = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(parse(listed), expected.map(PathBuf::from));
    }
}

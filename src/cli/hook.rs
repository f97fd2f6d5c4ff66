//! What the chart's hooks ask before Helm goes on: may the node agents run here, and would an uninstall strand pods?
//! Must not change anything: it looks, and refuses with the words to act on.

use std::io::Write;

use clap::Subcommand;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use super::CliError;

/// When Helm asks.
#[derive(Subcommand, Debug, Clone)]
pub enum Hook {
    /// Before installing: does the namespace admit the privileged mounter?
    PreInstall {
        /// The namespace of the release.
        #[arg(long)]
        namespace: String,
    },
    /// Before uninstalling: does any pod still have our volumes?
    PreDelete {
        /// Go on even so.
        #[arg(long)]
        force: bool,
        /// What the uninstall leaves, to be told; may be given several times.
        #[arg(long = "leaves", value_name = "OBJECT")]
        leaves: Vec<String>,
    },
}

const DRIVER: &str = "csi.tidelock.dev";
const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
const PAGE: u32 = 500;
/// More names than a person reads do not help.
const LISTED_MAX: usize = 50;

/// Runs in the hook's pod, with the rights of the hook's ServiceAccount.
pub async fn run(hook: &Hook, out: &mut (dyn Write + Send)) -> Result<(), CliError> {
    let client = Client::try_default().await?;
    match hook {
        Hook::PreInstall { namespace } => pre_install(client, namespace).await,
        Hook::PreDelete { force, leaves } => {
            pre_delete(client, *force, out).await?;
            tell_what_stays(leaves, out)
        }
    }
}

async fn pre_install(client: Client, namespace: &str) -> Result<(), CliError> {
    let found = Api::<Namespace>::all(client).get(namespace).await?;
    match found.labels().get(ENFORCE).map(String::as_str) {
        None | Some("privileged") => Ok(()),
        Some(level) => Err(CliError::Refused(format!(
            "namespace {namespace} enforces the Pod Security level {level}, and the node agents need privileged: \
             kubectl label namespace {namespace} {ENFORCE}=privileged --overwrite"
        ))),
    }
}

async fn pre_delete(client: Client, force: bool, out: &mut (dyn Write + Send)) -> Result<(), CliError> {
    let api: Api<Pod> = Api::all(client);
    let mut page = ListParams::default().limit(PAGE);
    let mut users = Vec::new();
    loop {
        let list = api.list(&page).await?;
        let more = list.metadata.continue_.clone().filter(|token| !token.is_empty());
        users.extend(list.items.iter().filter(|pod| uses_us(pod)).map(name_of));
        match more {
            Some(token) => page = page.continue_token(&token),
            None => break,
        }
    }
    judge(users, force, out)
}

fn judge(users: Vec<String>, force: bool, out: &mut (dyn Write + Send)) -> Result<(), CliError> {
    if users.is_empty() {
        return Ok(());
    }
    let mut shown = users.iter().take(LISTED_MAX).cloned().collect::<Vec<_>>().join(", ");
    if users.len() > LISTED_MAX {
        shown.push_str(&format!(" and {} more", users.len() - LISTED_MAX));
    }
    if force {
        writeln!(out, "forced: these pods stay Terminating when they end, until a driver is back: {shown}")?;
        return Ok(());
    }
    Err(CliError::Refused(format!(
        "{} pods still have Tidelock's volumes, and without the driver they could not end: {shown}. Remove them \
         first. Helm takes the release for half uninstalled now: `helm rollback` to the newest revision of `helm \
         history` keeps it as it was; `helm uninstall --no-hooks` takes it away all the same",
        users.len()
    )))
}

/// Helm shows it to whoever uninstalls.
fn tell_what_stays(leaves: &[String], out: &mut (dyn Write + Send)) -> Result<(), CliError> {
    if !leaves.is_empty() {
        let stays = leaves.join(", ");
        writeln!(
            out,
            "Stays, for with it every value would go: {stays}. An install of the same name goes on with it."
        )?;
    }
    Ok(())
}

/// A pod that has ended holds no mount any more.
fn uses_us(pod: &Pod) -> bool {
    let ended = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    !matches!(ended, Some("Succeeded" | "Failed"))
        && volumes.into_iter().any(|volume| volume.csi.as_ref().is_some_and(|csi| csi.driver == DRIVER))
}

fn name_of(pod: &Pod) -> String {
    format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(driver: &str, phase: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "app", "namespace": "shop"},
            "spec": {"containers": [], "volumes": [{"name": "a", "csi": {"driver": driver}}]},
            "status": {"phase": phase},
        }))
        .unwrap()
    }

    #[test]
    fn only_pods_that_still_have_our_volumes_count() {
        assert!(uses_us(&pod(DRIVER, "Running")) && uses_us(&pod(DRIVER, "Pending")));
        assert!(!uses_us(&pod("other.example", "Running")) && !uses_us(&pod(DRIVER, "Succeeded")));
    }

    #[test]
    fn an_uninstall_that_would_strand_pods_is_refused_unless_forced() {
        let mut out = Vec::new();
        let users = || vec!["shop/app".to_owned()];
        let refused = judge(users(), false, &mut out).unwrap_err().to_string();
        assert!(refused.contains("shop/app") && refused.contains("helm uninstall --no-hooks"), "{refused}");
        assert!(judge(users(), true, &mut out).is_ok() && String::from_utf8_lossy(&out).contains("shop/app"));
        assert!(judge(Vec::new(), false, &mut Vec::new()).is_ok());
    }

    #[test]
    fn an_uninstall_tells_what_stays() {
        let mut out = Vec::new();
        tell_what_stays(&["Secret a/b".to_owned(), "the definitions".to_owned()], &mut out).unwrap();
        assert!(String::from_utf8_lossy(&out).contains("Secret a/b, the definitions"));
    }
}

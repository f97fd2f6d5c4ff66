//! `tidelock doctor`: looks at an installation with the person's own rights and says what to mend. Changes nothing.
//! What a person may not look at is unknown, not broken.

mod admission;
mod finding;
mod judge;
mod look;
mod nodes;
mod probe;
mod rights;
mod seen;

use std::io::Write;

use clap::Args;

use super::connect::Cluster;
use super::{CliError, Format, output};
use crate::clock::{Clock, SystemClock};
use finding::{Finding, State};

#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// The namespace that Tidelock is installed in.
    #[arg(long, default_value = "tidelock-system", value_name = "NAMESPACE")]
    server_namespace: String,
    /// The name of the installation's objects.
    #[arg(long, default_value = "tidelock", value_name = "NAME")]
    release: String,
    /// How to write the answer.
    #[arg(long, short = 'o', value_enum, default_value_t)]
    output: Format,
}

/// What is looked at, and where.
#[derive(Debug, Clone)]
pub struct Place {
    pub namespace: String,
    pub release: String,
    /// The namespace in which a pod is tried, in a dry run.
    pub trial: String,
}

pub async fn run(args: &DoctorArgs, cluster: &Cluster, out: &mut (dyn Write + Send)) -> Result<(), CliError> {
    let place = Place {
        namespace: args.server_namespace.clone(),
        release: args.release.clone(),
        trial: cluster.namespace.clone(),
    };
    // Whoever gets no answer at all has looked at nothing.
    cluster.client.apiserver_version().await?;
    // It asks for much at once: not on the stack.
    let observed = Box::pin(look::look(&cluster.client, &place)).await;
    let findings = judge::judge(&observed, &place, SystemClock.now());
    output::write(out, args.output, &findings, || finding::rows(&findings))?;
    verdict(&findings)
}

fn verdict(findings: &[Finding]) -> Result<(), CliError> {
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    match (count(State::Mend), count(State::Unknown)) {
        (0, 0) => Ok(()),
        (0, unseen) => Err(CliError::NotAllSeen(unseen)),
        (mend, _) => Err(CliError::ToMend(mend)),
    }
}

#[cfg(test)]
mod tests {
    use super::finding::Word;
    use super::*;

    #[test]
    fn what_needs_mending_and_what_could_not_be_seen_end_differently() {
        let well = Finding::well("server", "");
        let notice = Finding::notice("secrets", Word::NotAllReady, "");
        let unknown = Finding::unknown("rights", Word::NotAllowedToLook, "");
        let mend = Finding::mend("webhook", Word::WebhookMissing, "");
        let code = |findings: &[&Finding]| {
            let findings: Vec<Finding> = findings.iter().map(|one| (*one).clone()).collect();
            verdict(&findings).map_or_else(|error| error.exit_code(), |()| 0)
        };
        assert_eq!(code(&[&well, &notice]), 0);
        assert_eq!(code(&[&well, &unknown]), 4);
        assert_eq!(code(&[&well, &unknown, &mend]), 3);
        assert_eq!(CliError::NotInstalled.exit_code(), 1);
    }
}

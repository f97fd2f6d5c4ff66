//! `make bench-api`: how many requests of AWS's API the server answers and how fast, beside moto's server and beside
//! what limits it, by one client in one run. Must not judge by a test: a target that is missed is told in the table.

mod limit;
mod load;
mod sign;
mod site;
mod table;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use tidelock_e2e::bench::{Machine, busy, now};
use tidelock_e2e::{images, progress};

use load::{Asked, Make, Measured, run};
use site::{Peer, SECRETS, Site, name, value};
pub use table::Report;
use table::{Aim, Row, Side};

/// Of the row that reads any of the secrets.
const SOME: usize = 50;
/// A connection stands for a program, which reads secrets of its own.
const OF_ONE: usize = 20;
/// In each value, so that each answer can be checked.
const MARKER: &str = "correct-horse";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Act {
    Get,
    /// Of any of the secrets.
    GetAny,
    Batch,
    Put,
}

impl Act {
    fn title(self) -> String {
        match self {
            Self::Get => "GetSecretValue".to_owned(),
            Self::GetAny => format!("GetSecretValue, any of {SECRETS}"),
            Self::Batch => format!("BatchGetSecretValue of {OF_ONE}"),
            Self::Put => "PutSecretValue".to_owned(),
        }
    }

    fn operation(self) -> &'static str {
        match self {
            Self::Get | Self::GetAny => "GetSecretValue",
            Self::Batch => "BatchGetSecretValue",
            Self::Put => "PutSecretValue",
        }
    }

    /// What every answer to it holds.
    fn marker(self) -> &'static str {
        match self {
            Self::Put => "VersionId",
            _ => MARKER,
        }
    }

    fn body(self, which: usize, number: usize) -> Value {
        /// No two puts say the same, over the whole run.
        static TOKENS: AtomicU64 = AtomicU64::new(0);
        let own = |number: usize| name((which * OF_ONE + number % OF_ONE) % SECRETS);
        match self {
            Self::Get => json!({"SecretId": own(number)}),
            // A stride that is no divisor: each connection comes by all of them.
            Self::GetAny => json!({"SecretId": name((which * 211 + number * 7919) % SECRETS)}),
            Self::Batch => json!({"SecretIdList": (0..OF_ONE).map(own).collect::<Vec<_>>()}),
            Self::Put => {
                let token = TOKENS.fetch_add(1, Ordering::Relaxed);
                let token = format!("load-{token:032}");
                json!({"SecretId": own(number), "SecretString": value(MARKER), "ClientRequestToken": token})
            }
        }
    }

    fn aims(self, connections: usize) -> Vec<Aim> {
        let all: &[Aim] = match (self, connections) {
            (Self::Get, 50) => &[Aim::Cpu, Aim::P99, Aim::OfLimit],
            (Self::Get, _) => &[Aim::Cpu, Aim::OfLimit],
            (Self::Put, 50) => &[Aim::P99, Aim::OfLimit],
            (Self::Put, _) => &[Aim::OfLimit],
            (Self::Batch, 50) => &[Aim::P99],
            _ => &[],
        };
        all.to_vec()
    }
}

pub async fn measure(connections: &[usize]) -> Result<Report> {
    let mut machine = Machine::read()?;
    machine.when = now();
    machine.profile = images::profile();
    machine.busy_before = busy("see how busy the machine is before").await?;
    machine.versions =
        vec![format!("Tidelock {} ({})", env!("CARGO_PKG_VERSION"), images::revision().await?)];
    let mut rows = on_ours(connections).await?;
    let failed = on_moto(&mut rows).await?;
    on_the_store(&mut rows).await?;
    machine.busy_after = busy("see how busy the machine is after").await?;
    Ok(Report { machine, rows, notes: notes(failed) })
}

/// The server's rows, with the health route as the limit of reads.
async fn on_ours(connections: &[usize]) -> Result<Vec<Row>> {
    let site = Site::start().await?;
    measured_on(&site, connections).await.with_context(|| site.said())
}

async fn measured_on(site: &Site, all: &[usize]) -> Result<Vec<Row>> {
    let ours = &site.ours;
    ours.fill(MARKER, "Tidelock", 32).await?;
    let mut rows = Vec::new();
    for &connections in all {
        let limit = asked("the health route", connections, async || {
            let host = ours.target.host();
            let live: Make = Arc::new(move |_, _| {
                Ok(Request::get("/livez").header("host", &host).body(Full::default())?)
            });
            let asked = Asked { make: live, marker: "ok", is_strict: true };
            run(&ours.target, connections, asked, Some(ours.process)).await
        })
        .await?;
        for act in [Act::Get, Act::Batch, Act::Put] {
            let measured = asked(&act.title(), connections, || load(ours, act, connections, true)).await?;
            let limit = (act == Act::Get).then(|| Side::from(&limit));
            rows.push(row(act, connections, &measured, limit));
        }
    }
    let title = Act::GetAny.title();
    let measured = asked(&title, SOME, || load(ours, Act::GetAny, SOME, true)).await?;
    rows.push(row(Act::GetAny, SOME, &measured, None));
    rows.sort_by_key(|row| row.operation.clone());
    Ok(rows)
}

fn row(act: Act, connections: usize, measured: &Measured, limit: Option<Side>) -> Row {
    let (operation, aims) = (act.title(), act.aims(connections));
    Row { operation, connections, ours: measured.into(), moto: None, limit, aims }
}

/// Gives how many of its answers were errors.
async fn on_moto(rows: &mut [Row]) -> Result<u32> {
    let moto = site::moto().await?;
    // One after the other: creations at once make it stumble.
    moto.fill(MARKER, "moto", 1).await?;
    let mut failed = 0;
    for row in rows {
        let acts = [Act::Get, Act::GetAny, Act::Batch, Act::Put];
        let Some(act) = acts.into_iter().find(|act| act.title() == row.operation) else { continue };
        let title = format!("{} of moto", row.operation);
        let measured = asked(&title, row.connections, || load(&moto, act, row.connections, false));
        let measured = measured.await?;
        failed += measured.failed;
        row.moto = Some((&measured).into());
    }
    Ok(failed)
}

async fn on_the_store(rows: &mut [Row]) -> Result<()> {
    for row in rows.iter_mut().filter(|row| row.operation == Act::Put.title()) {
        let measured = asked("the bare store", row.connections, || limit::writes(row.connections)).await?;
        row.limit = Some((&measured).into());
    }
    Ok(())
}

async fn load(peer: &Arc<Peer>, act: Act, connections: usize, is_strict: bool) -> Result<Measured> {
    let asks = Arc::clone(peer);
    let make: Make = Arc::new(move |which, number| {
        let body = act.body(which, number);
        // No two puts say the same.
        if act == Act::Put {
            asks.request(act.operation(), &body)
        } else {
            asks.request_again(act.operation(), &body)
        }
    });
    let asked = Asked { make, marker: act.marker(), is_strict };
    run(&peer.target, connections, asked, Some(peer.process)).await
}

async fn asked<F: Future<Output = Result<Measured>>>(
    what: &str,
    connections: usize,
    ask: impl FnOnce() -> F,
) -> Result<Measured> {
    let step = progress::step(&format!("ask {what} over {connections} connections"), "six seconds");
    let measured = ask().await;
    step.done();
    measured
}

fn notes(failed: u32) -> Vec<String> {
    vec![
        format!(
            "{SECRETS} secrets of 256 bytes, created by the API; each connection, kept open, sends its next request when \
             the last one is answered, and reads and writes {OF_ONE} secrets of its own; the same request is signed once a \
             second; 5 s are counted after 1 s"
        ),
        "Tidelock: TLS, signature, session, ServiceAccount and RBAC (by the cluster's API server) checked, the audit's row \
         of each read on disk before the answer; client, server and API server share the processors"
            .to_owned(),
        format!(
            "moto keeps secrets in memory, in the clear, without TLS here; it verifies neither signature nor token, asks \
             nobody for rights, and writes nothing down; {failed} of its answers were errors, and are not counted"
        ),
        "limit of reads: GET /livez of the same server, over the same port and TLS, by the same client; of writes: the embedded store alone, asked by as \
         many at once for a version, the secret's record and the audit's row"
            .to_owned(),
    ]
}

//! A million requests that are none: the server as it ships answers each with an error of its protocol, or hangs up, and is
//! afterwards as it was, in memory too. Must not need nodes.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use futures::future::try_join_all;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tidelock_e2e::images;
use tidelock_e2e::site::Site;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const REQUESTS: usize = 1_000_000;
/// After which the memory is looked at first.
const WARM_UP: usize = 200_000;
/// Requests after which nothing more can be said on a connection, and bytes that never become one.
const HANG_UPS: usize = 10_000;
const CONNECTIONS: usize = 8;
/// Sent before the first answer is read.
const AHEAD: usize = 16;
const DEADLINE: Duration = Duration::from_secs(1800);
const PATIENCE: Duration = Duration::from_secs(60);

/// Requests that are answered and leave the connection as it was.
fn answered() -> Vec<Vec<u8>> {
    let post = |headers: &str, body: &str| {
        format!("POST / HTTP/1.1\r\nhost: x\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
            .into_bytes()
    };
    let get = "x-amz-target: secretsmanager.GetSecretValue\r\ncontent-type: application/x-amz-json-1.1\r\n";
    let signed = |words: &str| post(&format!("{get}authorization: AWS4-HMAC-SHA256 {words}\r\n"), "{}");
    let dated = |words: &str| {
        let date = "x-amz-date: 20260101T000000Z\r\nx-amz-security-token: bm9uZQ==\r\n";
        post(&format!("{get}{date}authorization: AWS4-HMAC-SHA256 {words}\r\n"), "{")
    };
    let form = |body: &str| post("content-type: application/x-www-form-urlencoded\r\n", body);
    let credential = "Credential=ASIAAAAAAAAAAAAAAAAA/20260101/local-1/secretsmanager/aws4_request";
    let assume = "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleSessionName=x";
    vec![
        post("", ""),
        post("x-amz-target: secretsmanager.NoSuchOperation\r\n", "{}"),
        post("x-amz-target: other.GetSecretValue\r\n", "{}"),
        post("x-amz-target: \r\n", "\u{0}"),
        post(get, "{\"SecretId\":"),
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        b"PUT /%ff%00/../.. HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n".to_vec(),
        b"GET /?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=%zz HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        [
            b"POST / HTTP/1.1\r\nhost: x\r\nx-amz-target: \xff\xfe\r\n".to_vec(),
            b"content-length: 0\r\n\r\n".to_vec(),
        ]
        .concat(),
        signed(""),
        signed("Credential=, SignedHeaders=, Signature="),
        signed(&format!("{credential}, SignedHeaders=host, Signature=0")),
        dated(&format!("{credential}, SignedHeaders=host;x-amz-date, Signature={}", "0".repeat(64))),
        dated(&format!("{credential}, SignedHeaders={}, Signature={}", "h;".repeat(2000), "z".repeat(64))),
        post(&format!("{get}authorization: Bearer {}\r\n", ".".repeat(4000)), "{}"),
        post(&format!("{get}authorization: Basic eDp5\r\n"), "{}"),
        form("Action=NoSuchAction&Version=2011-06-15"),
        form("Action=AssumeRoleWithWebIdentity"),
        form(&format!("{assume}&RoleArn=x&WebIdentityToken=y")),
        form(&format!(
            "{assume}&RoleArn=arn:aws:iam::000000000000:role/a/b&WebIdentityToken={}",
            "%2e".repeat(500)
        )),
        form(&"%".repeat(9000)),
    ]
}

/// What ends a connection, after its handshake. An answer, if there is one, is none of success.
fn hang_ups() -> Vec<Vec<u8>> {
    let head = |rest: &str| format!("POST / HTTP/1.1\r\nhost: x\r\n{rest}").into_bytes();
    vec![
        Vec::new(),
        b"\x00\x01\x02\x03\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff".to_vec(),
        head("content-length: many\r\n\r\n"),
        head("content-length: 5\r\ncontent-length: 6\r\n\r\nhello"),
        head("transfer-encoding: chunked\r\n\r\nzz\r\n"),
        head("content-length: 100000000\r\n\r\n"),
        head("content-length: 10\r\n\r\nfive."),
        head(&format!("x-long: {}\r\n\r\n", "x".repeat(80 * 1024))),
        head("no colon here\r\n\r\n"),
    ]
}

struct Target {
    port: u16,
    tls: TlsConnector,
}

impl Target {
    async fn connect(&self) -> Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        Ok(self.tls.connect(ServerName::try_from("localhost")?, stream).await?)
    }

    /// So many requests over one connection, some of them ahead of their answers.
    async fn flood(&self, requests: usize, seed: usize) -> Result<()> {
        let kinds = answered();
        let mut stream = self.connect().await?;
        let (mut there, mut sent) = (Vec::new(), 0);
        while sent < requests {
            let ahead = AHEAD.min(requests - sent);
            let batch: Vec<&[u8]> =
                (sent..sent + ahead).map(|number| &kinds[(seed + number) % kinds.len()][..]).collect();
            stream.write_all(&batch.concat()).await?;
            for request in batch {
                let answer = tokio::time::timeout(PATIENCE, next_answer(&mut stream, &mut there)).await;
                let answer = answer.context("no answer in time").and_then(|answer| answer);
                answer.with_context(|| {
                    String::from_utf8_lossy(&request[..request.len().min(300)]).into_owned()
                })?;
            }
            sent += ahead;
        }
        Ok(())
    }

    /// Connections that come to nothing, one after the other.
    async fn hang_up(&self, times: usize) -> Result<()> {
        let kinds = hang_ups();
        for number in 0..times {
            if number % 11 == 0 {
                // Not even a handshake.
                let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
                stream.write_all(b"POST / HTTP/1.1\r\n\r\n").await?;
                continue;
            }
            let mut stream = self.connect().await?;
            // The server may have hung up before everything was sent.
            let _ = stream.write_all(&kinds[number % kinds.len()]).await;
            let _ = stream.shutdown().await;
            let mut said = Vec::new();
            let _ =
                tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await.context("it stays")?;
            ensure!(!said.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&said));
        }
        Ok(())
    }
}

/// Takes the next answer off the stream: an error of the caller's, with a body that says so.
async fn next_answer(stream: &mut TlsStream<TcpStream>, there: &mut Vec<u8>) -> Result<()> {
    loop {
        if let Some(end) = there.windows(4).position(|end| end == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&there[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.context("no content-length")?.parse()?;
            if there.len() >= end + 4 + length {
                ensure!(head.starts_with("http/1.1 4"), "{head}");
                ensure!(length > 0, "no body: {head}");
                there.drain(..end + 4 + length);
                return Ok(());
            }
        }
        let mut more = vec![0; 16 * 1024];
        match stream.read(&mut more).await? {
            0 => bail!("it hung up after {:?}", String::from_utf8_lossy(there)),
            read => there.extend_from_slice(&more[..read]),
        }
    }
}

async fn flood(target: &Arc<Target>, requests: usize) -> Result<()> {
    let tasks = (0..CONNECTIONS).map(|number| {
        let target = Arc::clone(target);
        tokio::spawn(async move {
            target.flood(requests / CONNECTIONS, number).await?;
            target.hang_up(HANG_UPS * requests / REQUESTS / CONNECTIONS).await
        })
    });
    try_join_all(tasks).await?.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_million_malformed_requests_the_server_is_as_it_was() -> Result<()> {
    let site = Site::new(&images::tidelock_program().await?).await?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(site.authority().await?)? {
        roots.add(certificate?)?;
    }
    site.ready().await?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let target = Arc::new(Target { port: site.port(), tls: Arc::new(config).into() });
    tokio::time::timeout(DEADLINE, flood(&target, WARM_UP)).await??;
    let before = site.resident_kib()?;
    let begun = Instant::now();
    tokio::time::timeout(DEADLINE, flood(&target, REQUESTS - WARM_UP)).await??;
    let took = begun.elapsed();
    site.ready().await?;
    let after = site.resident_kib()?;
    let _ = writeln!(
        std::io::stdout(),
        "\nfault: {REQUESTS} malformed requests | over {CONNECTIONS} connections | each answered or hung up on, server ready; \
         memory {before} KiB after {WARM_UP}, {after} KiB after all; the last {} in {:.0} s",
        REQUESTS - WARM_UP,
        took.as_secs_f32()
    );
    ensure!(after * 10 <= before * 11, "memory grew from {before} to {after} KiB");
    Ok(())
}

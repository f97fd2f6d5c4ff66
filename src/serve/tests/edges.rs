//! The edges of a connection: which TLS, who is at its other end, and what happens to one that the server's end meets
//! before its first request.

use rustls::version::{TLS12, TLS13};

use super::*;

#[tokio::test]
async fn tls_1_2_and_1_3_are_spoken_and_nothing_older() {
    let server = start(limits(), Hold::default()).await;
    for version in [&TLS12, &TLS13] {
        let config = ClientConfig::builder_with_protocol_versions(&[version])
            .with_root_certificates(server.roots.clone())
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, server.tcp().await).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
    }
    for (minor, kind) in [(0, ALERT), (1, ALERT), (2, ALERT), (3, HANDSHAKE)] {
        let mut stream = server.tcp().await;
        stream.write_all(&client_hello(minor)).await.unwrap();
        let mut said = [0; 7];
        within("the server answers", stream.read_exact(&mut said)).await.unwrap();
        assert_eq!(said[0], kind, "3.{minor}: {said:02x?}");
    }
    server.stop().await;
}

const ALERT: u8 = 0x15;
const HANDSHAKE: u8 = 0x16;

/// Of SSL 3.0 and TLS 1.0 to 1.2, alike but for the version.
fn client_hello(minor: u8) -> Vec<u8> {
    let mut hello = vec![3, minor];
    hello.extend([7; 32]);
    // No session; ECDHE and ECDSA with AES-GCM; no compression; groups, signatures and points that go with them.
    hello.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]);
    hello.extend([0, 22, 0, 10, 0, 4, 0, 2, 0, 23, 0, 13, 0, 4, 0, 2, 4, 3, 0, 11, 0, 2, 1, 0]);
    let length = u8::try_from(hello.len()).unwrap();
    let mut record = vec![HANDSHAKE, 3, minor, 0, length + 4, 1, 0, 0, length];
    record.append(&mut hello);
    record
}

#[tokio::test]
async fn whoever_connected_before_the_end_has_its_first_request_answered_and_is_told_to_go() {
    let server = start(Limits::http(), Hold::default()).await;
    let mut greeted = server.h1().await;
    let connected = server.tcp().await;
    server.shutdown.cancel();
    let response = within("an answer", greeted.send_request(post("/", b"late"))).await.unwrap();
    assert_eq!(response.headers()[http::header::CONNECTION], "close");
    let config = ClientConfig::builder().with_root_certificates(server.roots.clone()).with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = within("a handshake", TlsConnector::from(Arc::new(config)).connect(name, connected)).await;
    let (mut client, connection) = http1::handshake(TokioIo::new(stream.unwrap())).await.unwrap();
    tokio::spawn(connection);
    let response = within("an answer", client.send_request(post("/", b"later"))).await.unwrap();
    assert_eq!(response.headers()[http::header::CONNECTION], "close");
    within("the server ends", server.task).await.unwrap();
}

#[tokio::test]
async fn whoever_says_nothing_does_not_keep_the_server_from_ending() {
    let server = start(Limits::http(), Hold::default()).await;
    let _silent = server.h1().await;
    let begun = std::time::Instant::now();
    server.stop().await;
    assert!(begun.elapsed() < Limits::http().drain_timeout, "{:?}", begun.elapsed());
}

/// A door behind a load balancer in these networks, whose service says who asked.
async fn proxied(networks: &[&str]) -> (SocketAddr, rustls::RootCertStore, CancellationToken) {
    let (key, roots) = identity();
    let certificates: Arc<dyn ResolvesServerCert> = Arc::new(Shown(ArcSwap::from_pointee(key)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let networks = networks.iter().map(|network| network.parse().unwrap()).collect();
    let door = Door {
        name: "test",
        listener: Listener::Proxied(listener, networks),
        tls: Some(tls(Protocol::Http, certificates)),
        protocol: Protocol::Http,
        limits: limits(),
    };
    let service = tower::service_fn(|request: Request<Full<Bytes>>| async move {
        let Some(Peer::Tcp(peer)) = request.extensions().get::<Peer>().copied() else { panic!("no peer") };
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(peer.ip().to_string()))))
    });
    let body_limits = BodyLimits { bytes_max: 1024, timeout: BODY_TIMEOUT, large_max: 1 };
    let stop = CancellationToken::new();
    tokio::spawn(run(door, bounded(service, body_limits), stop.clone()));
    (address, roots, stop)
}

/// What the service says after this was written first.
async fn asked_after(
    address: SocketAddr,
    roots: &rustls::RootCertStore,
    first: &[u8],
) -> Result<String, Box<dyn std::error::Error>> {
    let mut stream = TcpStream::connect(address).await?;
    // In two parts, as a network may deliver it.
    let (head, rest) = first.split_at(first.len() / 2);
    stream.write_all(head).await?;
    stream.flush().await?;
    tokio::task::yield_now().await;
    stream.write_all(rest).await?;
    let config = ClientConfig::builder().with_root_certificates(roots.clone()).with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(ServerName::try_from("localhost")?, stream).await?;
    let (mut client, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let body = client.send_request(post("/", b"")).await?.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8_lossy(&body).into_owned())
}

const HEADER: &[u8] = b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 8444\r\n";

#[tokio::test]
async fn a_load_balancer_that_was_named_tells_who_the_peer_is() {
    let (address, roots, _stop) = proxied(&["192.0.2.0/24", "127.0.0.0/8"]).await;
    let said = within("an answer", asked_after(address, &roots, HEADER)).await.unwrap();
    assert_eq!(said, "203.0.113.7");
    let said = within("an answer", asked_after(address, &roots, b"PROXY UNKNOWN\r\n")).await.unwrap();
    assert_eq!(said, "127.0.0.1", "the load balancer itself");
    // It has to tell: without the header nobody knows whose connection that is.
    within("an end", asked_after(address, &roots, b"")).await.unwrap_err();
}

#[tokio::test]
async fn nobody_else_is_believed() {
    let (address, roots, _stop) = proxied(&["192.0.2.0/24"]).await;
    let said = within("an answer", asked_after(address, &roots, b"")).await.unwrap();
    assert_eq!(said, "127.0.0.1");
    within("an end", asked_after(address, &roots, HEADER)).await.unwrap_err();
}

//! Who is at the other end of a connection that a load balancer hands on: the PROXY protocol, version 1 and 2, read
//! before the first byte of TLS. Must not believe anybody but the load balancers that were named, nor guess whether a
//! header is there: from those it has to be.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use ppp::{HeaderResult, PartialResult as _, v1, v2};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::Peer;

/// Version 2 has room for 64 KiB of extras; real ones fit into one packet.
const HEADER_BYTES_MAX: usize = 1400;
/// Of version 1, as its specification has it.
const TEXT: &[u8] = b"PROXY ";
const TEXT_BYTES_MAX: usize = 107;
/// Between looks at a header that has arrived in part.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The peer as the load balancer tells it, or the socket's own where none is in between.
pub(super) async fn peer(stream: &mut TcpStream, socket: Peer, proxies: &[IpNet]) -> io::Result<Peer> {
    let Peer::Tcp(address) = socket else { return Ok(socket) };
    // A listener for both families shows IPv4 as mapped.
    let from = address.ip().to_canonical();
    if !proxies.iter().any(|network| network.contains(&from)) {
        return Ok(socket);
    }
    let mut bytes = [0; HEADER_BYTES_MAX];
    loop {
        // Looked at, not taken: what follows the header belongs to TLS.
        let there = stream.peek(&mut bytes).await?;
        if there == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        match read(bytes.get(..there).unwrap_or_default()) {
            Read::Whole { length, source } => {
                stream.read_exact(bytes.get_mut(..length).unwrap_or_default()).await?;
                return Ok(source.map_or(socket, Peer::Tcp));
            }
            Read::Part if there < bytes.len() => tokio::time::sleep(LOOK_AGAIN).await,
            Read::Part | Read::Wrong => return Err(ErrorKind::InvalidData.into()),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Read {
    /// So many bytes. Without a source the connection is the load balancer's own, such as a probe of its health.
    Whole {
        length: usize,
        source: Option<SocketAddr>,
    },
    Part,
    Wrong,
}

fn read(bytes: &[u8]) -> Read {
    // The parser calls a text that ends after a space wrong, not cut.
    let is_text = bytes.starts_with(TEXT) || TEXT.starts_with(bytes);
    if is_text && bytes.len() < TEXT_BYTES_MAX && !bytes.windows(2).any(|end| end == b"\r\n") {
        return Read::Part;
    }
    let parsed = HeaderResult::parse(bytes);
    if parsed.is_incomplete() {
        return Read::Part;
    }
    match parsed {
        HeaderResult::V1(Ok(header)) => {
            let source = match header.addresses {
                v1::Addresses::Tcp4(ip) => Some((ip.source_address, ip.source_port).into()),
                v1::Addresses::Tcp6(ip) => Some((ip.source_address, ip.source_port).into()),
                v1::Addresses::Unknown => None,
            };
            Read::Whole { length: header.header.len(), source }
        }
        HeaderResult::V2(Ok(header)) => {
            let source = match header.addresses {
                _ if header.command == v2::Command::Local => None,
                v2::Addresses::IPv4(ip) => Some((ip.source_address, ip.source_port).into()),
                v2::Addresses::IPv6(ip) => Some((ip.source_address, ip.source_port).into()),
                v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
            };
            Read::Whole { length: header.len(), source }
        }
        HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => Read::Wrong,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(command: v2::Command, addresses: impl Into<v2::Addresses>) -> Vec<u8> {
        let builder =
            v2::Builder::with_addresses(v2::Version::Two | command, v2::Protocol::Stream, addresses);
        builder.build().unwrap()
    }

    fn addresses() -> (SocketAddr, SocketAddr) {
        ("203.0.113.7:4711".parse().unwrap(), "10.0.0.1:8444".parse().unwrap())
    }

    #[test]
    fn each_version_tells_the_source_and_where_its_header_ends() {
        let text = b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 8444\r\n";
        let six = b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 8444\r\n";
        let source = Some("203.0.113.7:4711".parse().unwrap());
        let binary = v2(v2::Command::Proxy, addresses());
        let own = v2(v2::Command::Local, addresses());
        for (header, source) in [
            (&text[..], source),
            (six, Some("[2001:db8::7]:4711".parse().unwrap())),
            (b"PROXY UNKNOWN\r\n", None),
            (&binary, source),
            (&own, None),
        ] {
            let followed = [header, b"\x16\x03\x01"].concat();
            assert_eq!(read(&followed), Read::Whole { length: header.len(), source }, "{header:?}");
            for end in 1..header.len() {
                assert_eq!(read(&header[..end]), Read::Part, "{:?}", &header[..end]);
            }
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        for wrong in
            [&b"\x16\x03\x01\x02\x00\x01\x00\x01"[..], b"POST / HTTP/1.1\r\n", b"PROXY TCP4 a b 1 2\r\n"]
        {
            assert_eq!(read(wrong), Read::Wrong, "{wrong:?}");
        }
    }
}

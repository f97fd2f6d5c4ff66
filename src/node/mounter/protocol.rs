//! What agent and mounter say to each other: one connection, one request, one reply, and with it perhaps one
//! descriptor. JSON, ended by the end of the stream. No value ever passes here.
//! Must not mount anything.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

const REQUEST_BYTES_MAX: u64 = 16 * 1024;
const REPLY_BYTES_MAX: usize = 4 * 1024 * 1024;

#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(tag = "verb", rename_all = "camelCase", deny_unknown_fields)]
pub enum Request {
    /// Mount a tmpfs at the path, unless ours is there already; make it as large as asked; hand it over.
    #[serde(rename_all = "camelCase")]
    Mount { target_path: String, pod_uid: String, group: Option<u32>, bytes: u64, inodes: u64 },
    /// Hand over what is mounted, made as large as asked.
    #[serde(rename_all = "camelCase")]
    Open { target_path: String, bytes: u64, inodes: u64 },
    /// Unmount and remove the mount point; what is not there is no error.
    #[serde(rename_all = "camelCase")]
    Unmount { target_path: String },
    /// All mounts of ours.
    List,
}

#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Reply {
    /// Comes with the descriptor of the mounted directory.
    Folder,
    Done,
    Mounts(Vec<Mounted>),
    #[serde(rename_all = "camelCase")]
    Failed {
        reason: Reason,
        message: String,
    },
}

/// A mount of ours, as the kernel tells of it.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Mounted {
    pub target_path: String,
    pub group: Option<u32>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Reason {
    /// The request is not one that the mounter serves.
    Refused,
    /// Nothing of ours is mounted there.
    NotMounted,
    /// The kernel said no.
    Failed,
}

pub fn read_request(stream: &mut UnixStream) -> io::Result<Request> {
    let mut bytes = Vec::new();
    stream.take(REQUEST_BYTES_MAX).read_to_end(&mut bytes)?;
    from_json(&bytes)
}

/// Sends the reply, the descriptor with its first byte, and ends the stream.
pub fn write_reply(stream: &mut UnixStream, reply: &Reply, folder: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let bytes = serde_json::to_vec(reply)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let folder = folder.as_slice();
    if !folder.is_empty() && !control.push(SendAncillaryMessage::ScmRights(folder)) {
        return Err(io::Error::other("no room for a descriptor"));
    }
    let sent = rustix::net::sendmsg(&*stream, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
    stream.write_all(bytes.get(sent..).unwrap_or_default())?;
    stream.shutdown(Shutdown::Write)
}

/// Sends a request and waits for its reply, within the stream's timeouts.
pub fn ask(stream: &mut UnixStream, request: &Request) -> io::Result<(Reply, Option<OwnedFd>)> {
    stream.write_all(&serde_json::to_vec(request)?)?;
    stream.shutdown(Shutdown::Write)?;
    let mut bytes = Vec::new();
    let mut folder = None;
    loop {
        let mut chunk = [0; 16 * 1024];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::net::recvmsg(
            stream.as_fd(),
            &mut [IoSliceMut::new(&mut chunk)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                folder = descriptors.last().or(folder);
            }
        }
        if received.bytes == 0 {
            break;
        }
        bytes.extend_from_slice(&chunk[..received.bytes]);
        if bytes.len() > REPLY_BYTES_MAX {
            return Err(io::Error::other("the mounter's reply is too long"));
        }
    }
    Ok((from_json(&bytes)?, folder))
}

fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    serde_json::from_slice(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn asked(bytes: &[u8]) -> io::Result<Request> {
        let (mut agent, mut mounter) = UnixStream::pair().unwrap();
        agent.write_all(bytes).unwrap();
        agent.shutdown(Shutdown::Write).unwrap();
        read_request(&mut mounter)
    }

    #[test]
    fn a_request_is_read_as_it_was_written_and_nothing_longer_or_stranger_is() {
        let request = Request::Unmount { target_path: "/x".into() };
        assert_eq!(asked(&serde_json::to_vec(&request).unwrap()).unwrap(), request);
        for wrong in [
            r#"{"verb":"unmount"}"#,
            r#"{"verb":"unmount","targetPath":7}"#,
            r#"{"verb":"unmount","targetPath":"/x","force":true}"#,
            r#"{"verb":"remount","targetPath":"/x"}"#,
            r#"{"verb":"mount","targetPath":"/x","podUid":"u","group":null,"bytes":-1,"inodes":1}"#,
            "",
        ] {
            assert!(asked(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let long = Request::Unmount { target_path: "x".repeat(32 * 1024) };
        assert!(asked(&serde_json::to_vec(&long).unwrap()).is_err());
    }

    proptest! {
        #[test]
        fn whatever_bytes_come_are_no_request_or_a_whole_one(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(request) = asked(&bytes) {
                prop_assert!(serde_json::to_vec(&request).is_ok());
            }
        }
    }
}

//! What the texts of flags must be, and what is said of those that are not. Must not read anything but the text.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::RotatorCommand;
use crate::{clock, rotation};

pub(super) fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse::<SocketAddr>().ok().filter(|address| address.ip().is_loopback());
    address
        .ok_or_else(|| "write an address of this machine alone and a port, such as 127.0.0.1:8444".to_owned())
}

pub(super) fn rotator_command(text: &str) -> Result<RotatorCommand, String> {
    let (name, command) = text.split_once('=').unwrap_or((text, ""));
    if !rotation::is_rotator_name(name) || command.trim().is_empty() {
        return Err("write a name of letters, digits, `-` and `_`, then `=` and a command, such as \
                    'orders-db=./rotate.py'"
            .to_owned());
    }
    if name == rotation::GENERATE {
        return Err(format!("the rotator {name} is built in: take another name"));
    }
    Ok(RotatorCommand { name: name.to_owned(), command: command.to_owned() })
}

pub(super) fn region(text: &str) -> Result<String, String> {
    // What AWS's clients take for a region.
    let parts: Vec<&str> = text.split('-').collect();
    let (last, words) = parts.split_last().unwrap_or((&"", &[]));
    let right = !words.is_empty()
        && words.iter().all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase()))
        && !last.is_empty()
        && last.bytes().all(|b| b.is_ascii_digit());
    if right {
        Ok(text.to_owned())
    } else {
        Err("write small letters in words, and a number, joined by hyphens, such as local-1".to_owned())
    }
}

pub(super) fn account(text: &str) -> Result<String, String> {
    let right = text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit());
    if right { Ok(text.to_owned()) } else { Err("write 12 digits, such as 000000000000".to_owned()) }
}

/// What a certificate can be for: a DNS name without wildcards, or an IP address.
pub(super) fn host_name(text: &str) -> Result<String, String> {
    let is_label = |label: &str| {
        let inner = label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        inner && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    let is_name = text.len() <= 253 && text.split('.').all(is_label);
    if is_name || text.parse::<IpAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    Err("write a DNS name in lower case without a wildcard, or an IP address, such as secrets.example.org"
        .to_owned())
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let length = clock::length_of_time(text).filter(|length| !length.is_zero());
    length.ok_or_else(|| "write a whole number and one of ms, s, m or h, such as 2s".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotator_has_a_name_of_its_own_and_a_command() {
        let read = rotator_command("orders-db=./rotate.py --to=x").unwrap();
        assert_eq!((read.name.as_str(), read.command.as_str()), ("orders-db", "./rotate.py --to=x"));
        for wrong in ["orders-db", "orders-db=", "orders db=x", "=x"] {
            assert!(rotator_command(wrong).unwrap_err().contains("such as 'orders-db="), "{wrong}");
        }
        assert!(rotator_command("generate=x").unwrap_err().contains("built in"));
    }
}

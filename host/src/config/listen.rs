//! An address to listen on: `127.0.0.1:4100`, `localhost:4100`, `[::1]:4100`, or `:4100` for all interfaces. Names must not be resolved
//! here, but when the port is opened.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::server::hosts::is_loopback_name;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    pub host: Host,
    /// 0: any free port.
    pub port: u16,
}

/// The interfaces to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// All interfaces, with IPv4 and IPv6 if the machine has both.
    All,
    Address(IpAddr),
    /// A name, such as `localhost`: every address that it has.
    Name(String),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no address to listen on: write 127.0.0.1:4100, localhost:4100, [::1]:4100, or :4100 for all interfaces")]
pub struct InvalidListen(String);

impl Listen {
    pub fn loopback(port: u16) -> Self {
        Self { host: Host::Address(IpAddr::from([127, 0, 0, 1])), port }
    }

    /// Whether only this machine can connect.
    pub fn is_loopback(&self) -> bool {
        match &self.host {
            Host::All => false,
            Host::Address(address) => address.to_canonical().is_loopback(),
            Host::Name(name) => is_loopback_name(&name.to_ascii_lowercase()),
        }
    }

    /// The host for a URL in a browser on this machine.
    pub fn shown_host(&self) -> String {
        match &self.host {
            Host::All => "localhost".into(),
            Host::Address(address) if address.is_unspecified() => "localhost".into(),
            Host::Address(IpAddr::V6(address)) => format!("[{address}]"),
            Host::Address(IpAddr::V4(address)) => address.to_string(),
            Host::Name(name) => name.clone(),
        }
    }
}

impl FromStr for Listen {
    type Err = InvalidListen;

    fn from_str(text: &str) -> Result<Self, InvalidListen> {
        let invalid = || InvalidListen(text.to_owned());
        let (host, port) = text.trim().rsplit_once(':').ok_or_else(invalid)?;
        let port = port.parse().map_err(|_| invalid())?;
        let in_brackets = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let is_name = |host: &str| host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
        let host = match (in_brackets, host) {
            (Some(address), _) => Host::Address(IpAddr::V6(address.parse().map_err(|_| invalid())?)),
            (None, "" | "*") => Host::All,
            (None, host) => match host.parse::<IpAddr>() {
                Ok(IpAddr::V4(address)) => Host::Address(address.into()),
                // Without brackets the port is ambiguous.
                Ok(IpAddr::V6(_)) => return Err(invalid()),
                Err(_) if is_name(host) => Host::Name(host.to_owned()),
                Err(_) => return Err(invalid()),
            },
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::All => write!(f, ":{}", self.port),
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            Host::Address(address) => write!(f, "{address}:{}", self.port),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_form_is_parsed_and_written_back() {
        for text in ["127.0.0.1:4100", "localhost:4100", ":4100", "[::]:4100", "[::1]:0", "my-host.example:1"] {
            assert_eq!(text.parse::<Listen>().unwrap().to_string(), text);
        }
        assert_eq!("*:80".parse::<Listen>().unwrap().host, Host::All);
        assert_eq!(" localhost:80 ".parse::<Listen>().unwrap().port, 80);
    }

    #[test]
    fn only_loopback_addresses_are_loopback() {
        let is_loopback = |text: &str| text.parse::<Listen>().unwrap().is_loopback();
        for text in
            ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "localhost:1", "LocalHost:1", "app.localhost:1"]
        {
            assert!(is_loopback(text), "{text}");
        }
        for text in [":1", "*:1", "0.0.0.0:1", "[::]:1", "192.168.1.5:1", "my-host:1", "localhost.example:1", "[fe80::1]:1"] {
            assert!(!is_loopback(text), "{text}");
        }
    }

    #[test]
    fn an_invalid_address_is_refused_with_examples() {
        for text in
            ["", "4100", "localhost", "localhost:", "::1:4100", "[::1]", "a b:1", "http://localhost:1", ":65536", "[1.2.3.4]:1"]
        {
            let error = text.parse::<Listen>().unwrap_err().to_string();
            assert!(error.contains(":4100 for all interfaces"), "{text}: {error}");
        }
    }
}

//! The host names of a port, against DNS rebinding: an attacker's name resolves to this machine, and the victim's browser sends it as
//! `Host`. An address must never be refused, because a rebinding attack always uses a name.

use std::net::{IpAddr, Ipv6Addr};

use http::{Request, header};

/// The most entries of a list; more are an error.
const MAX_HOSTS: usize = 256;

/// The loopback name, which no attacker can register.
const LOCALHOST: &str = "localhost";

/// Every name.
const ALL: &str = "*";

/// The names of one port. Addresses and loopback names are always allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hosts {
    all: bool,
    /// Sorted.
    names: Vec<String>,
    /// `.example.com` for every name under it.
    domains: Vec<String>,
}

/// An entry that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    #[error("{key}: `{entry}` is no host: write app.example.com, *.example.com or *, without a scheme and a port")]
    Entry { key: &'static str, entry: String },
    #[error("{key} has {count} entries, and at most {MAX_HOSTS} are allowed")]
    TooMany { key: &'static str, count: usize },
}

impl Hosts {
    /// Allows every name.
    pub fn all() -> Self {
        Self { all: true, ..Self::default() }
    }

    /// # Errors
    /// The error names the first entry that is no host.
    pub fn load(key: &'static str, entries: &[String]) -> Result<Self, HostError> {
        if entries.len() > MAX_HOSTS {
            return Err(HostError::TooMany { key, count: entries.len() });
        }
        let mut hosts = Self::default();
        for entry in entries {
            let name = entry.to_ascii_lowercase();
            match name.strip_prefix(ALL) {
                Some("") => hosts.all = true,
                Some(domain) if domain.strip_prefix('.').is_some_and(is_name) => hosts.domains.push(domain.to_owned()),
                None if is_name(&name) || name.parse::<IpAddr>().is_ok() => hosts.names.push(name),
                _ => return Err(HostError::Entry { key, entry: entry.clone() }),
            }
        }
        hosts.names.sort_unstable();
        Ok(hosts)
    }

    /// Whether requests to this authority (`app.example.com:4100`) are answered.
    pub fn allows(&self, authority: &str) -> bool {
        self.all || self.is_known(authority)
    }

    /// Whether the authority is an address, this machine or a listed name, so that it is no attacker's.
    pub fn is_known(&self, authority: &str) -> bool {
        let Some(host) = host_of(authority) else { return false };
        let host = host.to_ascii_lowercase();
        is_loopback_name(&host)
            || host.parse::<IpAddr>().is_ok()
            || self.names.binary_search(&host).is_ok()
            || self.domains.iter().any(|domain| host.len() > domain.len() && host.ends_with(domain.as_str()))
    }
}

/// Whether a lower-case name is `localhost` or a subdomain of it.
pub fn is_loopback_name(name: &str) -> bool {
    name.strip_suffix(LOCALHOST).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

/// The authorities that a request names: of its target, if that is an absolute url, and of each non-empty `Host`. Browsers always send
/// one; HTTP/1.0 clients and health checks may not.
pub fn authorities<B>(request: &Request<B>) -> impl Iterator<Item = &str> {
    let target = request.uri().authority().map(|authority| authority.as_str());
    // A `Host` that is not text becomes `?`, which no list can contain.
    let headers = request.headers().get_all(header::HOST).iter().map(|value| value.to_str().unwrap_or("?").trim());
    target.into_iter().chain(headers.filter(|host| !host.is_empty()))
}

/// The host of an authority, without brackets, port and final dot.
fn host_of(authority: &str) -> Option<&str> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_number);
        return (is_port && address.parse::<Ipv6Addr>().is_ok()).then_some(address);
    }
    let host = match authority.split_once(':') {
        Some((host, port)) if is_number(port) => host,
        Some(_) => return None,
        None => authority,
    };
    Some(host.strip_suffix('.').unwrap_or(host))
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_name(name: &str) -> bool {
    let is_label =
        |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn hosts(entries: &[&str]) -> Result<Hosts, HostError> {
        Hosts::load("gateway.hosts", &entries.iter().map(|&entry| entry.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn addresses_and_loopback_names_are_always_allowed() {
        let none = hosts(&[]).unwrap();
        for host in [
            "localhost",
            "LOCALHOST:4100",
            "app.localhost:1",
            "localhost.",
            "127.0.0.1:4100",
            "10.1.2.3",
            "[::1]:4100",
            "[fe80::1]",
        ] {
            assert!(none.allows(host) && none.is_known(host), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "evillocalhost",
            "127.0.0.1.evil.example",
            "127.0.0.1:4100:evil.example",
            "localhost:4100@evil.example",
            "user@localhost",
            "[::1].evil.example",
            "[evil.example]",
            "0x7f.1",
            "127.1",
            "?",
        ] {
            assert!(!none.allows(host), "{host}");
        }
    }

    #[test]
    fn listed_names_are_allowed_on_any_port_and_similar_ones_are_not() {
        let some = hosts(&["App.Example", "*.rooms.example"]).unwrap();
        for host in ["app.example", "APP.example:8080", "a.rooms.example", "a.b.rooms.example."] {
            assert!(some.allows(host) && some.is_known(host), "{host}");
        }
        for host in ["app.example.evil", "xapp.example", "rooms.example", ".rooms.example", "evilrooms.example"] {
            assert!(!some.allows(host), "{host}");
        }
        let all = hosts(&["*"]).unwrap();
        assert!(all.allows("evil.example") && !all.is_known("evil.example"));
    }

    #[test]
    fn every_authority_of_a_request_counts() {
        let request = Request::get("http://evil.example/").header("host", "localhost").header("host", "").body(()).unwrap();
        assert_eq!(authorities(&request).collect::<Vec<_>>(), ["evil.example", "localhost"]);
        assert_eq!(authorities(&Request::get("/").body(()).unwrap()).count(), 0);
    }

    #[test]
    fn a_wrong_entry_is_named() {
        for entry in
            ["", "https://app.example", "app.example:80", "*.", "a.*.example", "**", "a b", "bücher.example", "a..b", "[::1]"]
        {
            let error = hosts(&["fine.example", entry]).unwrap_err();
            assert!(error.to_string().contains(&format!("gateway.hosts: `{entry}`")), "{entry}: {error}");
        }
        assert!(matches!(hosts(&vec!["*"; 257]), Err(HostError::TooMany { count: 257, .. })));
    }
}

//! The address of a client behind trusted proxies. A header from any other address is ignored.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use http::HeaderMap;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de};

/// The header in which each proxy appends the address of its peer.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// An address, or all addresses with a common prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(IpNet);

/// A text that is not a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither an address nor a network: write 10.0.0.7, 10.0.0.0/8 or fd00::/8")]
pub struct InvalidNetwork(String);

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let invalid = || InvalidNetwork(text.to_owned());
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map(Self).map_err(|_| invalid())
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

impl Network {
    /// Whether the address is in the network. An IPv4 address is also in an IPv6 network that contains its mapped form.
    pub fn has(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let holds_mapped = |address: Ipv4Addr| self.0.contains(&IpAddr::V6(address.to_ipv6_mapped()));
        self.0.contains(&address) || matches!(address, IpAddr::V4(address) if holds_mapped(address))
    }
}

/// The address that a request comes from: the last one that is not a trusted proxy's.
pub fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.has(address));
    let mut nearest = peer.to_canonical();
    let forwarded = headers.get_all(FORWARDED_FOR).iter().rev().filter_map(|value| value.to_str().ok());
    for address in forwarded.flat_map(|value| value.rsplit(',')) {
        let Ok(address) = address.trim().parse::<IpAddr>() else { return nearest };
        if !is_trusted(nearest) {
            return nearest;
        }
        nearest = address.to_canonical();
    }
    nearest
}

/// The address by which limits count: for IPv6 the /64, since one client has a whole /64.
pub fn client_block(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn client_of(peer: &str, forwarded: &[&'static str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, http::HeaderValue::from_static(value));
        }
        let trusted: Vec<Network> = trusted.iter().map(|network| network.parse().unwrap()).collect();
        client(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn only_headers_of_trusted_proxies_are_used() {
        assert_eq!(client_of("9.9.9.9", &["1.1.1.1"], &[]), "9.9.9.9");
        assert_eq!(client_of("9.9.9.9", &["1.1.1.1"], &["10.0.0.0/8"]), "9.9.9.9");
        assert_eq!(client_of("10.1.2.3", &["1.1.1.1"], &["10.0.0.0/8"]), "1.1.1.1");
        assert_eq!(client_of("10.1.2.3", &[], &["10.0.0.0/8"]), "10.1.2.3");
        assert_eq!(client_of("::ffff:10.1.2.3", &["1.1.1.1"], &["10.0.0.0/8"]), "1.1.1.1", "IPv4 on a dual-stack socket");
    }

    #[test]
    fn addresses_that_a_client_forged_are_skipped() {
        assert_eq!(client_of("10.0.0.1", &["6.6.6.6, 1.1.1.1, 10.0.0.2"], &["10.0.0.0/8"]), "1.1.1.1");
        assert_eq!(client_of("10.0.0.1", &["6.6.6.6", "1.1.1.1"], &["10.0.0.0/8"]), "1.1.1.1");
        assert_eq!(client_of("10.0.0.1", &["1.1.1.1, unknown"], &["10.0.0.0/8"]), "10.0.0.1");
    }

    #[test]
    fn a_network_is_an_address_or_a_prefix() {
        for bad in ["", "10.0.0.0/33", "10.0.0/8", "host", "::/129", "10.0.0.0/-1"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
        let mapped: Network = "::ffff:10.0.0.0/104".parse().unwrap();
        assert!(mapped.has("10.1.2.3".parse().unwrap()) && !mapped.has("11.1.2.3".parse().unwrap()));
        let all: Network = "0.0.0.0/0".parse().unwrap();
        assert!(all.has("8.8.8.8".parse().unwrap()) && !all.has("2001:db8::1".parse().unwrap()));
        assert_eq!(client_block("2001:db8::1:2:3:4".parse().unwrap()).to_string(), "2001:db8::");
    }
}

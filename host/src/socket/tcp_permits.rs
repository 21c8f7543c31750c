//! Counts the TCP connections of a port, in total and by address, when they are accepted. It never waits for a byte of a client.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::limit::Limit;
use crate::proxies::{Network, client_block};
use crate::telemetry::{ListenerLabel, Metrics};

/// The TCP connections of one port.
pub struct TcpPermits {
    /// `public` or `admin`, as in metrics and the log.
    listener: &'static str,
    all: Limit,
    of_address: Limit,
    /// Proxies, which have the connections of many clients.
    trusted: Vec<Network>,
    open: AtomicU64,
    addresses: Mutex<HashMap<IpAddr, u64>>,
    metrics: Arc<Metrics>,
}

/// Why a TCP connection was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The port has as many connections as allowed.
    Port,
    /// The address has as many connections as allowed.
    Address,
}

impl TcpPermits {
    /// `all` is the port's limit, with its key in the configuration.
    pub fn new(
        listener: &'static str,
        (name, all): (&'static str, u64),
        of_address: u64,
        trusted: &[Network],
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new(Self {
            listener,
            all: Limit::new(name, all, false),
            of_address: Limit::new("address_tcp_connections", of_address, false),
            trusted: trusted.to_vec(),
            open: AtomicU64::default(),
            addresses: Mutex::default(),
            metrics,
        })
    }

    /// The key of the port's limit.
    pub fn key(&self) -> &'static str {
        self.all.name
    }

    /// Admits a connection from an address. Loopback and trusted proxies have no limit by address.
    pub fn take(self: &Arc<Self>, address: IpAddr) -> Result<TcpPermit, Full> {
        let address = address.to_canonical();
        let is_limited =
            !self.of_address.is_off() && !address.is_loopback() && !self.trusted.iter().any(|proxy| proxy.has(address));
        let tcp_permit = TcpPermit { address: is_limited.then(|| client_block(address)), tcp_permits: self.clone() };
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        self.gauge(1);
        // From here on, dropping the permit corrects both counts.
        let of_address = tcp_permit.address.map_or(0, |address| {
            let mut addresses = self.addresses.lock();
            let count = addresses.entry(address).or_default();
            *count += 1;
            *count
        });
        if self.of_address.refuses(of_address, &self.metrics) {
            return Err(Full::Address);
        }
        if self.all.refuses(open, &self.metrics) {
            return Err(Full::Port);
        }
        Ok(tcp_permit)
    }

    fn gauge(&self, change: i64) {
        self.metrics.tcp_connections.get_or_create(&ListenerLabel { listener: self.listener }).inc_by(change);
    }
}

/// The permit of one TCP connection.
pub struct TcpPermit {
    address: Option<IpAddr>,
    tcp_permits: Arc<TcpPermits>,
}

impl Drop for TcpPermit {
    fn drop(&mut self) {
        self.tcp_permits.open.fetch_sub(1, Ordering::Relaxed);
        self.tcp_permits.gauge(-1);
        let Some(address) = self.address else { return };
        let mut addresses = self.tcp_permits.addresses.lock();
        if let Some(count) = addresses.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn tcp_permits(all: u64, of_address: u64) -> Arc<TcpPermits> {
        let trusted = ["10.0.0.0/24".parse().unwrap()];
        TcpPermits::new("public", ("tcp_connections", all), of_address, &trusted, Arc::new(Metrics::new()))
    }

    #[test]
    fn connections_past_the_limit_of_port_or_address_are_refused() {
        let tcp_permits = tcp_permits(3, 1);
        let take = |address: &str| tcp_permits.take(address.parse().unwrap());
        let first = take("9.9.9.9").unwrap();
        assert_eq!(take("::ffff:9.9.9.9").err(), Some(Full::Address), "IPv4 on a dual-stack socket");
        let (_second, _third) = (take("2001:db8::1").unwrap(), take("8.8.8.8").unwrap());
        assert_eq!(take("2001:db8::2").err(), Some(Full::Address), "one /64");
        assert_eq!(take("7.7.7.7").err(), Some(Full::Port));
        drop(first);
        assert!(take("9.9.9.9").is_ok());
        let text = tcp_permits.metrics.encode().unwrap();
        for counted in [
            r#"limits_passed_total{limit="tcp_connections",outcome="refused"} 1"#,
            r#"limits_passed_total{limit="address_tcp_connections",outcome="refused"} 2"#,
            r#"tcp_connections{listener="public"} 2"#,
        ] {
            assert!(text.contains(counted), "{counted}: {text}");
        }
    }

    #[test]
    fn loopback_and_trusted_proxies_have_no_limit_by_address() {
        let tcp_permits = tcp_permits(0, 1);
        let held: Vec<_> =
            ["127.0.0.1", "127.0.0.1", "::1", "::1", "10.0.0.7", "10.0.0.7"].map(|a| tcp_permits.take(a.parse().unwrap())).into();
        assert!(held.iter().all(Result::is_ok));
        assert!(tcp_permits.addresses.lock().is_empty());
    }
}

//! Counts what is connected: connections in total and by address, sockets by user. A permit is a value, and only dropping it frees
//! its place.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};

use super::admission::Limits;
use crate::rate::{self, Meter};
use crate::telemetry::Metrics;

#[derive(Default)]
pub struct Permits {
    connections: AtomicU64,
    addresses: Mutex<HashMap<IpAddr, u64>>,
    users: Mutex<HashMap<Box<str>, UserPermits>>,
    /// The rate of new connections.
    pub connects: Meter,
}

/// A user with sockets, or without sockets but owing CPU time, so that reconnecting does not clear the debt.
#[derive(Default)]
struct UserPermits {
    sockets: u64,
    meters: Arc<Meters>,
}

/// The rates of a user's events.
#[derive(Default)]
pub struct Meters {
    pub events: Meter,
    /// Nanoseconds of CPU that the user's calls have used.
    pub cpu: Meter,
}

/// Why a connection was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoPermit {
    #[error("the node has as many connections as admission.connections allows")]
    Node,
    #[error("the address has as many connections as admission.address_connections allows")]
    Address,
}

impl UserPermits {
    fn owes(&self) -> bool {
        self.meters.cpu.level(rate::now()) > 0.0
    }
}

impl Permits {
    /// Admits one connection. `authorization` is the header of the request that opens it.
    pub fn admit_connection(
        self: &Arc<Self>,
        address: Option<IpAddr>,
        authorization: Option<&str>,
        takes_offsets: bool,
        limits: &Limits,
        metrics: &Metrics,
    ) -> Result<Arc<ConnectionPermit>, NoPermit> {
        let peer = address.map(peer_of);
        let address = address.filter(|_| !limits.address_connections.is_off());
        let connections = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        let of_address = address.map_or(0, |address| {
            let mut addresses = lock(&self.addresses);
            let count = addresses.entry(address).or_default();
            *count += 1;
            *count
        });
        // From here on, dropping the permit corrects both counts.
        let permit = ConnectionPermit {
            authorization: authorization.map(Into::into),
            takes_offsets,
            sockets: AtomicU32::new(0),
            events: Meter::default(),
            cpu: Meter::default(),
            born: Instant::now(),
            address,
            peer,
            permits: self.clone(),
        };
        if limits.connections.refuses(connections, metrics) {
            return Err(NoPermit::Node);
        }
        if limits.address_connections.refuses(of_address, metrics) {
            return Err(NoPermit::Address);
        }
        Ok(Arc::new(permit))
    }

    /// Admits one socket of a user; none if the user has as many as allowed.
    pub fn admit_socket(self: &Arc<Self>, user: &str, limits: &Limits, metrics: &Metrics) -> Option<SocketPermit> {
        let (sockets, socket_permit) = {
            let mut users = lock(&self.users);
            // Before the map grows, users without sockets and debts are removed.
            if users.len() == users.capacity() {
                users.retain(|_, user_permits| user_permits.sockets > 0 || user_permits.owes());
            }
            let user_permits = users.entry(user.into()).or_default();
            user_permits.sockets += 1;
            (user_permits.sockets, SocketPermit { meters: user_permits.meters.clone(), user: user.into(), permits: self.clone() })
        };
        (!limits.user_sockets.refuses(sockets, metrics)).then_some(socket_permit)
    }
}

/// The permit of one connection, held until it is closed.
pub struct ConnectionPermit {
    /// The header of the request that opened it.
    pub authorization: Option<Box<str>>,
    /// Whether its client can come back to its sockets.
    pub takes_offsets: bool,
    /// Its connected sockets.
    pub sockets: AtomicU32,
    /// The rate of its events.
    pub events: Meter,
    /// The CPU time of a visitor's calls.
    pub cpu: Meter,
    pub born: Instant,
    address: Option<IpAddr>,
    /// A hash of the client's address, also if addresses are not limited.
    pub peer: Option<u64>,
    permits: Arc<Permits>,
}

fn peer_of(address: IpAddr) -> u64 {
    let mut hasher = DefaultHasher::new();
    address.hash(&mut hasher);
    hasher.finish()
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.permits.connections.fetch_sub(1, Ordering::Relaxed);
        if let Some(address) = self.address {
            let mut addresses = lock(&self.permits.addresses);
            if let Some(count) = addresses.get_mut(&address) {
                *count -= 1;
                if *count == 0 {
                    addresses.remove(&address);
                }
            }
        }
    }
}

/// The permit of one socket of a user.
pub struct SocketPermit {
    pub meters: Arc<Meters>,
    user: Box<str>,
    permits: Arc<Permits>,
}

impl Drop for SocketPermit {
    fn drop(&mut self) {
        let mut users = lock(&self.permits.users);
        if let Some(user_permits) = users.get_mut(&self.user) {
            user_permits.sockets -= 1;
            if user_permits.sockets == 0 && !user_permits.owes() {
                users.remove(&self.user);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Under these locks numbers are counted: a panic leaves none half done.
    mutex.lock()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::socket::admission::Config;

    #[test]
    fn dropping_a_permit_frees_its_place() {
        let limits = Limits::new(&Config { connections: 2, address_connections: 1, user_sockets: 1, ..Config::default() });
        let (permits, metrics) = (Arc::new(Permits::default()), Metrics::new());
        let [one, two, three] = [1, 2, 3].map(|n| IpAddr::from([10, 0, 0, n]));
        let enter = |address| permits.admit_connection(Some(address), None, false, &limits, &metrics);
        let first = enter(one).unwrap();
        assert_eq!(enter(one).err(), Some(NoPermit::Address));
        let _second = enter(two).unwrap();
        assert_eq!(enter(three).err(), Some(NoPermit::Node), "the refused one holds no permit");
        drop(first);
        assert!(enter(one).is_ok());

        let socket_permit = permits.admit_socket("ana", &limits, &metrics);
        assert!(
            socket_permit.is_some()
                && permits.admit_socket("ana", &limits, &metrics).is_none()
                && permits.admit_socket("bia", &limits, &metrics).is_some()
        );
        drop(socket_permit);
        assert!(permits.admit_socket("ana", &limits, &metrics).is_some());
        assert!(lock(&permits.users).is_empty(), "users without sockets are removed");
    }
}

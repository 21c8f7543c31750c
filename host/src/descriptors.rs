//! The limit of file descriptors, and the part that clients may use. The rest is reserved for health checks, the admin port,
//! storage and other systems.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors that are reserved by default.
pub const RESERVED: u64 = 64;

/// At most one in this many descriptors is reserved.
const RESERVED_PART: u64 = 4;

/// One in this many reserved descriptors is for storage and other systems only. As many connections past the clients' share are
/// served at a time.
const OWN_PART: u64 = 4;

/// The descriptors of this process.
///
/// The system always assigns the lowest free number. So the highest numbers are reserved, connections of clients do not get them,
/// and no count is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptors {
    pub limit: u64,
    /// Numbers below are for clients.
    clients: u64,
    /// Numbers below are for health checks and the admin port.
    checks: u64,
}

/// The share that a descriptor is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    Clients,
    /// Health checks and the admin port.
    Checks,
    /// Storage and other systems.
    Own,
}

impl Descriptors {
    /// Raises the soft limit to the hard limit, and reserves a part.
    pub fn raised(reserve: u64) -> Self {
        let limit = match raise() {
            Ok(limit) => limit,
            Err(error) => {
                tracing::warn!("the limit of file descriptors cannot be raised: {error}");
                getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft)
            }
        };
        LIMIT.store(limit, Ordering::Relaxed);
        Self::of(limit, reserve)
    }

    fn of(limit: u64, reserve: u64) -> Self {
        let reserve = reserve.min(limit / RESERVED_PART);
        Self { limit, clients: limit - reserve, checks: limit - reserve / OWN_PART }
    }

    /// The share that a connection with this number belongs to.
    pub fn share(&self, descriptor: RawFd) -> Share {
        let number = u64::try_from(descriptor).unwrap_or(u64::MAX);
        if number < self.clients {
            Share::Clients
        } else if number < self.checks {
            Share::Checks
        } else {
            Share::Own
        }
    }

    /// How many connections past the clients' share may be answered at a time.
    pub fn answered_at_once(&self) -> usize {
        usize::try_from((self.limit - self.clients) / OWN_PART).unwrap_or(usize::MAX).max(1)
    }
}

fn raise() -> nix::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// The raised limit, for the metrics.
static LIMIT: AtomicU64 = AtomicU64::new(0);

/// The limit of descriptors.
pub fn limit() -> i64 {
    i64::try_from(LIMIT.load(Ordering::Relaxed)).unwrap_or(i64::MAX)
}

/// The number of open descriptors. None if the system does not report it.
pub fn open() -> Option<i64> {
    let folder = "/proc/self/fd";
    // The folder's size is the count since Linux 6.2. Counting a hundred thousand entries takes 0.1 s.
    let size = std::fs::metadata(folder).ok()?.len();
    let count = if size > 0 { size } else { std::fs::read_dir(folder).ok()?.count() as u64 };
    i64::try_from(count).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_descriptors_are_reserved() {
        let descriptors = Descriptors::of(1024, 64);
        let shares = [959, 960, 1007, 1008].map(|number| descriptors.share(number));
        assert_eq!(shares, [Share::Clients, Share::Checks, Share::Checks, Share::Own]);
        assert_eq!(descriptors.answered_at_once(), 16);
    }

    #[test]
    fn a_low_limit_leaves_most_to_clients() {
        let descriptors = Descriptors::of(100, 64);
        assert_eq!((descriptors.share(74), descriptors.share(75)), (Share::Clients, Share::Checks));
    }
}

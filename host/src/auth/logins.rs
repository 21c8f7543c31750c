//! Logins with the admin token or an API key, and the throttling of addresses with too many failures. A correct secret is never
//! refused to another address, nor to one that has logged in before: an attacker behind the same proxy could lock its users out.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::proxies::client_block;
use crate::rate::{self, Meter, Rate};
use crate::telemetry::{LimitLabels, ListenerLabel, Metrics, Often};

/// The most addresses with failures in memory. Past it the one with the fewest is dropped.
const MAX_FAILING: usize = 10_000;

/// The most addresses in memory that have logged in. Past it one of them is dropped.
const MAX_KNOWN: usize = 1024;

/// Labels of the metric `limits_passed`.
const OF_ADDRESS: &str = "logins_address_per_minute";
const OF_ALL: &str = "logins_per_minute";

/// `[logins]`: limits on failed logins with an admin token or an API key. 0 means no limit.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Failed logins of one address (IPv6: one /64) a minute, counted for each port. Past it the address is answered with HTTP
    /// 429. Metric: `failed_logins`.
    pub address_per_minute: u64,
    /// Failed logins of all addresses a minute. Past it an address is answered with HTTP 429 after its first failed login.
    /// Metric: `failed_logins`.
    pub per_minute: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { address_per_minute: 10, per_minute: 100 }
    }
}

/// Why a login is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("no secret is shown")]
    Missing,
    #[error("the secret is wrong")]
    Wrong,
    /// With the time to wait before the next attempt.
    #[error("too many failed logins")]
    Throttled(Duration),
}

/// The logins to one port.
pub struct Logins {
    /// `admin` or `public`, in metrics and logs.
    listener: &'static str,
    of_address: Option<Rate>,
    of_all: Option<Rate>,
    state: Mutex<State>,
    metrics: Arc<Metrics>,
    failures: Often,
}

#[derive(Default)]
struct State {
    all: Meter,
    failing: HashMap<IpAddr, Meter>,
    known: HashSet<IpAddr>,
}

impl Logins {
    pub fn new(listener: &'static str, config: &Config, metrics: Arc<Metrics>) -> Self {
        Self {
            listener,
            of_address: Rate::per_minute(config.address_per_minute),
            of_all: Rate::per_minute(config.per_minute),
            state: Mutex::default(),
            metrics,
            failures: Often::default(),
        }
    }

    /// Checks the secret that a client sends. The lock is held over the comparison, so that a thousand parallel guesses get no
    /// further than as many in sequence.
    ///
    /// # Errors
    /// Why the login is refused.
    pub fn check(&self, address: Option<IpAddr>, shown: Option<&str>, is_right: impl FnOnce(&str) -> bool) -> Result<(), Denied> {
        self.check_at(rate::now(), address, shown, is_right)
    }

    fn check_at(
        &self,
        now: u64,
        address: Option<IpAddr>,
        shown: Option<&str>,
        is_right: impl FnOnce(&str) -> bool,
    ) -> Result<(), Denied> {
        let shown = shown.filter(|shown| !shown.is_empty()).ok_or(Denied::Missing)?;
        let address = client_block(address.unwrap_or(IpAddr::from([0; 4])));
        let mut state = self.state.lock();
        let throttled = self.wait(&state, address, now);
        let is_known = state.known.contains(&address);
        if (throttled.is_none() || is_known) && is_right(shown) {
            if !is_known {
                state.remember(address);
            }
            return Ok(());
        }
        self.count();
        if let Some((limit, wait)) = throttled {
            self.metrics.limits_passed.get_or_create(&LimitLabels { limit, outcome: "refused" }).inc();
            return Err(Denied::Throttled(wait));
        }
        // Past the overall limit the first failure of an address still arrives here; the meter then takes nothing.
        if let Some(rate) = self.of_all {
            let _ = state.all.take(rate, now);
        }
        // Without an address limit, failing addresses are still recorded, for the overall limit.
        let rate = self.of_address.or(self.of_all);
        if let Some(rate) = rate {
            let _ = state.meter(address, now).take(rate, now);
        }
        Err(Denied::Wrong)
    }

    /// The limit that an address exceeds, and for how long.
    fn wait(&self, state: &State, address: IpAddr, now: u64) -> Option<(&'static str, Duration)> {
        let meter = state.failing.get(&address)?;
        let past =
            |limit, rate: Option<Rate>, meter: &Meter| Some((limit, meter.wait(rate?, now))).filter(|(_, wait)| !wait.is_zero());
        past(OF_ADDRESS, self.of_address, meter).or_else(|| {
            let is_failing = meter.level(now) > 0.0;
            is_failing.then(|| past(OF_ALL, self.of_all, &state.all)).flatten()
        })
    }

    fn count(&self) {
        self.metrics.failed_logins.get_or_create(&ListenerLabel { listener: self.listener }).inc();
        if let Some(failed) = self.failures.happened() {
            tracing::warn!(listener = self.listener, failed, "logins failed: a wrong secret was shown");
        }
    }
}

impl State {
    fn remember(&mut self, address: IpAddr) {
        if self.known.len() >= MAX_KNOWN
            && let Some(other) = self.known.iter().next().copied()
        {
            self.known.remove(&other);
        }
        self.known.insert(address);
    }

    fn meter(&mut self, address: IpAddr, now: u64) -> &Meter {
        if self.failing.len() >= MAX_FAILING && !self.failing.contains_key(&address) {
            self.failing.retain(|_, meter| meter.level(now) > 0.0);
            let least = self.failing.iter().min_by(|(_, a), (_, b)| a.level(now).total_cmp(&b.level(now)));
            if let Some(least) = least.map(|(address, _)| *address).filter(|_| self.failing.len() >= MAX_FAILING) {
                self.failing.remove(&least);
            }
        }
        self.failing.entry(address).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn logins(address_per_minute: u64, per_minute: u64) -> Logins {
        Logins::new("admin", &Config { address_per_minute, per_minute }, Arc::new(Metrics::new()))
    }

    fn try_at(logins: &Logins, now: u64, last: u8, shown: &str) -> Result<(), Denied> {
        logins.check_at(now, Some(IpAddr::from([10, 0, 0, last])), Some(shown), |shown| shown == "right")
    }

    #[test]
    fn an_address_past_the_limit_is_throttled_and_others_are_not() {
        let logins = logins(3, 100);
        assert_eq!([1; 3].map(|last| try_at(&logins, 0, last, "wrong")), [Err(Denied::Wrong); 3]);
        let wait = Denied::Throttled(Duration::from_secs(20));
        assert_eq!(try_at(&logins, 0, 1, "wrong"), Err(wait));
        assert_eq!(try_at(&logins, 0, 1, "right"), Err(wait), "else a guess would cost nothing");
        assert_eq!(try_at(&logins, 0, 2, "right"), Ok(()), "another address");
        assert_eq!(try_at(&logins, 20 * SECOND, 1, "right"), Ok(()), "later");
    }

    #[test]
    fn an_address_that_has_logged_in_is_not_locked_out() {
        let logins = logins(3, 100);
        assert_eq!(try_at(&logins, 0, 1, "right"), Ok(()));
        let failed = [1; 4].map(|last| try_at(&logins, 0, last, "wrong").is_err());
        assert_eq!((failed, try_at(&logins, 0, 1, "right")), ([true; 4], Ok(())));
        assert!(
            matches!(try_at(&logins, 0, 1, "wrong"), Err(Denied::Throttled(_))),
            "wrong guesses from the same address are throttled"
        );
    }

    #[test]
    fn past_the_overall_limit_one_failure_throttles_an_address() {
        let logins = logins(10, 5);
        (1..=5).for_each(|last| assert_eq!(try_at(&logins, 0, last, "wrong"), Err(Denied::Wrong)));
        assert!(matches!(try_at(&logins, 0, 1, "right"), Err(Denied::Throttled(_))));
        assert_eq!(try_at(&logins, 0, 6, "wrong"), Err(Denied::Wrong));
        assert!(matches!(try_at(&logins, 0, 6, "wrong"), Err(Denied::Throttled(_))));
        assert_eq!(try_at(&logins, 0, 7, "right"), Ok(()));
    }

    #[test]
    fn a_missing_secret_is_no_failure_and_zero_is_no_limit() {
        let logins = logins(0, 0);
        assert_eq!(logins.check(None, None, |_| true), Err(Denied::Missing));
        assert_eq!(logins.check(None, Some(""), |_| true), Err(Denied::Missing));
        (0..1000).for_each(|_| assert_eq!(try_at(&logins, 0, 1, "wrong"), Err(Denied::Wrong)));
    }

    #[test]
    fn the_number_of_remembered_addresses_is_limited() {
        let logins = logins(2, 0);
        for n in 0..MAX_FAILING as u32 + 10 {
            let _ = logins.check_at(0, Some(IpAddr::from(n.to_be_bytes())), Some("wrong"), |_| false);
        }
        assert_eq!(logins.state.lock().failing.len(), MAX_FAILING);
    }
}

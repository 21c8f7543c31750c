//! Timers that wait on this node; `call` runs the due ones. A durable timer is a key of its plugin, written in the call's
//! transaction, so that it exists exactly if the call took effect. Its due time is stored by the wall clock and waited for by the
//! steady clock: setting the wall clock neither runs a timer early nor delays it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::Notify;

use crate::clock::{Clock, Moment};
use crate::names::{self, PluginName, SEPARATOR};
use crate::owners::Owners;
use crate::storage::{HOST_KEYS, Storage, Unavailable};
use crate::telemetry::traces::TraceParent;

/// Stored timers read in one batch.
const READ: usize = 1000;

/// `[timers]`: timers of plugins.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Timers of one plugin that may wait. Past it `after` returns `denied`.
    pub per_plugin: usize,
    /// Timers and schedules that run at the same time. Past it they wait for their turn.
    pub at_once: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { per_plugin: 100_000, at_once: 64 }
    }
}

/// The identity of a timer. One key may have one timer of each kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimerId {
    pub plugin: PluginName,
    pub tenant: Option<String>,
    pub key: String,
    pub durable: bool,
}

/// A due timer that was taken out of the table. If its call fails, it must be put back.
#[derive(Debug)]
pub struct Due {
    pub id: TimerId,
    pub due: Moment,
    /// A durable timer's payload is in storage.
    pub payload: Option<String>,
    pub origin: Origin,
    pub failures: u32,
}

/// The client's call that started a timer. Not stored.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// The user, within the tenant.
    pub user: Option<Arc<str>>,
    /// Set if this process traced the call.
    pub cause: Option<TraceParent>,
}

/// All timers that wait on this node.
pub struct Timers {
    pub config: Config,
    table: Mutex<Table>,
    /// Signals that the next due time may have changed.
    pub wakeup: Notify,
}

#[derive(Default)]
struct Table {
    waiting: HashMap<TimerId, Waiting>,
    /// By the steady clock.
    by_due: BTreeSet<(u64, TimerId)>,
    per_plugin: HashMap<PluginName, usize>,
    owners: Owners,
}

struct Waiting {
    due: Moment,
    payload: Option<String>,
    origin: Origin,
    failures: u32,
}

impl Timers {
    pub fn new(config: Config) -> Self {
        Self { config, table: Mutex::default(), wakeup: Notify::new() }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock()
    }

    /// Starts a timer. If it waits already, its due time stays, and its payload and cause are replaced.
    pub fn arm(&self, id: TimerId, due: Moment, payload: Option<String>, origin: Origin) {
        let mut table = self.table();
        match table.waiting.get_mut(&id) {
            Some(waiting) => (waiting.payload, waiting.origin.cause) = (payload, origin.cause),
            None => table.add(id, Waiting { due, payload, origin, failures: 0 }),
        }
        drop(table);
        self.wakeup.notify_one();
    }

    pub fn disarm(&self, id: &TimerId) {
        self.table().remove(id);
    }

    /// Puts a failed timer back, unless a new one was started meanwhile.
    pub fn put_back(&self, due: Due, at: Moment) {
        let mut table = self.table();
        if !table.waiting.contains_key(&due.id) {
            let Due { id, payload, origin, failures, .. } = due;
            table.add(id, Waiting { due: at, payload, origin, failures });
        }
        drop(table);
        self.wakeup.notify_one();
    }

    /// Takes timers that are due, the earliest first.
    pub fn take_due(&self, steady_ms: u64, limit: usize) -> Vec<Due> {
        let mut table = self.table();
        let due: Vec<_> =
            table.by_due.iter().take_while(|(at, _)| *at <= steady_ms).take(limit).map(|(_, id)| id.clone()).collect();
        due.into_iter().filter_map(|id| table.take(id)).collect()
    }

    /// Takes soft timers, even before they are due: they would be lost at the end of the process.
    pub fn take_soft(&self, limit: usize) -> Vec<Due> {
        let mut table = self.table();
        let soft: Vec<_> = table.by_due.iter().filter(|(_, id)| !id.durable).take(limit).map(|(_, id)| id.clone()).collect();
        soft.into_iter().filter_map(|id| table.take(id)).collect()
    }

    /// By the steady clock.
    pub fn next_due_ms(&self) -> Option<u64> {
        self.table().by_due.first().map(|(at, _)| *at)
    }

    pub fn waiting(&self) -> usize {
        self.table().waiting.len()
    }

    /// Whether a timer waits already.
    pub fn is_waiting(&self, id: &TimerId) -> bool {
        self.table().waiting.contains_key(id)
    }

    /// The numbers of waiting timers that were started by a user's calls and by those of the user's tenant.
    pub fn of(&self, user: &str) -> (usize, usize) {
        self.table().owners.counts(user)
    }

    /// Whether there is room for a timer.
    pub fn has_room_for(&self, id: &TimerId) -> bool {
        let table = self.table();
        table.waiting.contains_key(id) || table.per_plugin.get(&id.plugin).is_none_or(|count| *count < self.config.per_plugin)
    }
}

impl Table {
    fn add(&mut self, id: TimerId, waiting: Waiting) {
        self.by_due.insert((waiting.due.steady_ms, id.clone()));
        *self.per_plugin.entry(id.plugin.clone()).or_default() += 1;
        if let Some(owner) = owner_of(&id, &waiting.origin) {
            self.owners.add(&owner);
        }
        self.waiting.insert(id, waiting);
    }

    fn remove(&mut self, id: &TimerId) -> Option<Waiting> {
        let waiting = self.waiting.remove(id)?;
        self.by_due.remove(&(waiting.due.steady_ms, id.clone()));
        if let Some(count) = self.per_plugin.get_mut(&id.plugin) {
            *count -= 1;
        }
        if let Some(owner) = owner_of(id, &waiting.origin) {
            self.owners.remove(&owner);
        }
        Some(waiting)
    }

    fn take(&mut self, id: TimerId) -> Option<Due> {
        let Waiting { due, payload, origin, failures } = self.remove(&id)?;
        Some(Due { id, due, payload, origin, failures })
    }
}

/// The user in whose share a timer counts. A timer restored from storage counts for its tenant's user without a name.
fn owner_of(id: &TimerId, origin: &Origin) -> Option<Arc<str>> {
    origin.user.clone().or_else(|| id.tenant.as_deref().map(|tenant| names::scoped(Some(tenant), "").into()))
}

impl TimerId {
    /// The key under which a durable timer is stored: no plugin can use it.
    pub fn stored_key(&self) -> String {
        format!("{}{SEPARATOR}{}", stored_prefix(self.tenant.as_deref()), self.key)
    }
}

fn stored_prefix(tenant: Option<&str>) -> String {
    format!("{HOST_KEYS}timer/{}", tenant.unwrap_or_default())
}

/// The stored value: the due time and the payload.
pub fn stored(due_ms: u64, payload: &str) -> String {
    format!("{due_ms} {payload}")
}

/// The due time and the payload of a stored value.
pub fn parse_stored(value: &[u8]) -> Option<(u64, &str)> {
    let (due, payload) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    Some((due.parse().ok()?, payload))
}

/// Starts the stored timers of a plugin: at start, and after another node died. From then on they use the steady clock.
pub async fn restore(timers: &Timers, storage: &Arc<dyn Storage>, clock: &Clock, plugin: &PluginName) -> Result<(), Unavailable> {
    let prefix = stored_prefix(None);
    let (mut start, end) = (prefix.clone(), format!("{HOST_KEYS}timer0"));
    loop {
        let found = storage.scan(plugin, &start, &end, READ, false).await?;
        let Some((last, _)) = found.last() else { return Ok(()) };
        let next = format!("{last}\0");
        for (key, value) in &found {
            let name = key.strip_prefix(prefix.as_str()).and_then(|name| name.split_once(SEPARATOR));
            let (Some((tenant, key)), Some((due_ms, _))) = (name, parse_stored(value)) else { continue };
            let tenant = Some(tenant).filter(|tenant| !tenant.is_empty()).map(str::to_owned);
            let id = TimerId { plugin: plugin.clone(), tenant, key: key.to_owned(), durable: true };
            timers.arm(id, clock.moment_at(due_ms), None, Origin::default());
        }
        start = next;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn id(key: &str) -> TimerId {
        TimerId { plugin: PluginName::parse("p").unwrap(), tenant: None, key: key.to_owned(), durable: false }
    }

    fn at(ms: u64) -> Moment {
        Moment { wall_ms: ms, steady_ms: ms }
    }

    #[test]
    fn a_timer_started_again_keeps_its_due_time_and_takes_the_payload() {
        let timers = Timers::new(Config::default());
        timers.arm(id("a"), at(100), Some("1".into()), Origin::default());
        timers.arm(id("a"), at(900), Some("2".into()), Origin::default());
        assert!(timers.take_due(99, 10).is_empty());
        let due = timers.take_due(100, 10);
        assert_eq!((due.len(), due[0].payload.as_deref()), (1, Some("2")));
        assert_eq!(timers.waiting(), 0);
    }

    #[test]
    fn timers_are_taken_by_due_time() {
        let timers = Timers::new(Config::default());
        for (key, due) in [("c", 3), ("a", 1), ("b", 2)] {
            timers.arm(id(key), at(due), None, Origin::default());
        }
        assert_eq!(timers.next_due_ms(), Some(1));
        let keys: Vec<_> = timers.take_due(10, 2).into_iter().map(|due| due.id.key).collect();
        assert_eq!(keys, ["a", "b"]);
        timers.disarm(&id("c"));
        assert_eq!(timers.next_due_ms(), None);
    }

    #[test]
    fn a_failed_timer_does_not_replace_a_new_one() {
        let timers = Timers::new(Config::default());
        timers.arm(id("a"), at(1), Some("old".into()), Origin::default());
        let failed = timers.take_due(1, 1).pop().unwrap();
        timers.arm(id("a"), at(50), Some("new".into()), Origin::default());
        timers.put_back(failed, at(10));
        assert_eq!(timers.next_due_ms(), Some(50));
    }

    #[test]
    fn a_plugins_timers_are_limited() {
        let timers = Timers::new(Config { per_plugin: 1, ..Config::default() });
        assert!(timers.has_room_for(&id("a")));
        timers.arm(id("a"), at(1), None, Origin::default());
        assert!(timers.has_room_for(&id("a")) && !timers.has_room_for(&id("b")));
        timers.disarm(&id("a"));
        assert!(timers.has_room_for(&id("b")));
    }

    #[test]
    fn setting_the_wall_clock_changes_no_due_time() {
        const HOUR: u64 = 3_600_000;
        for set in [HOUR, 90 * HOUR] {
            let (timers, clock) = (Timers::new(Config::default()), Clock::manual(10 * HOUR));
            timers.arm(id("a"), clock.moment_at(12 * HOUR), None, Origin::default());
            clock.set(set);
            clock.advance(2 * HOUR - 1);
            assert!(timers.take_due(clock.steady_ms(), 1).is_empty());
            clock.advance(1);
            let due = timers.take_due(clock.steady_ms(), 1).pop().unwrap();
            assert_eq!(due.due.wall_ms, 12 * HOUR, "the due time is passed on");
        }
    }

    #[test]
    fn timers_are_counted_by_the_user_and_the_tenant() {
        let timers = Timers::new(Config::default());
        let of = |tenant: Option<&str>, key: &str| TimerId { tenant: tenant.map(str::to_owned), ..id(key) };
        let ana = names::scoped(Some("acme"), "ana");
        let origin = Origin { user: Some(ana.as_str().into()), cause: None };
        timers.arm(of(Some("acme"), "a"), at(1), None, origin.clone());
        timers.arm(of(Some("acme"), "a"), at(2), None, origin);
        timers.arm(of(Some("acme"), "restored"), at(3), None, Origin::default());
        timers.arm(of(None, "a"), at(4), None, Origin::default());
        assert_eq!(timers.of(&ana), (1, 2));
        timers.take_due(10, 10);
        assert_eq!(timers.of(&ana), (0, 0));
    }
}

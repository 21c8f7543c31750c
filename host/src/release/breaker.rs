//! Circuit breakers of one release. A source of calls that only faults is not called for a while, and in the end not until an operator
//! enables it. Each source has its own breaker: a fault in one never stops another. A refusal or a failure is an answer, and opens none.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// The longest time that a breaker stays open.
const LONGEST: Duration = Duration::from_secs(60);

/// Bytes of a cause that are kept.
const MAX_CAUSE: usize = 1024;

/// `[breaker]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Faults in a row, without one answer, after which a source of calls is not called for a while. Retries of one message or timer
    /// count once. Default 50.
    pub failures: u32,
    /// How long at first; twice as long each further time, up to a minute. Default 1 s.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    pub wait: Duration,
    /// Openings in a row after which the source is quarantined. Default 5.
    pub quarantine: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { failures: 50, wait: Duration::from_secs(1), quarantine: 5 }
    }
}

/// Where calls come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    Authorize,
    Connects,
    Events,
    Disconnects,
    /// Messages of the outbox.
    Messages,
    /// Notices of the host: presence, room counts, figures.
    Notices,
    Timers,
    Schedules,
}

impl Source {
    pub const ALL: [Self; 8] = [
        Self::Authorize,
        Self::Connects,
        Self::Events,
        Self::Disconnects,
        Self::Messages,
        Self::Notices,
        Self::Timers,
        Self::Schedules,
    ];

    /// As metrics and operators name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Authorize => "authorize",
            Self::Connects => "connects",
            Self::Events => "events",
            Self::Disconnects => "disconnects",
            Self::Messages => "messages",
            Self::Notices => "notices",
            Self::Timers => "timers",
            Self::Schedules => "schedules",
        }
    }

    /// Whether clients depend on its answer.
    pub fn is_clients(self) -> bool {
        matches!(self, Self::Authorize | Self::Connects | Self::Events)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A source that is not called until an operator ends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    pub source: Source,
    /// The last fault: the export, its subject, the error.
    pub cause: String,
    /// Since when, RFC 3339.
    pub at: String,
}

/// All breakers of a release.
pub struct Breakers {
    breakers: [Breaker; Source::ALL.len()],
    quarantined: Mutex<Vec<Quarantined>>,
}

impl Breakers {
    pub fn new(config: &Config) -> Self {
        Self { breakers: Source::ALL.map(|_| Breaker::new(config.clone())), quarantined: Mutex::default() }
    }

    pub fn of(&self, source: Source) -> &Breaker {
        &self.breakers[source as usize]
    }

    /// A source that has faulted for so long that it should be quarantined, with the last fault.
    pub fn hopeless(&self) -> Option<(Source, String)> {
        let source = Source::ALL.into_iter().find(|source| self.of(*source).is_hopeless())?;
        Some((source, self.of(source).cause().clone()))
    }

    /// The sources that are open now, quarantined or not.
    pub fn open(&self, now: Instant) -> Vec<Source> {
        Source::ALL.into_iter().filter(|source| !self.of(*source).lets_through(now)).collect()
    }

    pub fn quarantined(&self) -> Vec<Quarantined> {
        self.quarantine().clone()
    }

    /// Whether clients are not served as they should be.
    pub fn keeps_clients_away(&self) -> bool {
        self.quarantine().iter().any(|one| one.source.is_clients())
    }

    /// Quarantines these sources and no others. The breaker of one that leaves quarantine starts anew.
    pub fn set_quarantined(&self, sources: Vec<Quarantined>) {
        let mut quarantined = self.quarantine();
        for source in Source::ALL {
            let is_one = |all: &[Quarantined]| all.iter().any(|one| one.source == source);
            match (is_one(&quarantined), is_one(&sources)) {
                (_, true) => self.of(source).held.store(true, Ordering::Release),
                (true, false) => self.of(source).close(),
                (false, false) => {}
            }
        }
        *quarantined = sources;
    }

    /// Closes the breakers that are open by themselves, at an operator's command.
    pub fn close(&self) {
        let quarantined = self.quarantine();
        let others = |source: &Source| !quarantined.iter().any(|one| one.source == *source);
        Source::ALL.into_iter().filter(others).for_each(|source| self.of(source).close());
    }

    fn quarantine(&self) -> MutexGuard<'_, Vec<Quarantined>> {
        // Replaced as a whole.
        self.quarantined.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One circuit breaker. Asking it costs two loads.
pub struct Breaker {
    config: Config,
    /// Times are counted from here, by a clock that never steps.
    origin: Instant,
    /// Faults since the last answer.
    in_a_row: AtomicU32,
    /// Times that it has opened since the last answer.
    openings: AtomicU32,
    /// Closed again after this moment.
    open_until_ms: AtomicU64,
    /// Quarantined: open for good.
    held: AtomicBool,
    cause: Mutex<String>,
}

impl Breaker {
    fn new(config: Config) -> Self {
        Self {
            config,
            origin: Instant::now(),
            in_a_row: AtomicU32::new(0),
            openings: AtomicU32::new(0),
            open_until_ms: AtomicU64::new(0),
            held: AtomicBool::new(false),
            cause: Mutex::default(),
        }
    }

    /// Whether a call may be made now.
    pub fn lets_through(&self, now: Instant) -> bool {
        !self.is_held() && self.ms(now) >= self.open_until_ms.load(Ordering::Relaxed)
    }

    /// Whether it is open until an operator closes it.
    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }

    /// A call was answered, whatever the answer.
    pub fn answered(&self) {
        if self.in_a_row.load(Ordering::Relaxed) != 0 {
            self.in_a_row.store(0, Ordering::Relaxed);
            self.openings.store(0, Ordering::Relaxed);
        }
    }

    /// A call faulted. Tells for how long the breaker is open, where it has opened.
    pub fn faulted(&self, now: Instant, cause: &dyn fmt::Display) -> Option<Duration> {
        let in_a_row = self.in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
        // Once it has opened, one more fault opens it again: that of the call which was let through to try.
        if in_a_row < self.config.failures || !self.lets_through(now) {
            return None;
        }
        let mut cause = cause.to_string();
        cause.truncate(cause.floor_char_boundary(MAX_CAUSE));
        *self.cause() = cause;
        let openings = self.openings.fetch_add(1, Ordering::Relaxed);
        let wait = self.config.wait.saturating_mul(1 << openings.min(16)).min(LONGEST);
        self.open_until_ms.store(self.ms(now).saturating_add(wait.as_millis() as u64), Ordering::Relaxed);
        Some(wait)
    }

    fn is_hopeless(&self) -> bool {
        !self.is_held() && self.openings.load(Ordering::Relaxed) >= self.config.quarantine
    }

    fn close(&self) {
        self.in_a_row.store(0, Ordering::Relaxed);
        self.openings.store(0, Ordering::Relaxed);
        self.open_until_ms.store(0, Ordering::Relaxed);
        self.held.store(false, Ordering::Release);
    }

    fn cause(&self) -> MutexGuard<'_, String> {
        self.cause.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ms(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.origin).as_millis() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(breaker: &Breaker, ms: u64) -> Instant {
        breaker.origin + Duration::from_millis(ms)
    }

    #[test]
    fn a_breaker_opens_for_longer_each_time_and_an_answer_closes_it() {
        let breaker = Breaker::new(Config { failures: 3, ..Config::default() });
        let at = |ms| after(&breaker, ms);
        let fault = |ms| breaker.faulted(at(ms), &"it trapped");
        assert_eq!((fault(0), fault(0)), (None, None));
        assert!(breaker.lets_through(at(0)));
        assert_eq!(fault(0), Some(Duration::from_secs(1)));
        assert!(!breaker.lets_through(at(999)) && breaker.lets_through(at(1000)));
        assert_eq!(fault(1000), Some(Duration::from_secs(2)));
        assert!(!breaker.lets_through(at(2999)) && breaker.lets_through(at(3000)));
        breaker.answered();
        assert_eq!(fault(3000), None, "counting begins anew");
    }

    #[test]
    fn a_source_that_only_faults_is_hopeless_in_the_end_and_no_other_is() {
        let breakers = Breakers::new(&Config { failures: 1, quarantine: 2, ..Config::default() });
        let messages = breakers.of(Source::Messages);
        messages.faulted(after(messages, 0), &"the first");
        assert_eq!(breakers.hopeless(), None);
        messages.faulted(after(messages, 1000), &"the last");
        assert_eq!(breakers.hopeless(), Some((Source::Messages, "the last".into())));
        assert_eq!(breakers.open(after(messages, 1000)), [Source::Messages]);
    }

    #[test]
    fn a_quarantined_source_stays_open_until_it_is_let_go() {
        let breakers = Breakers::new(&Config { failures: 1, quarantine: 1, ..Config::default() });
        let (events, far) = (breakers.of(Source::Events), Duration::from_secs(86_400));
        events.faulted(after(events, 0), &"it trapped");
        let one = Quarantined { source: Source::Events, cause: "it trapped".into(), at: "now".into() };
        breakers.set_quarantined(vec![one]);
        assert!(!events.lets_through(events.origin + far) && breakers.keeps_clients_away());
        assert_eq!(breakers.hopeless(), None, "it is quarantined once");
        breakers.close();
        assert!(!events.lets_through(events.origin + far), "only the record lets it go");
        breakers.set_quarantined(Vec::new());
        assert!(events.lets_through(after(events, 0)) && breakers.hopeless().is_none() && !breakers.keeps_clients_away());
    }
}

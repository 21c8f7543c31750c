//! Circuit breakers of one release. A source of calls that only faults is not called for a while, and after repeated openings not
//! until an operator enables it. Each source has its own breaker, so a fault in one never stops another. A refusal or a failure
//! counts as an answer and opens none.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// The longest time that a breaker stays open.
const LONGEST: Duration = Duration::from_secs(60);

/// Bytes of a fault's description that are kept.
const MAX_CAUSE: usize = 1024;

/// The most subjects that are distinguished.
pub const MAX_SUBJECTS: usize = 16;

/// `[breaker]`: the circuit breakers. Each source of a release's calls (events, messages, timers and so on) has its own.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Faults in a row, without one answer, that open the breaker. Retries of one message or timer count once. Past it the source
    /// is not called for `wait`. Metric: `breaker_openings`.
    pub failures: u32,
    /// Different users, visitors' addresses, messages or timers that these faults must come from, 1 to 16, so that one client
    /// cannot stop a release. At most `failures`.
    pub subjects: usize,
    /// How long the breaker stays open the first time; the time doubles with each opening, up to a minute.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    #[schemars(with = "crate::duration::Text")]
    pub wait: Duration,
    /// Openings in a row. Past it the source is quarantined until an operator ends that. Metric: `plugin_quarantined_sources`.
    pub quarantine: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { failures: 50, subjects: 3, wait: Duration::from_secs(1), quarantine: 5 }
    }
}

impl Config {
    /// Checks that the subjects can be counted.
    pub fn check(&self) -> Result<(), OutOfBounds> {
        if (1..=MAX_SUBJECTS).contains(&self.subjects) { Ok(()) } else { Err(OutOfBounds(self.subjects)) }
    }
}

/// A number of subjects that is out of its bounds.
#[derive(Debug, thiserror::Error)]
#[error("breaker.subjects is {0}; it must be 1 to {MAX_SUBJECTS}")]
pub struct OutOfBounds(usize);

/// The origin of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    Authorize,
    Connects,
    Events,
    Disconnects,
    /// Messages of the outbox.
    Messages,
    /// Notices of the host: presence and room counts.
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

    /// The name in metrics and for operators.
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

/// A source that is not called until an operator ends the quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    pub source: Source,
    /// The last fault: the export, its subject, the error.
    pub cause: String,
    /// The start, as RFC 3339.
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

    /// A source that has faulted long enough to be quarantined, with the last fault.
    pub fn exhausted(&self) -> Option<(Source, String)> {
        let source = Source::ALL.into_iter().find(|source| self.of(*source).is_exhausted())?;
        Some((source, self.of(source).evidence().cause.clone()))
    }

    /// The sources that are open now, quarantined or not.
    pub fn open(&self, now: Instant) -> Vec<Source> {
        Source::ALL.into_iter().filter(|source| !self.of(*source).allows(now)).collect()
    }

    pub fn quarantined(&self) -> Vec<Quarantined> {
        self.quarantine().clone()
    }

    /// Whether a source that clients depend on is quarantined.
    pub fn refuses_clients(&self) -> bool {
        self.quarantine().iter().any(|one| one.source.is_clients())
    }

    /// Quarantines exactly these sources. The breaker of a source that leaves quarantine is reset.
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

    /// Closes the breakers that are open but not quarantined, at an operator's command.
    pub fn close(&self) {
        let quarantined = self.quarantine();
        let others = |source: &Source| !quarantined.iter().any(|one| one.source == *source);
        Source::ALL.into_iter().filter(others).for_each(|source| self.of(source).close());
    }

    fn quarantine(&self) -> MutexGuard<'_, Vec<Quarantined>> {
        // A panic leaves no partial state: the list is replaced as a whole.
        self.quarantined.lock()
    }
}

/// One circuit breaker. A check costs two atomic loads.
pub struct Breaker {
    config: Config,
    /// The origin of times, by a clock that never steps.
    origin: Instant,
    /// Faults since the last answer.
    in_a_row: AtomicU32,
    /// Openings since the last answer.
    openings: AtomicU32,
    /// The end of the opening.
    open_until_ms: AtomicU64,
    /// Quarantined: open without an end.
    held: AtomicBool,
    evidence: Mutex<Evidence>,
}

/// The faults since the last answer.
#[derive(Default)]
struct Evidence {
    /// The subjects of faulted calls, at most [`MAX_SUBJECTS`].
    subjects: SmallVec<[u64; 4]>,
    /// The last fault.
    cause: String,
}

impl Evidence {
    /// Counts each subject once. A call without a subject counts as a new one.
    fn add(&mut self, subject: Option<u64>) {
        let subject = subject.unwrap_or(self.subjects.len() as u64);
        if self.subjects.len() < MAX_SUBJECTS && !self.subjects.contains(&subject) {
            self.subjects.push(subject);
        }
    }
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
            evidence: Mutex::default(),
        }
    }

    /// Whether a call may be made now.
    pub fn allows(&self, now: Instant) -> bool {
        !self.is_held() && self.ms(now) >= self.open_until_ms.load(Ordering::Relaxed)
    }

    /// Whether a call of this subject may be made now. After an opening, the first call must be of a subject that has not
    /// faulted; subjects that have faulted wait for twice the time.
    pub fn allows_subject(&self, now: Instant, subject: impl FnOnce() -> Option<u64>) -> bool {
        let openings = self.openings.load(Ordering::Relaxed);
        if openings == 0 || !self.allows(now) {
            return self.allows(now);
        }
        let waited = self.ms(now).saturating_sub(self.open_until_ms.load(Ordering::Relaxed));
        let as_long_again = self.wait(openings - 1).as_millis() as u64;
        waited >= as_long_again || subject().is_none_or(|subject| !self.evidence().subjects.contains(&subject))
    }

    /// Whether it is quarantined.
    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }

    /// A call was answered, with any answer.
    pub fn answered(&self) {
        if self.in_a_row.load(Ordering::Relaxed) != 0 {
            self.evidence().subjects.clear();
            self.in_a_row.store(0, Ordering::Relaxed);
            self.openings.store(0, Ordering::Relaxed);
        }
    }

    /// A call of this subject faulted. Returns how long the breaker is open, if this fault opened it.
    pub fn faulted(&self, now: Instant, subject: Option<u64>, cause: &dyn fmt::Display) -> Option<Duration> {
        let in_a_row = self.in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
        let mut evidence = self.evidence();
        evidence.add(subject);
        // After an opening, one fault of the trial call opens it again.
        if in_a_row < self.config.failures || evidence.subjects.len() < self.subjects() || !self.allows(now) {
            return None;
        }
        evidence.cause = cause.to_string();
        let end = evidence.cause.floor_char_boundary(MAX_CAUSE);
        evidence.cause.truncate(end);
        drop(evidence);
        let openings = self.openings.fetch_add(1, Ordering::Relaxed);
        let wait = self.wait(openings);
        self.open_until_ms.store(self.ms(now).saturating_add(wait.as_millis() as u64), Ordering::Relaxed);
        Some(wait)
    }

    /// The number of faulting subjects that opens it.
    fn subjects(&self) -> usize {
        self.config.subjects.min(self.config.failures as usize)
    }

    /// How long it is open after this number of earlier openings.
    fn wait(&self, openings: u32) -> Duration {
        self.config.wait.saturating_mul(1 << openings.min(16)).min(LONGEST)
    }

    fn is_exhausted(&self) -> bool {
        !self.is_held() && self.openings.load(Ordering::Relaxed) >= self.config.quarantine
    }

    fn close(&self) {
        self.evidence().subjects.clear();
        self.in_a_row.store(0, Ordering::Relaxed);
        self.openings.store(0, Ordering::Relaxed);
        self.open_until_ms.store(0, Ordering::Relaxed);
        self.held.store(false, Ordering::Release);
    }

    fn evidence(&self) -> MutexGuard<'_, Evidence> {
        self.evidence.lock()
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
    fn a_breaker_opens_for_longer_each_time_until_an_answer() {
        let breaker = Breaker::new(Config { failures: 3, subjects: 1, ..Config::default() });
        let at = |ms| after(&breaker, ms);
        let fault = |ms| breaker.faulted(at(ms), Some(1), &"it trapped");
        assert_eq!((fault(0), fault(0)), (None, None));
        assert!(breaker.allows(at(0)));
        assert_eq!(fault(0), Some(Duration::from_secs(1)));
        assert!(!breaker.allows(at(999)) && breaker.allows(at(1000)));
        assert_eq!(fault(1000), Some(Duration::from_secs(2)));
        assert!(!breaker.allows(at(2999)) && breaker.allows(at(3000)));
        breaker.answered();
        assert_eq!(fault(3000), None, "the count starts over");
    }

    #[test]
    fn one_subject_opens_no_breaker_and_another_one_probes_it() {
        let breaker = Breaker::new(Config { failures: 3, subjects: 2, ..Config::default() });
        let at = |ms| after(&breaker, ms);
        let lets = |ms, subject| breaker.allows_subject(at(ms), || Some(subject));
        for _ in 0..100 {
            assert_eq!(breaker.faulted(at(0), Some(1), &"it trapped"), None);
        }
        assert!(lets(0, 1) && !breaker.is_exhausted());
        assert_eq!(breaker.faulted(at(0), Some(2), &"it trapped"), Some(Duration::from_secs(1)));
        assert!(!lets(999, 3));
        assert!(lets(1000, 3) && !lets(1000, 1) && !lets(1999, 2), "only a subject that has not faulted");
        assert!(lets(2000, 1), "no other subject called");
        breaker.answered();
        assert!(lets(1000, 1));
    }

    #[test]
    fn a_source_that_only_faults_is_exhausted_alone() {
        let breakers = Breakers::new(&Config { failures: 1, subjects: 1, quarantine: 2, ..Config::default() });
        let messages = breakers.of(Source::Messages);
        messages.faulted(after(messages, 0), None, &"the first");
        assert_eq!(breakers.exhausted(), None);
        messages.faulted(after(messages, 1000), None, &"the last");
        assert_eq!(breakers.exhausted(), Some((Source::Messages, "the last".into())));
        assert_eq!(breakers.open(after(messages, 1000)), [Source::Messages]);
    }

    #[test]
    fn a_quarantined_source_stays_open_until_it_is_released() {
        let breakers = Breakers::new(&Config { failures: 1, subjects: 1, quarantine: 1, ..Config::default() });
        let (events, far) = (breakers.of(Source::Events), Duration::from_secs(86_400));
        events.faulted(after(events, 0), Some(1), &"it trapped");
        let one = Quarantined { source: Source::Events, cause: "it trapped".into(), at: "now".into() };
        breakers.set_quarantined(vec![one]);
        assert!(!events.allows(events.origin + far) && breakers.refuses_clients());
        assert_eq!(breakers.exhausted(), None, "it is quarantined once");
        breakers.close();
        assert!(!events.allows(events.origin + far), "only the deployment history releases it");
        breakers.set_quarantined(Vec::new());
        assert!(events.allows(after(events, 0)) && breakers.exhausted().is_none() && !breakers.refuses_clients());
    }
}

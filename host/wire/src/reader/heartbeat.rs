//! The heartbeat of a connection: a ping after each interval, and a timeout if it is not answered.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Config;

/// The action that is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beat {
    None,
    Ping,
    Timeout,
}

/// The schedule of pings.
#[derive(Debug)]
pub(super) struct Heartbeat {
    pub(super) next: Instant,
    /// A ping was sent and is not answered yet.
    awaiting: bool,
}

impl Heartbeat {
    pub(super) fn new(now: Instant, config: &Config) -> Self {
        Self { next: now + config.ping_interval, awaiting: false }
    }

    /// The client has answered a ping.
    pub(super) fn pong(&mut self, interval: Duration) {
        self.awaiting = false;
        self.next = Instant::now() + interval;
    }

    /// The action that is due by now. There is no timeout if the reader was paused since the ping, so that no pong could be read.
    pub(super) fn tick(&mut self, now: Instant, config: &Config, was_paused: impl FnOnce() -> bool) -> Beat {
        if self.next > now {
            return Beat::None;
        }
        if !self.awaiting {
            self.awaiting = true;
            // Counted from the time at which the ping was due, so that a late timer does not add up.
            self.next += config.ping_timeout;
            return Beat::Ping;
        }
        if was_paused() {
            self.next = now + config.ping_timeout;
            return Beat::None;
        }
        Beat::Timeout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_is_sent_after_each_interval_and_its_answer_awaited() {
        let config = Config::default();
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(start, &config);
        assert_eq!(heartbeat.tick(start, &config, || false), Beat::None, "no ping comes at once");
        let ping = start + config.ping_interval;
        assert_eq!(heartbeat.tick(ping, &config, || false), Beat::Ping);
        assert_eq!(heartbeat.tick(ping + config.ping_timeout / 2, &config, || false), Beat::None);
        assert_eq!(heartbeat.tick(ping + config.ping_timeout, &config, || true), Beat::None, "while the reader is paused");
        assert_eq!(heartbeat.tick(ping + config.ping_timeout * 2, &config, || false), Beat::Timeout);
        heartbeat.pong(config.ping_interval);
        assert_eq!(heartbeat.tick(Instant::now(), &config, || false), Beat::None);
    }
}

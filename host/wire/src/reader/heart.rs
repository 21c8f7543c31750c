//! The heartbeat of a connection: a ping after each interval, and an end where it is not answered.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Config;

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beat {
    None,
    Ping,
    Timeout,
}

/// When the next ping or the end is due.
#[derive(Debug)]
pub(super) struct Heart {
    pub(super) next: Instant,
    /// A ping was sent, and not answered yet.
    awaiting: bool,
}

impl Heart {
    pub(super) fn new(now: Instant, config: &Config) -> Self {
        Self { next: now + config.ping_interval, awaiting: false }
    }

    /// The client has answered.
    pub(super) fn pong(&mut self, interval: Duration) {
        self.awaiting = false;
        self.next = Instant::now() + interval;
    }

    /// What is due by now. A client whose packets are not read cannot be late with its answer.
    pub(super) fn tick(&mut self, now: Instant, config: &Config, is_paused: bool) -> Beat {
        if self.next > now {
            return Beat::None;
        }
        if !self.awaiting {
            self.awaiting = true;
            // From when the ping was due: a late timer gives no client more time.
            self.next += config.ping_timeout;
            return Beat::Ping;
        }
        if is_paused {
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
        let mut heart = Heart::new(start, &config);
        assert_eq!(heart.tick(start, &config, false), Beat::None, "no ping comes at once");
        let ping = start + config.ping_interval;
        assert_eq!(heart.tick(ping, &config, false), Beat::Ping);
        assert_eq!(heart.tick(ping + config.ping_timeout / 2, &config, false), Beat::None);
        assert_eq!(heart.tick(ping + config.ping_timeout, &config, true), Beat::None, "while the reader is paused");
        assert_eq!(heart.tick(ping + config.ping_timeout * 2, &config, false), Beat::Timeout);
        heart.pong(config.ping_interval);
        assert_eq!(heart.tick(Instant::now(), &config, false), Beat::None);
    }
}

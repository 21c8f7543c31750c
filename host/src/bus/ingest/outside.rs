//! The state of another system as seen by this node: up or down. Logs each change once; decides nothing.

use std::fmt::Display;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;

/// The state of a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Unknown,
    Up,
    /// Whether it was up before.
    Down(bool),
}

/// Another system.
pub struct Outside {
    /// The name in log lines and in `/ready`.
    name: &'static str,
    known: Mutex<Known>,
    reconnects: Counter,
}

impl Outside {
    pub fn new(name: &'static str, reconnects: Counter) -> Self {
        Self { name, known: Mutex::new(Known::Unknown), reconnects }
    }

    /// Called when the system has answered.
    pub fn found(&self) {
        match self.replace(Known::Up) {
            Known::Up => {}
            Known::Unknown => tracing::info!("{} answers", self.name),
            Known::Down(before) => {
                tracing::info!("{} is back", self.name);
                if before {
                    self.reconnects.inc();
                }
            }
        }
    }

    /// Called when the system has not answered.
    pub fn missed(&self, why: &dyn Display) {
        let mut known = self.known.lock();
        if !matches!(*known, Known::Down(_)) {
            tracing::warn!("{} is away, and is retried: {why}", self.name);
            *known = Known::Down(*known == Known::Up);
        }
    }

    pub fn is_there(&self) -> bool {
        *self.known.lock() == Known::Up
    }

    /// The state in `/ready`.
    pub fn state(&self) -> &'static str {
        match *self.known.lock() {
            Known::Unknown => "unknown",
            Known::Up => "up",
            Known::Down(_) => "away",
        }
    }

    fn replace(&self, now: Known) -> Known {
        std::mem::replace(&mut *self.known.lock(), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reconnects_are_counted() {
        let outside = Outside::new("it", Counter::default());
        outside.missed(&"not started");
        outside.found();
        assert_eq!((outside.reconnects.get(), outside.is_there()), (0, true));
        outside.missed(&"gone");
        outside.missed(&"still gone");
        assert!(!outside.is_there());
        outside.found();
        outside.found();
        assert_eq!(outside.reconnects.get(), 1);
    }
}

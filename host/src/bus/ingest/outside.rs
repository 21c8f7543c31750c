//! Another system, as this node finds it: there or away. Says each change once, whoever notices it how often; decides nothing.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter;

/// What is known of a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Nothing,
    There,
    /// Whether it has been there before.
    RedisUnavailable(bool),
}

/// One system.
pub struct Outside {
    /// As log lines and `/ready` name it.
    name: &'static str,
    known: Mutex<Known>,
    reconnects: Counter,
}

impl Outside {
    pub fn new(name: &'static str, reconnects: Counter) -> Self {
        Self { name, known: Mutex::new(Known::Nothing), reconnects }
    }

    /// It has answered.
    pub fn found(&self) {
        match self.turn(Known::There) {
            Known::There => {}
            Known::Nothing => tracing::info!("{} answers", self.name),
            Known::RedisUnavailable(before) => {
                tracing::info!("{} is back", self.name);
                if before {
                    self.reconnects.inc();
                }
            }
        }
    }

    /// It has not answered.
    pub fn missed(&self, why: &dyn Display) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*known, Known::RedisUnavailable(_)) {
            tracing::warn!("{} is away, and tried until it is back: {why}", self.name);
            *known = Known::RedisUnavailable(*known == Known::There);
        }
    }

    pub fn is_there(&self) -> bool {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) == Known::There
    }

    /// As `/ready` tells it.
    pub fn state(&self) -> &'static str {
        match *self.known.lock().unwrap_or_else(PoisonError::into_inner) {
            Known::Nothing => "unknown",
            Known::There => "up",
            Known::RedisUnavailable(_) => "away",
        }
    }

    fn turn(&self, now: Known) -> Known {
        std::mem::replace(&mut *self.known.lock().unwrap_or_else(PoisonError::into_inner), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coming_back_is_counted_and_coming_is_not() {
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

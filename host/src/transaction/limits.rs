//! `[limits]`: the limits of one call. A call past one of them traps, without any effect.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::storage::{MAX_SET_BYTES, MAX_SET_WRITES};

/// `[limits]`: limits of one call. A call that ends at one of them has no effect at all.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Effects of a call, at most 256, the largest set that storage accepts. Past it the call traps.
    pub effects: usize,
    /// Bytes of a call's effects (names, arguments, keys and values), and of its reply; at most 1 MiB. Past it the call traps.
    pub effect_bytes: usize,
    /// Imports that a call may call. Past it the call traps.
    pub imports: u32,
    /// Milliseconds of CPU that a call may use. Past it the call traps.
    pub cpu_ms: u32,
    /// How long a call may take, waits included. Past it the call ends: with `unavailable` if it waited for storage or for other
    /// nodes, else as a fault.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    #[schemars(with = "crate::duration::Text")]
    pub call_time: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            effects: MAX_SET_WRITES,
            effect_bytes: MAX_SET_BYTES,
            imports: 10_000,
            cpu_ms: 20,
            call_time: Duration::from_secs(5),
        }
    }
}

/// A limit out of its bounds.
#[derive(Debug, thiserror::Error)]
#[error("limits.{key} is {value}; it must be 1 to {most}")]
pub struct OutOfBounds {
    key: &'static str,
    value: usize,
    most: usize,
}

impl Config {
    /// Checks limits that storage would refuse later.
    pub fn check(&self) -> Result<(), OutOfBounds> {
        let bounds = [("effects", self.effects, MAX_SET_WRITES), ("effect_bytes", self.effect_bytes, MAX_SET_BYTES)];
        match bounds.into_iter().find(|(_, value, most)| !(1..=*most).contains(value)) {
            Some((key, value, most)) => Err(OutOfBounds { key, value, most }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_past_those_of_storage_is_refused() {
        assert!(Config::default().check().is_ok());
        for effects in [0, MAX_SET_WRITES + 1] {
            assert!(Config { effects, ..Config::default() }.check().is_err());
        }
    }
}

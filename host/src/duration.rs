//! Durations as people write them (`30s`, `15m`, `7d`), for configuration and the command line. Never guesses a unit.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

/// A text that is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration: write a whole number and a unit, as in 500ms, 90s, 15m, 1h or 7d")]
pub struct InvalidDuration(String);

/// Reads a whole number followed by `ms`, `s`, `m`, `h` or `d`: the part of `humantime`'s syntax that the configuration allows.
///
/// # Errors
/// Without a unit, with another one, or when it does not fit 64 bits of milliseconds.
pub fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    let invalid = || InvalidDuration(text.to_owned());
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let is_known = unit.len() < text.len() && matches!(unit, "ms" | "s" | "m" | "h" | "d");
    let duration = humantime::parse_duration(text).ok().filter(|_| is_known).ok_or_else(invalid)?;
    u64::try_from(duration.as_millis()).map(Duration::from_millis).map_err(|_| invalid())
}

/// For `#[serde(deserialize_with)]` on a `Duration`.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    parse(String::deserialize(from)?.trim()).map_err(de::Error::custom)
}

/// For `#[serde(deserialize_with)]` on an `Option<Duration>` that has a serde default.
pub fn deserialize_some<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    deserialize(from).map(Some)
}

/// A duration in milliseconds.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The JSON schema of a duration in the configuration.
pub struct Text;

impl JsonSchema for Text {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$"})
    }
}

/// Writes a duration in the largest unit without a fraction, in the format of [`parse`].
pub fn text(duration: Duration) -> String {
    let ms = millis(duration);
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];
    // Single days and minutes are written in the smaller unit, as is usual: 24h, 60s.
    let fits = |&&(unit, size): &&(&str, u64)| ms.is_multiple_of(size) && (unit == "s" || ms >= 2 * size);
    match units.iter().find(fits) {
        Some((unit, size)) => format!("{}{unit}", ms / size),
        None => format!("{ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_unit_is_parsed() {
        for (text, ms) in [("500ms", 500), ("90s", 90_000), ("15m", 900_000), ("1h", 3_600_000), ("7d", 604_800_000), ("0s", 0)] {
            assert_eq!(parse(text).unwrap(), Duration::from_millis(ms), "{text}");
        }
    }

    #[test]
    fn a_written_duration_parses_to_the_same() {
        for written in ["0s", "1s", "90s", "2m", "60s", "24h", "7d", "250ms"] {
            assert_eq!(text(parse(written).unwrap()), written);
        }
    }

    #[test]
    fn a_missing_unit_a_fraction_or_an_overflow_is_refused() {
        for text in ["", "90", "s", "1.5h", "-1s", "1 s", "1w", "99999999999999999999s", "18446744073709551615d", "１s"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}

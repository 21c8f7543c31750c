//! Offsets: the last argument of an event, with which a client says what it has received.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Logs that one offset may name.
const MAX_LOGS: usize = 256;

/// A position in the log of a node. As text it is the log and the position, each in hexadecimal: `9c1f03a2b7.1f4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The log, which is another one after each start of a node.
    pub log: u64,
    pub position: u64,
}

/// The events that a client has received: all for it up to a position in each of some logs. A single node has one log. In a cluster each node
/// logs its events, and the positions are joined by commas.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offset(Vec<Position>);

impl Offset {
    /// Parses a client's offset. None if it is none that a node of Hubbub gives.
    pub fn parse(text: &str) -> Option<Self> {
        let mut positions = Vec::new();
        for part in text.split(',').take(MAX_LOGS + 1) {
            let (log, position) = part.split_once('.')?;
            positions
                .push(Position { log: u64::from_str_radix(log, 16).ok()?, position: u64::from_str_radix(position, 16).ok()? });
        }
        let offset = Self(positions);
        // One offset has one text.
        (offset.0.len() <= MAX_LOGS && offset.to_string() == text).then_some(offset)
    }

    /// The position in a log; 0 if it names none.
    pub fn of(&self, log: u64) -> u64 {
        self.0.iter().find(|one| one.log == log).map_or(0, |one| one.position)
    }

    /// Whether it names a position in this log.
    pub fn names(&self, log: u64) -> bool {
        self.0.iter().any(|one| one.log == log)
    }

    /// Raises the position in one log.
    pub fn raise(&mut self, log: u64, position: u64) {
        match self.0.iter_mut().find(|one| one.log == log) {
            Some(one) => one.position = one.position.max(position),
            None => self.0.push(Position { log, position }),
        }
    }

    /// The positions, each in another log.
    pub fn positions(&self) -> impl Iterator<Item = Position> {
        self.0.iter().copied()
    }

    /// Raises the positions to those of another one.
    pub fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|one| self.raise(one.log, one.position));
    }

    /// Removes the logs for which `keep` is false.
    pub fn retain(&mut self, keep: impl Fn(u64) -> bool) {
        self.0.retain(|one| keep(one.log));
    }
}

impl From<Position> for Offset {
    fn from(position: Position) -> Self {
        Self(vec![position])
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:010x}.{:x}", self.log, self.position)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, position) in self.0.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            write!(f, "{comma}{position}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_has_one_text() {
        let mut offset = Offset::from(Position { log: 0x00_1234_5678, position: 500 });
        assert_eq!(offset.to_string(), "0012345678.1f4");
        assert_eq!(Offset::parse("0012345678.1f4"), Some(offset.clone()));
        offset.raise(0x1234_5678_9abc, 1);
        offset.raise(0x00_1234_5678, 7);
        assert_eq!(Offset::parse("0012345678.1f4,123456789abc.1"), Some(offset));
        let texts = ["", ".", "1.2", "0012345678.", "0012345678.1F4", "0012345678.01f4", "0012345678.+1", "x.1", "a.b.c"];
        for text in texts.into_iter().chain(["0012345678.1,", ",0012345678.1"]) {
            assert_eq!(Offset::parse(text), None, "{text}");
        }
        assert_eq!(Offset::parse(&["0012345678.1"; MAX_LOGS + 1].join(",")), None);
    }
}

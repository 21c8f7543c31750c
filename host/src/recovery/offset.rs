//! Offsets: the last argument of an event, with which a client says what it has received.

use std::fmt;

/// A position in a node's log. As text it is the log and the position, each in hexadecimal: `9c1f03a2b7.1f4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offset {
    /// The log, which is another one after each start of a node.
    pub log: u64,
    pub position: u64,
}

impl Offset {
    /// Parses a client's offset. None if it is none that a node of Hubbub gives.
    pub fn parse(text: &str) -> Option<Self> {
        let (log, position) = text.split_once('.')?;
        let offset = Self { log: u64::from_str_radix(log, 16).ok()?, position: u64::from_str_radix(position, 16).ok()? };
        // One offset has one text.
        (offset.to_string() == text).then_some(offset)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:010x}.{:x}", self.log, self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_has_one_text() {
        let offset = Offset { log: 0x00_1234_5678, position: 500 };
        assert_eq!(offset.to_string(), "0012345678.1f4");
        assert_eq!(Offset::parse("0012345678.1f4"), Some(offset));
        for text in ["", ".", "1.2", "0012345678.", "0012345678.1F4", "0012345678.01f4", "0012345678.+1", "x.1", "a.b.c"] {
            assert_eq!(Offset::parse(text), None, "{text}");
        }
    }
}

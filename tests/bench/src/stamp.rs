//! Chat messages that contain their send time and their number in the room. They must never differ in length: 60 characters, as a
//! person would write.

use std::io::Write;
use std::sync::LazyLock;

use memchr::memmem::Finder;

const LENGTH: usize = 60;
const FILLER: &str = "is how far this lesson got me";
static TEXT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""message":""#));

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Nanoseconds of the bench's clock.
    pub(crate) at: u64,
    pub(crate) number: u32,
}

/// `chat:join` of a room, by its number.
pub(crate) fn join(out: &mut Vec<u8>, room: usize) {
    let _ = write!(out, r#"["chat:join",{{"videoId":"bench-{room}"}}]"#);
}

/// `chat:message` into a room.
pub(crate) fn message(out: &mut Vec<u8>, room: usize, at: u64, number: u32) {
    let _ = write!(out, r#"["chat:message",{{"videoId":"bench-{room}","message":"{}"}}]"#, text(at, number));
}

pub(crate) fn text(at: u64, number: u32) -> String {
    format!("{at:020} {number:08} {FILLER:.<width$}", width = LENGTH - 30)
}

/// The stamp of a received `chat:message`; nothing for any other event.
pub(crate) fn read(event: &[u8]) -> Option<Stamp> {
    if !event.starts_with(br#"["chat:message""#) {
        return None;
    }
    let start = TEXT.find(event)? + TEXT.needle().len();
    let text = std::str::from_utf8(event.get(start..start + 29)?).ok()?;
    Some(Stamp { at: text[..20].parse().ok()?, number: text[21..].parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_from_a_servers_event() {
        assert_eq!(text(5, 7).len(), LENGTH);
        let event = format!(r#"["chat:message",{{"id":"x","message":"{}","timestamp":1}}]"#, text(123_456_789, 42));
        assert_eq!(read(event.as_bytes()), Some(Stamp { at: 123_456_789, number: 42 }));
        assert_eq!(read(br#"["chat:user-count",{"count":1}]"#), None);
    }
}

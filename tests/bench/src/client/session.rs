//! The state that a client keeps from one connection to the next, as stock clients do: its private id and its last offset. It must never
//! look at what it received in another way.

use memchr::{memmem, memrchr};

/// A client's place in its namespace over several connections.
#[derive(Debug, Default)]
pub(crate) struct Session {
    pid: Option<String>,
    offset: Option<String>,
    pub(crate) entry: Entry,
    was_connected: bool,
}

/// How the last CONNECT was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Entry {
    /// With the client's first socket.
    #[default]
    First,
    /// With the socket that the client had before.
    Recovered,
    /// With a new socket: the client must join its rooms again.
    Renewed,
}

impl Session {
    /// The members of the CONNECT's `auth` that say what the client had before, each after a comma.
    pub(super) fn auth(&self) -> String {
        let Some(pid) = &self.pid else { return String::new() };
        let offset = self.offset.as_ref().map(|offset| format!(r#","offset":"{offset}""#)).unwrap_or_default();
        format!(r#","pid":"{pid}"{offset}"#)
    }

    /// Reads the answer of a CONNECT.
    pub(super) fn connected(&mut self, answer: &[u8]) {
        let pid = text_member(answer, br#""pid":""#);
        self.entry = match self.was_connected {
            false => Entry::First,
            true if pid.is_some() && pid == self.pid => Entry::Recovered,
            true => Entry::Renewed,
        };
        (self.pid, self.was_connected) = (pid, true);
    }

    /// Keeps the offset of an event: its last argument, if that is a text.
    pub(super) fn heard(&mut self, event: &[u8]) {
        if self.pid.is_some()
            && let Some(text) = last_text(event)
        {
            self.offset = Some(text.to_owned());
        }
    }
}

fn text_member(json: &[u8], start: &[u8]) -> Option<String> {
    let rest = &json[memmem::find(json, start)? + start.len()..];
    let text = std::str::from_utf8(&rest[..memchr::memchr(b'"', rest)?]).ok()?;
    Some(text.to_owned())
}

/// The last argument of `["name",…]` if it is a text without escapes, as every offset is.
fn last_text(event: &[u8]) -> Option<&str> {
    let inner = event.strip_suffix(b"\"]")?;
    let start = memrchr(b'"', inner)?;
    if start == 0 || inner[start - 1] != b',' {
        return None;
    }
    std::str::from_utf8(&inner[start + 1..]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_comes_back_with_its_private_id_and_last_offset() {
        let mut session = Session::default();
        assert_eq!(session.auth(), "");
        session.heard(br#"["hello","not an offset"]"#);
        session.connected(br#"{"sid":"a","pid":"p1"}"#);
        assert_eq!((session.entry, session.auth()), (Entry::First, r#","pid":"p1""#.to_owned()));
        session.heard(br#"["chat:message",{"message":"\"]"},"9c.1"]"#);
        for without in [&br#"["name"]"#[..], br#"["name",["a"]]"#, br#"["name",{"a":"b"}]"#, br#"["name",1]"#] {
            session.heard(without);
        }
        assert_eq!(session.auth(), r#","pid":"p1","offset":"9c.1""#);
    }

    #[test]
    fn only_the_same_private_id_means_recovered() {
        let mut session = Session::default();
        session.connected(br#"{"sid":"a","pid":"p1"}"#);
        session.connected(br#"{"sid":"a","pid":"p1"}"#);
        assert_eq!(session.entry, Entry::Recovered);
        session.connected(br#"{"sid":"b","pid":"p2"}"#);
        assert_eq!(session.entry, Entry::Renewed);
        session.connected(br#"{"sid":"c"}"#);
        session.connected(br#"{"sid":"d"}"#);
        assert_eq!(session.entry, Entry::Renewed);
    }
}

//! Events that a socket missed while it was away. Each event is one letter; the position of the first is 1.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::*;
use crate::clock::Clock;
use crate::recovery::log::Reserved;
use crate::rooms::members::{Joined, Members, Recovery, unconnected};

const ANA: SocketId = 1;

/// A namespace with ana's socket, which is in the room `r` from the start.
struct Namespace {
    members: Members,
    log: Log,
    clock: Clock,
}

impl Namespace {
    fn new() -> Self {
        let clock = Clock::manual(0);
        let log = Log::new(7, Duration::from_secs(10), 1 << 20, clock.clone());
        let mut namespace = Self { members: Members::default(), log, clock };
        namespace.members.add(ANA, unconnected(), Some("ana".into()), Recovery::From(1));
        namespace.join("r");
        namespace
    }

    fn join(&mut self, room: &str) {
        let joined = self.members.join(ANA, room, 64, self.log.next());
        assert!(matches!(joined, Joined::Joined | Joined::Away));
    }

    fn leave(&mut self, room: &str) {
        self.members.leave(ANA, room, &self.log);
    }

    fn away(&mut self) {
        self.members.remove(ANA, true);
    }

    fn send_with(&mut self, text: &str, except_socket: Option<SocketId>, note: impl FnOnce(&mut Members, u64, u64)) {
        let Reserved { position, first } = self.log.reserve();
        note(&mut self.members, position, first);
        let logged = Logged { message: Message::event("/", text), except: Box::default(), except_socket, only: None };
        self.log.write(position, logged);
    }

    fn send(&mut self, room: &str, text: &str) {
        self.send_with(text, None, |members, position, first| members.note_room(room, position, first));
    }

    /// The events that ana's client has missed when it comes back with this offset.
    fn back(&mut self, offset: Option<u64>) -> Result<String, Gap> {
        let Back { missed, .. } = self.members.resume(ANA, unconnected(), offset, &self.log)?.unwrap();
        Ok(missed.iter().map(letter).collect())
    }
}

fn letter(message: &Message) -> char {
    ('a'..='z').find(|letter| *message == Message::event("/", &letter.to_string())).unwrap()
}

#[test]
fn what_came_after_the_offset_was_missed() {
    let mut namespace = Namespace::new();
    ["a", "b"].iter().for_each(|text| namespace.send("r", text));
    namespace.away();
    ["c", "d"].iter().for_each(|text| namespace.send("r", text));
    assert_eq!(namespace.back(Some(1)).unwrap(), "bcd");
    namespace.away();
    assert_eq!(namespace.back(Some(3)).unwrap(), "d", "it was cut while it read what it had missed");
    namespace.away();
    assert_eq!(namespace.back(Some(4)).unwrap(), "");
}

#[test]
fn without_an_offset_all_of_the_session_was_missed() {
    let mut namespace = Namespace::new();
    namespace.send("r", "a");
    namespace.away();
    namespace.send("r", "b");
    assert_eq!(namespace.back(None).unwrap(), "ab");
}

#[test]
fn joins_and_leaves_keep_their_positions() {
    let mut namespace = Namespace::new();
    namespace.send("s", "a");
    namespace.join("s");
    namespace.send("s", "b");
    namespace.leave("s");
    namespace.send("s", "c");
    namespace.away();
    namespace.join("s");
    namespace.send("s", "d");
    namespace.leave("s");
    namespace.send("s", "e");
    namespace.leave("r");
    namespace.send("r", "f");
    assert_eq!(namespace.back(None).unwrap(), "bd");
    assert!(namespace.members.rooms_of(ANA).next().is_none());
}

#[test]
fn an_event_to_two_rooms_is_missed_once_and_one_that_left_it_out_is_not() {
    let mut namespace = Namespace::new();
    namespace.join("s");
    namespace.away();
    namespace.send_with("a", None, |members, position, first| {
        members.note_room("r", position, first);
        members.note_room("s", position, first);
    });
    namespace.send_with("b", Some(ANA), |members, position, first| members.note_room("r", position, first));
    namespace.send_with("c", None, |members, position, first| members.note_user("ana", position, first));
    namespace.send_with("d", None, |members, position, first| members.note_socket(ANA, position, first));
    namespace.send_with("e", None, |members, position, first| members.note_socket(2, position, first));
    assert_eq!(namespace.back(None).unwrap(), "acd");
}

#[test]
fn a_quiet_client_is_complete_after_the_log_has_moved_on() {
    let mut namespace = Namespace::new();
    namespace.send("r", "a");
    for _ in 0..5 {
        namespace.clock.advance(6_000);
        namespace.send("other", "x");
        namespace.members.sweep(namespace.log.trim());
    }
    namespace.away();
    namespace.members.sweep(namespace.log.trim());
    namespace.send("r", "b");
    assert_eq!(namespace.back(Some(1)).unwrap(), "b");
}

#[test]
fn what_is_no_longer_in_the_log_is_a_gap() {
    let mut namespace = Namespace::new();
    namespace.away();
    namespace.send("r", "a");
    namespace.clock.advance(11_000);
    namespace.send("r", "b");
    assert_eq!(namespace.back(None), Err(Gap::Dropped));
    assert!(namespace.members.forget(ANA) && namespace.members.is_empty());
}

#[test]
fn an_event_that_is_being_written_is_waited_for() {
    let mut namespace = Namespace::new();
    namespace.away();
    let Reserved { position, .. } = namespace.log.reserve();
    namespace.members.note_room("r", position, 1);
    assert_eq!(namespace.back(None), Err(Gap::Writing));
    namespace.log.skip(position);
    assert_eq!(namespace.back(None).unwrap(), "");
}

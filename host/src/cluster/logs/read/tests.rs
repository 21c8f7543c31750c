//! A copy of the logs, made without a Redis.
#![allow(clippy::unwrap_used)]

use std::borrow::Cow;

use super::*;
use crate::cluster::relay::event::Header;
use crate::sandbox::exports::Caller;
use crate::sandbox::imports::types::User;

const SOCKET: SocketId = 7;

/// The number of a node's log, and its name.
fn named(log: u64) -> String {
    format!("{log:010x}")
}

fn at(log: u64, position: u64) -> Position {
    Position { log, position }
}

fn field(value: impl ToString) -> Bytes {
    value.to_string().into()
}

/// An entry for which nothing but its recipients is of interest; its text is `["e",POSITION]`.
fn entry(position: u64, time: u64, to: Recipients) -> Fields {
    with(position, time, to, (Vec::new(), None))
}

fn with(position: u64, time: u64, to: Recipients, (except, except_socket): (Vec<String>, Option<SocketId>)) -> Fields {
    let (node, namespace) = (Cow::Borrowed("1"), Cow::Borrowed("/chat"));
    let header = Header { node, seq: position, namespace, to, except: Cow::Owned(except), except_socket, volatile: false };
    let text = format!("{}\n[\"e\",{position}]", serde_json::to_string(&header).unwrap());
    Fields::from([("q".into(), field(position)), ("t".into(), field(time)), ("e".into(), text.into())])
}

/// A move of a socket, which only marks a time.
fn mark(position: u64, time: u64) -> Fields {
    Fields::from([("q".into(), field(position)), ("t".into(), field(time)), ("e".into(), Bytes::new())])
}

fn gap(position: u64, time: u64) -> Fields {
    Fields::from([("q".into(), field(position)), ("t".into(), field(time)), ("g".into(), field(1))])
}

fn to(room: &str) -> Recipients {
    Recipients::Rooms(vec![room.to_owned()])
}

/// Logs with these entries.
fn read(logs: &[(u64, Vec<Fields>)]) -> Read {
    let mut read = Read::default();
    for (log, entries) in logs {
        entries.iter().for_each(|fields| read.log_of(&named(*log)).push(fields));
    }
    read
}

fn stay(room: &str, from: Position, to: Option<Position>) -> Stay {
    Stay { room: room.into(), from, to }
}

/// A socket of the user `ana`, with a session that began at a position.
fn socket(began: Position, stays: Vec<Stay>) -> State {
    let user = User { id: "ana".into(), name: None, email: None, image: None, role: None, tenant: None, claims: "{}".into() };
    let caller = Caller { socket: SOCKET, namespace: "/chat".into(), user: Some(user) };
    let mut state = State::new(SOCKET, String::new(), Arc::new(caller), Vec::new());
    state.stays = [vec![stay(&members::everyone(), began, None)], stays].concat();
    state
}

/// The places of what the socket has missed.
fn missed(read: &Read, state: &State, offset: &Offset) -> Result<Vec<(u64, u64)>, Gap> {
    let missed = read.missed(state, offset, &read.ends(0, 0))?;
    Ok(missed.into_iter().map(|missed| (missed.place.log, missed.place.position)).collect())
}

#[test]
fn a_socket_has_missed_what_was_sent_while_it_was_in_the_room() {
    let read = read(&[
        (1, vec![mark(1, 10), mark(2, 11), entry(3, 12, to("r")), entry(4, 13, to("r")), mark(5, 14), entry(6, 15, to("r"))]),
        (2, vec![entry(1, 5, to("r")), entry(2, 13, to("other")), entry(3, 14, to("r")), entry(4, 20, to("r"))]),
    ]);
    let state = socket(at(1, 1), vec![stay("r", at(1, 2), Some(at(1, 5)))]);
    assert_eq!(missed(&read, &state, &Offset::default()), Ok(vec![(1, 3), (1, 4), (2, 3)]));
    let mut offset = Offset::from(at(1, 3));
    assert_eq!(missed(&read, &state, &offset), Ok(vec![(1, 4), (2, 3)]));
    offset.raise(2, 3);
    assert_eq!(missed(&read, &state, &offset), Ok(vec![(1, 4)]));
}

#[test]
fn events_of_all_logs_are_in_the_order_of_their_times() {
    let read = read(&[
        (1, vec![mark(1, 1), entry(2, 4, to("r")), entry(3, 7, to("r"))]),
        (2, vec![entry(1, 2, to("r")), entry(2, 5, to("r"))]),
        (3, vec![entry(9, 3, to("r")), entry(10, 6, to("r"))]),
    ]);
    let state = socket(at(1, 1), vec![stay("r", at(1, 1), None)]);
    let all = vec![(2, 1), (3, 9), (1, 2), (2, 2), (3, 10), (1, 3)];
    assert_eq!(missed(&read, &state, &Offset::default()), Ok(all));
}

#[test]
fn events_for_a_user_a_socket_and_a_tenant_are_missed_and_exceptions_are_not() {
    let users = || Recipients::Users(vec!["ana".into()]);
    let other = Recipients::Users(vec!["bia".into()]);
    let left_out = with(5, 5, to("r"), (Vec::new(), Some(SOCKET)));
    let left_out_by_room = with(6, 6, to("r"), (vec!["quiet".into()], None));
    let read = read(&[(
        1,
        vec![
            mark(1, 1),
            entry(2, 2, users()),
            entry(3, 3, Recipients::Socket(SOCKET)),
            entry(4, 4, Recipients::Socket(SOCKET + 1)),
            left_out,
            left_out_by_room,
            entry(7, 7, other),
            entry(8, 8, users()),
        ],
    )]);
    let state = socket(at(1, 1), vec![stay("r", at(1, 1), None), stay("quiet", at(1, 1), None)]);
    assert_eq!(missed(&read, &state, &Offset::default()), Ok(vec![(1, 2), (1, 3), (1, 8)]));
}

#[test]
fn what_was_sent_before_its_session_is_not_missed() {
    let read = read(&[
        (1, vec![entry(1, 1, to("r")), mark(2, 3), entry(3, 5, to("r"))]),
        (2, vec![entry(1, 2, Recipients::Users(vec!["ana".into()])), entry(2, 4, Recipients::Users(vec!["ana".into()]))]),
    ]);
    let state = socket(at(1, 2), vec![stay("r", at(1, 2), None)]);
    assert_eq!(missed(&read, &state, &Offset::default()), Ok(vec![(2, 2), (1, 3)]));
}

#[test]
fn who_may_have_missed_what_is_gone_gets_nothing() {
    let read = read(&[(1, vec![mark(1, 1), entry(2, 2, to("r"))]), (2, vec![gap(5, 4), entry(6, 4, to("r")), mark(7, 5)])]);
    let before = socket(at(1, 1), vec![stay("r", at(1, 1), None)]);
    assert_eq!(missed(&read, &before, &Offset::from(at(1, 1))), Err(Gap));
    assert_eq!(missed(&read, &before, &Offset::from(at(2, 4))), Err(Gap));
    let mut has_it = Offset::from(at(2, 5));
    assert_eq!(missed(&read, &before, &has_it), Ok(vec![(1, 2), (2, 6)]));
    let after = socket(at(2, 7), vec![stay("r", at(2, 7), None)]);
    assert_eq!(missed(&read, &after, &Offset::default()), Ok(Vec::new()));
    // Of its rooms too much is forgotten.
    has_it.raise(1, 1);
    let mut forgetful = before.clone();
    forgetful.floor = Some(at(1, 2));
    assert_eq!(missed(&read, &forgetful, &has_it), Err(Gap));
}

#[test]
fn a_socket_follows_the_moves_of_its_user_on_other_nodes() {
    let moves = |joins: bool, room: &str| {
        let (user, room) = ("ana".to_owned(), room.to_owned());
        if joins { Recipients::Join { user, room } } else { Recipients::Leave { user, room } }
    };
    let read = read(&[
        (1, vec![mark(1, 1), entry(2, 8, to("new"))]),
        (2, vec![entry(1, 2, moves(true, "old")), entry(2, 5, moves(false, "old")), entry(3, 6, moves(true, "new"))]),
        (3, vec![entry(1, 4, to("old")), entry(2, 7, to("old")), entry(3, 9, to("new"))]),
    ]);
    let mut state = socket(at(1, 1), Vec::new());
    state.received = Offset::from(at(1, 1));
    read.move_socket(&mut state);
    assert_eq!(missed(&read, &state, &Offset::default()), Ok(vec![(3, 1), (1, 2), (3, 3)]));
    let moved: Vec<_> =
        read.moves(&Offset::from(at(2, 1)), &read.ends(0, 0)).into_iter().map(|(namespace, _)| namespace).collect();
    assert_eq!(moved, ["/chat", "/chat"]);
}

#[test]
fn old_entries_are_dropped() {
    let mut read = read(&[(1, vec![mark(1, 1), entry(2, 2, to("r")), entry(3, 3, to("r"))])]);
    read.log_of(&named(1)).trim(3);
    let state = socket(at(1, 1), vec![stay("r", at(1, 1), None)]);
    assert_eq!(missed(&read, &state, &Offset::default()), Ok(vec![(1, 3)]));
    read.keep(&[]);
    assert_eq!(missed(&read, &state, &Offset::default()), Ok(Vec::new()));
}

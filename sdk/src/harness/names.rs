//! The rules for names and JSON that the host checks at its boundary.

use serde_json::Value;

use super::World;
use crate::EffectError;

/// The most bytes of a name.
const MAX_BYTES: usize = 256;

/// The most levels of JSON.
const MAX_DEPTH: usize = 64;

/// A room, user, event, topic, group or key.
pub(super) fn check(kind: &str, name: &str) -> Result<(), EffectError> {
    let wrong = |why: &str| Err(EffectError::InvalidName(format!("{kind} {name:?} {why}")));
    if name.is_empty() {
        return wrong("is empty");
    }
    if name.len() > MAX_BYTES {
        return wrong("is over 256 bytes");
    }
    if name.contains(char::is_control) {
        return wrong("holds a control character");
    }
    Ok(())
}

/// An event's name: not one that Socket.IO reserves.
pub(super) fn event(name: &str) -> Result<(), EffectError> {
    check("event", name)?;
    if ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"].contains(&name) {
        return Err(EffectError::InvalidName(format!("event {name:?} is reserved")));
    }
    Ok(())
}

/// The name of a room that a plugin may join or leave: not one of the host's own.
pub(super) fn room(name: &str) -> Result<(), EffectError> {
    check("room", name)?;
    if name.starts_with("user:") {
        return Err(EffectError::Denied(format!("the room {name:?} is the host's own")));
    }
    Ok(())
}

/// A room's name, and not a pattern: a plugin that forgets `Room::of` names no room.
pub(super) fn filled(world: &World, name: &str) -> Result<(), EffectError> {
    if name.contains('{') && world.description.rooms.iter().any(|room| room.pattern == name) {
        return Err(EffectError::InvalidName(format!("room {name:?} is a pattern: `Room::of` names one room of it")));
    }
    Ok(())
}

/// A topic: lower case words joined by dots.
pub(super) fn topic(name: &str) -> Result<(), EffectError> {
    check("topic", name)?;
    let word = |word: &str| !word.is_empty() && word.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'));
    if name.split('.').all(word) {
        return Ok(());
    }
    Err(EffectError::InvalidName(format!("topic {name:?} is not lower case words joined by dots")))
}

/// JSON of bounded depth.
pub(super) fn json(text: &str) -> Result<Value, EffectError> {
    let value: Value = serde_json::from_str(text).map_err(|error| EffectError::InvalidJson(error.to_string()))?;
    if depth(&value) > MAX_DEPTH {
        return Err(EffectError::InvalidJson(format!("nested deeper than {MAX_DEPTH} levels")));
    }
    Ok(value)
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Whether a room pattern of the description covers a room: a literal start and one parameter, or a literal alone.
pub(super) fn covers(pattern: &str, room: &str) -> bool {
    match pattern.split_once('{') {
        Some((literal, _)) => room.strip_prefix(literal).is_some_and(|rest| !rest.is_empty()),
        None => pattern == room,
    }
}

/// Whether a namespace of the description is the one a client named.
pub(super) fn is_namespace(path: &str, named: &str) -> bool {
    match path.split_once('{') {
        Some((literal, _)) => named.strip_prefix(literal).is_some_and(|rest| !rest.is_empty() && !rest.contains('/')),
        None => path == named,
    }
}

/// A unique id that sorts by time, as a ULID reads: ten characters of time, sixteen of a count.
pub(super) fn ulid(now: u64, count: u64) -> String {
    const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let number = (u128::from(now) << 80) | u128::from(count);
    (0..26).rev().map(|digit| char::from(ALPHABET[(number >> (digit * 5) & 31) as usize])).collect()
}

//! Parses a text of the environment by its key's type, in the forms of compose files, charts and shells. Digits of a text that looks
//! like a number must not change.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use toml::{Table, Value};

use super::{Node, Place};

/// The depth to which lists and tables may be nested.
const MAX_DEPTH: usize = 32;

/// A whole number.
pub(super) enum Whole {
    Unsigned(u64),
    Signed(i64),
}

/// The guessed type of a text for a key of any type, such as a plugin's setting: JSON if it parses, else text.
pub(super) enum Guess {
    List,
    Table,
    Flag(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Null,
    Text,
}

pub(super) fn guess(raw: &str) -> Guess {
    let raw = raw.trim();
    match raw.as_bytes().first() {
        Some(b'[') => return Guess::List,
        Some(b'{') => return Guess::Table,
        _ => {}
    }
    match serde_json::from_str(raw) {
        Ok(serde_json::Value::Bool(flag)) => Guess::Flag(flag),
        Ok(serde_json::Value::Null) => Guess::Null,
        Ok(serde_json::Value::Number(number)) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(number), ..) => Guess::Unsigned(number),
            (None, Some(number), _) => Guess::Signed(number),
            // Integers above 64 bits would be rounded, so they stay texts.
            (None, None, Some(number)) if raw.contains(['.', 'e', 'E']) => Guess::Float(number),
            _ => Guess::Text,
        },
        _ => Guess::Text,
    }
}

/// Removes surrounding spaces and one pair of quotes, which lists in compose files keep.
pub(super) fn unquoted(raw: &str) -> String {
    let raw = raw.trim();
    if raw.starts_with('"') {
        return serde_json::from_str(raw).unwrap_or_else(|_| raw.to_owned());
    }
    let inner = raw.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
    inner.filter(|inner| !inner.contains('\'')).unwrap_or(raw).to_owned()
}

/// `true` and `false` in any case, `1` and `0`.
pub(super) fn flag(raw: &str) -> Option<bool> {
    match unquoted(raw).to_ascii_lowercase().as_str() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// A whole number; `_` is allowed between digits.
pub(super) fn whole(raw: &str) -> Option<Whole> {
    let text = unquoted(raw);
    if text.starts_with('_') || text.ends_with('_') {
        return None;
    }
    let digits = text.replace('_', "");
    digits.parse().map(Whole::Unsigned).or_else(|_| digits.parse().map(Whole::Signed)).ok()
}

/// A list in JSON or TOML, or separated by commas.
pub(super) fn list(raw: &str, at: &Place) -> Option<Vec<Place>> {
    let raw = raw.trim();
    if let Some(elements) = bracketed(raw, at) {
        return Some(elements);
    }
    // A list that is not closed or not quoted is an error, unlike an address such as `[::1]:80`.
    if let Some(rest) = raw.strip_prefix('[')
        && (raw.ends_with(']') || rest.trim_start().starts_with(['"', '\'']))
    {
        return None;
    }
    // Only with quotes: TOML would read `0x1f` and `1_000` as numbers, which must stay texts.
    if raw.contains(['\'', '"', '{'])
        && let Some(elements) = bracketed(&format!("[{raw}]"), at)
    {
        return Some(elements);
    }
    let elements = raw.split(',').map(str::trim).filter(|element| !element.is_empty());
    Some(elements.map(|element| at.part(Node::Text(element.to_owned()))).collect())
}

/// A list in brackets.
pub(super) fn bracketed(raw: &str, at: &Place) -> Option<Vec<Place>> {
    let raw = raw.trim();
    if !raw.starts_with('[') || is_too_deep(raw) {
        return None;
    }
    if let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(raw) {
        return Some(elements.into_iter().map(|element| of_json(element, at)).collect());
    }
    match of_toml(raw)? {
        Value::Array(elements) => Some(elements.into_iter().map(|element| of_value(element, at)).collect()),
        _ => None,
    }
}

/// Whether a text is nested too deep, which would overflow the parser's stack.
fn is_too_deep(raw: &str) -> bool {
    let mut depth = 0_usize;
    raw.bytes().any(|byte| {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > MAX_DEPTH
    })
}

/// A table in JSON or TOML.
pub(crate) fn table(raw: &str, at: &Place) -> Option<BTreeMap<String, Place>> {
    let raw = raw.trim();
    if !raw.starts_with('{') || is_too_deep(raw) {
        return None;
    }
    if let Ok(entries) = serde_json::from_str::<BTreeMap<String, &RawValue>>(raw) {
        return Some(entries.into_iter().map(|(key, value)| (key, of_json(value, at))).collect());
    }
    match of_toml(raw)? {
        Value::Table(entries) => Some(entries.into_iter().map(|(key, value)| (key, of_value(value, at))).collect()),
        _ => None,
    }
}

/// A part of a JSON text. A number stays raw text, because the key may want `12` as a text.
fn of_json(raw: &RawValue, at: &Place) -> Place {
    let raw = raw.get();
    let text = || Node::Text(raw.to_owned());
    at.part(match raw.as_bytes().first() {
        Some(b'[') => bracketed(raw, at).map_or_else(text, Node::List),
        Some(b'{') => table(raw, at).map_or_else(text, Node::Table),
        _ if raw == "null" => Node::Null,
        _ => text(),
    })
}

fn of_toml(text: &str) -> Option<Value> {
    format!("value = {text}").parse::<Table>().ok()?.remove("value")
}

fn of_value(value: Value, at: &Place) -> Place {
    at.part(match value {
        Value::String(text) => Node::Text(serde_json::Value::String(text).to_string()),
        Value::Array(list) => Node::List(list.into_iter().map(|element| of_value(element, at)).collect()),
        Value::Table(table) => Node::Table(table.into_iter().map(|(key, value)| (key, of_value(value, at))).collect()),
        scalar => Node::Text(scalar.to_string()),
    })
}

//! Checks that a text is JSON, once, where it crosses a boundary. It never builds a value: what is checked goes on as text.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};

/// Levels of arrays and objects within each other.
pub const MAX_DEPTH: usize = 64;

/// Why a text is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidJson {
    #[error("not JSON: {0}")]
    Syntax(String),
    #[error("nested deeper than {MAX_DEPTH} levels")]
    Depth,
    #[error("not an array")]
    NotAnArray,
    #[error("not an event: the array does not begin with a name")]
    NoName,
}

/// Checks any JSON text.
pub fn check(text: &str) -> Result<(), InvalidJson> {
    depth(text)?;
    serde_json::from_str::<IgnoredAny>(text).map(|_| ()).map_err(|e| InvalidJson::Syntax(e.to_string()))
}

/// Checks the text of an array, such as an event's arguments. Answers what is between its brackets.
pub fn check_array(text: &str) -> Result<&str, InvalidJson> {
    check(text)?;
    let text = text.trim_ascii();
    text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).map(str::trim_ascii).ok_or(InvalidJson::NotAnArray)
}

/// Takes `["name",args…]` apart: the name, and the arguments' text between the brackets. Nothing may follow the array.
pub fn split_event(text: &str) -> Result<(Cow<'_, str>, &str), InvalidJson> {
    depth(text)?;
    let mut parser = serde_json::Deserializer::from_str(text);
    let name = parser.deserialize_seq(EventName).and_then(|name| parser.end().map(|()| name));
    let name = name.map_err(|e| InvalidJson::Syntax(e.to_string()))?.ok_or(InvalidJson::NoName)?;
    // The text is a valid array that begins with a string: what follows the string's closing quote is `]` or `,args]`. Trimmed
    // now, not before: a form feed is space to Rust, and none to JSON.
    let text = text.trim_ascii();
    let inside =
        text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).ok_or(InvalidJson::NotAnArray)?.trim_ascii_start();
    let rest = &inside[end_of_string(inside)..].trim_ascii();
    Ok((name, rest.strip_prefix(',').unwrap_or(rest).trim_ascii()))
}

struct EventName;

impl<'de> Visitor<'de> for EventName {
    type Value = Option<Cow<'de, str>>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        #[derive(Deserialize)]
        struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
        let name = seq.next_element::<Name<'de>>()?.map(|name| name.0);
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(name)
    }
}

/// Where the string that a text begins with ends.
fn end_of_string(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// One pass over the bytes, before any parser recurses or allocates for them.
fn depth(text: &str) -> Result<(), InvalidJson> {
    let (mut depth, mut string, mut escaped) = (0usize, false, false);
    for byte in text.bytes() {
        if string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => string = true,
            b'[' | b'{' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(InvalidJson::Depth);
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_event_is_taken_apart() {
        assert_eq!(split_event(r#"["a",{"b":1},2]"#).unwrap(), ("a".into(), r#"{"b":1},2"#));
        assert_eq!(split_event(r#" [ "a" ] "#).unwrap(), ("a".into(), ""));
        assert_eq!(split_event(r#"["a\"b\\",1]"#).unwrap(), (r#"a"b\"#.into(), "1"));
        assert_eq!(split_event("[]"), Err(InvalidJson::NoName));
        assert!(split_event(r#"[1]"#).is_err());
        assert!(split_event(r#"["a"]x"#).is_err());
        assert!(split_event("[\"a\"]\u{c}").is_err(), "space to Rust is not space to JSON");
        assert!(split_event(r#"["a",]"#).is_err());
        assert!(split_event(r#"{"a":1}"#).is_err());
    }

    #[test]
    fn the_level_past_the_limit_is_refused() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(check(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(check(&nested(MAX_DEPTH + 1)), Err(InvalidJson::Depth));
        assert!(check(r#""[[[[""#).is_ok());
    }

    #[test]
    fn an_array_shows_its_inside() {
        assert_eq!(check_array(r#"[ {"a":1} ]"#).unwrap(), r#"{"a":1}"#);
        assert_eq!(check_array("{}"), Err(InvalidJson::NotAnArray));
        assert!(check_array("[1").is_err());
    }
}

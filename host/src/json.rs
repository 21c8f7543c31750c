//! Checks that a text is JSON, once, where it crosses a boundary. Never builds a value: checked JSON is passed on as text.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The deepest nesting of arrays and objects.
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

/// Checks the text of an array, such as an event's arguments. Returns the text between its brackets.
pub fn check_array(text: &str) -> Result<&str, InvalidJson> {
    check(text)?;
    let text = text.trim_ascii();
    text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).map(str::trim_ascii).ok_or(InvalidJson::NotAnArray)
}

/// The value of a field of the first element of an array; none if there is no such object or field. Of a field that is there twice it
/// is the last.
pub fn field_of_first<'a>(array: &'a str, field: &str) -> Option<&'a RawValue> {
    struct Field<'b>(&'b str);
    impl<'de> Visitor<'de> for Field<'_> {
        type Value = Option<&'de RawValue>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut found = None;
            while let Some(key) = map.next_key::<Text<'de>>()? {
                if key.0 == self.0 {
                    found = Some(map.next_value()?);
                } else {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Ok(found)
        }
    }
    #[derive(Deserialize)]
    struct Text<'b>(#[serde(borrow)] Cow<'b, str>);

    let elements: Vec<&RawValue> = serde_json::from_str(array).ok()?;
    let first = elements.first()?.get();
    serde_json::Deserializer::from_str(first).deserialize_map(Field(field)).ok()?
}

/// Replaces each escape of an unpaired surrogate by U+FFFD, as Node writes it in UTF-8. Rust's strings cannot hold one, so every
/// JSON text from outside passes here once. For a text without a backslash this is one search.
pub fn well_formed(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let (mut replaced, mut copied, mut at) = (String::new(), 0, 0);
    while let Some(next) = text.get(at..).and_then(|rest| rest.find('\\')) {
        at += next;
        at += match (surrogate(bytes, at), surrogate(bytes, at + ESCAPE)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 2 * ESCAPE,
            (Some(_), _) => {
                replaced.push_str(&text[copied..at]);
                replaced.push(char::REPLACEMENT_CHARACTER);
                copied = at + ESCAPE;
                ESCAPE
            }
            // The next character belongs to the backslash. If it is not ASCII, the text is not JSON.
            (None, _) => 1 + usize::from(bytes.get(at + 1).is_some_and(u8::is_ascii)),
        };
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    replaced.push_str(&text[copied..]);
    Cow::Owned(replaced)
}

/// The same for an owned text, which is copied only if it changes.
pub fn into_well_formed(text: String) -> String {
    match well_formed(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(replaced) => replaced,
    }
}

/// Bytes of `\uXXXX`.
const ESCAPE: usize = 6;

/// The surrogate that is escaped at this position.
fn surrogate(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = bytes.get(at..at + ESCAPE)?.strip_prefix(b"\\u")?;
    let is_one = matches!(digits, [b'd' | b'D', b'8'..=b'9' | b'a'..=b'f' | b'A'..=b'F', ..]);
    let digits = str::from_utf8(digits).ok().filter(|digits| is_one && digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u32::from_str_radix(digits, 16).ok()
}

/// Splits `["name",args…]` into the name and the arguments' text between the brackets. Nothing may follow the array.
pub fn split_event(text: &str) -> Result<(Cow<'_, str>, &str), InvalidJson> {
    depth(text)?;
    let mut parser = serde_json::Deserializer::from_str(text);
    let name = parser.deserialize_seq(EventName).and_then(|name| parser.end().map(|()| name));
    let name = name.map_err(|e| InvalidJson::Syntax(e.to_string()))?.ok_or(InvalidJson::NoName)?;
    // The text is a valid array that starts with a string: after the string's closing quote follows `]` or `,args]`. Trimmed only
    // now, since a form feed is whitespace for Rust, but not for JSON.
    let text = text.trim_ascii();
    let inside =
        text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).ok_or(InvalidJson::NotAnArray)?.trim_ascii_start();
    let rest = &inside[end_of_string(inside)..].trim_ascii();
    Ok((name, rest.strip_prefix(',').unwrap_or(rest).trim_ascii()))
}

struct EventName;

impl<'de> Visitor<'de> for EventName {
    type Value = Option<Cow<'de, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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

/// The end of the string at the start of a text.
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

/// Checks the nesting only. One pass over the bytes, before a parser recurses or allocates for them.
pub fn depth(text: &str) -> Result<(), InvalidJson> {
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
    fn an_event_is_split_into_name_and_arguments() {
        assert_eq!(split_event(r#"["a",{"b":1},2]"#).unwrap(), ("a".into(), r#"{"b":1},2"#));
        assert_eq!(split_event(r#" [ "a" ] "#).unwrap(), ("a".into(), ""));
        assert_eq!(split_event(r#"["a\"b\\",1]"#).unwrap(), (r#"a"b\"#.into(), "1"));
        assert_eq!(split_event("[]"), Err(InvalidJson::NoName));
        assert!(split_event(r#"[1]"#).is_err());
        assert!(split_event(r#"["a"]x"#).is_err());
        assert!(split_event("[\"a\"]\u{c}").is_err(), "whitespace for Rust, but not for JSON");
        assert!(split_event(r#"["a",]"#).is_err());
        assert!(split_event(r#"{"a":1}"#).is_err());
    }

    #[test]
    fn a_field_is_read_from_the_first_element_alone() {
        let field = |array: &'static str| field_of_first(array, "id").map(RawValue::get);
        assert_eq!(field(r#"[{"a":[{"id":1}],"id": "x\"y" },{"id":2}]"#), Some(r#""x\"y""#));
        assert_eq!(field(r#"[{"\u0069d":1,"id":2}]"#), Some("2"), "the last one");
        for none in ["[]", "[1]", r#"["id"]"#, r#"[[{"id":1}]]"#, r#"[{"Id":1}]"#, r#"[null,{"id":1}]"#, "[{}]"] {
            assert_eq!(field(none), None, "{none}");
        }
    }

    #[test]
    fn only_unpaired_surrogates_are_replaced() {
        for text in [
            "",
            "[1]",
            r#"["a\n\"\\b"]"#,
            r#""\ud83d\uDE00 \u00e1 \\ud83d""#,
            r#""\u12"#,
            "\\",
            "\"\\é",
            r#""\ud83""#,
            r#""\udzzz""#,
        ] {
            assert_eq!(well_formed(text), text);
        }
        for (text, replaced) in [
            (r#"["cut \ud83d"]"#, "[\"cut \u{fffd}\"]"),
            (r#""\uDF38 low""#, "\"\u{fffd} low\""),
            (r#""a\ud83db\\""#, "\"a\u{fffd}b\\\\\""),
            (r#""\ud83d\ud83d\ude00""#, "\"\u{fffd}\\ud83d\\ude00\""),
            (r#""\ude00\ud83d""#, "\"\u{fffd}\u{fffd}\""),
            (r#""\ud83d\u0041""#, "\"\u{fffd}\\u0041\""),
        ] {
            assert_eq!(well_formed(text), replaced);
            assert!(serde_json::from_str::<serde_json::Value>(&well_formed(text)).is_ok());
        }
    }

    #[test]
    fn too_deep_nesting_is_refused() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(check(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(check(&nested(MAX_DEPTH + 1)), Err(InvalidJson::Depth));
        assert!(check(r#""[[[[""#).is_ok());
    }

    #[test]
    fn an_array_gives_its_content() {
        assert_eq!(check_array(r#"[ {"a":1} ]"#).unwrap(), r#"{"a":1}"#);
        assert_eq!(check_array("{}"), Err(InvalidJson::NotAnArray));
        assert!(check_array("[1").is_err());
    }
}

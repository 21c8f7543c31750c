//! Converts MessagePack, as the Node.js adapter writes it, to JSON text and back, without a tree in between. It never allocates by
//! a length that it only read, and never nests deeper than the host's JSON may.

use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::json::MAX_DEPTH;

/// The last second of the year 9999, the latest date that is converted.
const LAST_SECOND: u64 = 253_402_300_799;

/// Why bytes cannot be converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("it ends too early")]
    Short,
    #[error("something follows its end")]
    Long,
    #[error("it is nested deeper than {MAX_DEPTH} levels")]
    Depth,
    #[error("it has binary data, which no event here carries")]
    Binary,
    #[error("it has text that is not UTF-8, a key that is not text, or an unknown type")]
    Type,
}

/// The JSON of one value, at most six times as long as its text.
pub fn to_json(bytes: &[u8]) -> Result<String, Unreadable> {
    let (mut reader, mut json) = (Reader(bytes), Vec::with_capacity(bytes.len() * 2));
    reader.value(&mut json, 0)?;
    if !reader.0.is_empty() {
        return Err(Unreadable::Long);
    }
    String::from_utf8(json).map_err(|_| Unreadable::Type)
}

/// The bytes that are not read yet.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Unreadable> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Unreadable::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        self.take(N)?.try_into().map_err(|_| Unreadable::Short)
    }

    /// A length or an unsigned number of this many bytes.
    fn unsigned(&mut self, bytes: usize) -> Result<u64, Unreadable> {
        Ok(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn length(&mut self, bytes: usize) -> Result<usize, Unreadable> {
        Ok(self.unsigned(bytes)? as usize)
    }

    fn value(&mut self, json: &mut Vec<u8>, depth: usize) -> Result<(), Unreadable> {
        let marker = self.unsigned(1)? as u8;
        match marker {
            0x00..=0x7f => push(json, marker),
            0x80..=0x8f => return self.map(usize::from(marker & 0x0f), json, depth),
            0x90..=0x9f => return self.array(usize::from(marker & 0x0f), json, depth),
            0xa0..=0xbf => return self.text(usize::from(marker & 0x1f), json),
            0xc0 => push(json, "null"),
            0xc2 => push(json, false),
            0xc3 => push(json, true),
            0xc4..=0xc6 => return Err(Unreadable::Binary),
            0xc7..=0xc9 => {
                let length = self.length(1 << (marker - 0xc7))?;
                return self.extension(length, json);
            }
            0xca => float(json, f64::from(f32::from_be_bytes(self.number()?))),
            0xcb => float(json, f64::from_be_bytes(self.number()?)),
            0xcc..=0xcf => push(json, self.unsigned(1 << (marker - 0xcc))?),
            0xd0 => push(json, i8::from_be_bytes(self.number()?)),
            0xd1 => push(json, i16::from_be_bytes(self.number()?)),
            0xd2 => push(json, i32::from_be_bytes(self.number()?)),
            0xd3 => push(json, i64::from_be_bytes(self.number()?)),
            0xd4..=0xd8 => return self.extension(1 << (marker - 0xd4), json),
            0xd9..=0xdb => {
                let length = self.length(1 << (marker - 0xd9))?;
                return self.text(length, json);
            }
            0xdc..=0xdd => {
                let length = self.length(2 << (marker - 0xdc))?;
                return self.array(length, json, depth);
            }
            0xde..=0xdf => {
                let length = self.length(2 << (marker - 0xde))?;
                return self.map(length, json, depth);
            }
            0xe0..=0xff => push(json, marker as i8),
            // The one marker that MessagePack does not use.
            0xc1 => return Err(Unreadable::Type),
        }
        Ok(())
    }

    fn array(&mut self, length: usize, json: &mut Vec<u8>, depth: usize) -> Result<(), Unreadable> {
        let depth = deeper(depth)?;
        json.push(b'[');
        for at in 0..length {
            if at > 0 {
                json.push(b',');
            }
            self.value(json, depth)?;
        }
        json.push(b']');
        Ok(())
    }

    fn map(&mut self, length: usize, json: &mut Vec<u8>, depth: usize) -> Result<(), Unreadable> {
        let depth = deeper(depth)?;
        json.push(b'{');
        for at in 0..length {
            if at > 0 {
                json.push(b',');
            }
            match self.0.first() {
                Some(0xa0..=0xbf | 0xd9..=0xdb) => self.value(json, depth)?,
                Some(_) => return Err(Unreadable::Type),
                None => return Err(Unreadable::Short),
            }
            json.push(b':');
            self.value(json, depth)?;
        }
        json.push(b'}');
        Ok(())
    }

    fn text(&mut self, length: usize, json: &mut Vec<u8>) -> Result<(), Unreadable> {
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| Unreadable::Type)?;
        serde_json::to_writer(json, text).map_err(|_| Unreadable::Type)
    }

    /// A date, which becomes JSON text, or `undefined`, which becomes `null`.
    fn extension(&mut self, length: usize, json: &mut Vec<u8>) -> Result<(), Unreadable> {
        let kind = self.unsigned(1)? as i8;
        let (seconds, nanos) = match (kind, length) {
            (0, 1) if self.take(1)? == [0] => {
                push(json, "null");
                return Ok(());
            }
            (-1, 4) => (self.unsigned(4)?, 0),
            (-1, 8) => {
                let both = self.unsigned(8)?;
                (both & 0x3_ffff_ffff, both >> 34)
            }
            (-1, 12) => {
                let nanos = self.unsigned(4)?;
                (self.unsigned(8)?, nanos)
            }
            _ => return Err(Unreadable::Type),
        };
        if seconds > LAST_SECOND || nanos >= 1_000_000_000 {
            return Err(Unreadable::Type);
        }
        let date = UNIX_EPOCH + Duration::new(seconds, nanos as u32);
        push(json, format_args!("\"{}\"", humantime::format_rfc3339_millis(date)));
        Ok(())
    }
}

fn deeper(depth: usize) -> Result<usize, Unreadable> {
    if depth < MAX_DEPTH { Ok(depth + 1) } else { Err(Unreadable::Depth) }
}

fn push(json: &mut Vec<u8>, value: impl fmt::Display) {
    use std::io::Write as _;
    // Writing to memory does not fail.
    let _ = write!(json, "{value}");
}

/// Infinities and NaN become `null`, as in JavaScript's JSON.
fn float(json: &mut Vec<u8>, value: f64) {
    if serde_json::to_writer(&mut *json, &value).is_err() {
        push(json, "null");
    }
}

/// Writes the value of a JSON text.
pub fn write_json(text: &str, to: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    let mut parser = serde_json::Deserializer::from_str(text);
    Writer(to).deserialize(&mut parser)?;
    parser.end()
}

pub fn write_text(text: &str, to: &mut Vec<u8>) {
    match text.len() {
        short @ 0..=0x1f => to.push(0xa0 | short as u8),
        long => write_marked(0xdb, long as u32, to),
    }
    to.extend_from_slice(text.as_bytes());
}

pub fn write_array(length: u8, to: &mut Vec<u8>) {
    to.push(0x90 | length & 0x0f);
}

pub fn write_map(length: u8, to: &mut Vec<u8>) {
    to.push(0x80 | length & 0x0f);
}

pub fn write_texts(texts: &[String], to: &mut Vec<u8>) {
    write_marked(0xdd, texts.len() as u32, to);
    texts.iter().for_each(|text| write_text(text, to));
}

fn write_marked(marker: u8, number: u32, to: &mut Vec<u8>) {
    to.push(marker);
    to.extend_from_slice(&number.to_be_bytes());
}

/// Writes one value while it is parsed.
struct Writer<'a>(&'a mut Vec<u8>);

impl Writer<'_> {
    /// Writes a collection. Its length comes first but is known last, so it is filled in at the end.
    fn counted<E>(self, marker: u8, write: impl FnOnce(&mut Vec<u8>) -> Result<u32, E>) -> Result<(), E> {
        write_marked(marker, 0, self.0);
        let at = self.0.len();
        let count = write(self.0)?;
        self.0[at - 4..at].copy_from_slice(&count.to_be_bytes());
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Writer<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Writer<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.push(0xc0);
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.0.push(0xc2 | u8::from(value));
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        match (u8::try_from(value), u32::try_from(value)) {
            (Ok(small @ 0..=0x7f), _) => self.0.push(small),
            (_, Ok(value)) => write_marked(0xce, value, self.0),
            _ => {
                self.0.push(0xcf);
                self.0.extend_from_slice(&value.to_be_bytes());
            }
        }
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.0.push(0xd3);
        self.0.extend_from_slice(&value.to_be_bytes());
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.0.push(0xcb);
        self.0.extend_from_slice(&value.to_be_bytes());
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        write_text(text, self.0);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        self.counted(0xdd, |to| {
            let mut count = 0;
            while array.next_element_seed(Writer(to))?.is_some() {
                count += 1;
            }
            Ok(count)
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.counted(0xdf, |to| {
            let mut count = 0;
            while let Some(key) = map.next_key::<Cow<'_, str>>()? {
                write_text(&key, to);
                map.next_value_seed(Writer(to))?;
                count += 1;
            }
            Ok(count)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn round(text: &str) -> String {
        let mut bytes = Vec::new();
        write_json(text, &mut bytes).unwrap();
        to_json(&bytes).unwrap()
    }

    #[test]
    fn json_survives_the_round_trip() {
        let long = format!(r#"["{}"]"#, "é".repeat(300));
        let numbers = "[0,127,128,65536,4294967296,18446744073709551615,-1,-33,-9223372036854775808,0.5,1e300]";
        let nested = r#"["chat:message",{"b":{"a":[null,true,false]},"a":"\"\u0001\n"},[]]"#;
        for text in [&long, numbers, nested, "{}", "null"] {
            assert_eq!(round(text), text.replace("1e300", "1e+300"), "{text}");
        }
        assert!(write_json(r#"["a"] x"#, &mut Vec::new()).is_err());
    }

    #[test]
    fn dates_undefined_and_infinities_become_what_javascript_writes() {
        assert_eq!(to_json(&[0xd6, 0xff, 0x5a, 0x4a, 0xf6, 0xa5]).unwrap(), r#""2018-01-02T03:04:05.000Z""#);
        assert_eq!(to_json(&[0xd4, 0x00, 0x00]).unwrap(), "null", "undefined");
        let mut infinite = vec![0xcb];
        infinite.extend_from_slice(&f64::INFINITY.to_be_bytes());
        assert_eq!(to_json(&infinite).unwrap(), "null");
    }

    #[test]
    fn invalid_bytes_are_refused_with_the_reason() {
        assert_eq!(to_json(&[0xc4, 1, 0]), Err(Unreadable::Binary));
        assert_eq!(to_json(&[0xdd, 0xff, 0xff, 0xff, 0xff]), Err(Unreadable::Short), "nothing is allocated by a length alone");
        assert_eq!(to_json(&[0xdb, 0xff, 0xff, 0xff, 0xff, b'a']), Err(Unreadable::Short));
        assert_eq!(to_json(&[0x01, 0x02]), Err(Unreadable::Long));
        assert_eq!(to_json(&[0xa1, 0xff]), Err(Unreadable::Type));
        assert_eq!(to_json(&[0x81, 0x01, 0x01]), Err(Unreadable::Type), "a number for a key");
        assert!(to_json(&[vec![0x91; MAX_DEPTH], vec![0xc0]].concat()).is_ok());
        assert_eq!(to_json(&[vec![0x91; MAX_DEPTH + 1], vec![0xc0]].concat()), Err(Unreadable::Depth));
    }

    #[test]
    fn random_bytes_are_refused_or_are_json() {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        for _ in 0..100_000 {
            let bytes: Vec<u8> = (0..next() % 48).map(|_| next()).collect();
            if let Ok(json) = to_json(&bytes) {
                crate::json::check(&json).unwrap_or_else(|wrong| panic!("{bytes:?} gave {json}: {wrong}"));
            }
        }
    }
}

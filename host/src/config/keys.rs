//! All keys of the configuration, found by deserializing the types, and suggestions for wrong names.

use std::cell::Cell;
use std::fmt;
use std::sync::OnceLock;

use serde::Deserialize as _;
use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, Visitor};

use super::Config;
use super::tree::{Error, Why};

/// The placeholder of a name that the operator chooses, as in `plugins.NAME.file`.
pub(super) const CHOSEN: &str = "NAME";

/// A plugin's name, with which the keys under it are found.
const EXAMPLE: &str = "example";

/// The most settings that are listed for a wrong name without a near one.
const MOST_NAMED: usize = 12;

/// The depth to which keys are searched.
const MAX_DEPTH: usize = 8;

/// Every key, such as `gateway.max_payload`. `NAME` is the placeholder of a name that the operator chooses.
pub(super) fn all() -> &'static [String] {
    static ALL: OnceLock<Vec<String>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut found = Vec::new();
        find(&mut Vec::new(), &mut found);
        found
    })
}

/// Whether there is a section of this name.
pub(super) fn is_section(name: &str) -> bool {
    all().iter().any(|key| key.split_once('.').is_some_and(|(section, _)| section == name))
}

/// The name of the variable that sets a key.
pub(super) fn variable(key: &str) -> String {
    format!("HUBBUB_{}", key.replace('.', "__").replace('-', "_").to_ascii_uppercase())
}

/// The candidate nearest to a word, if at most a third of its letters differs, and at most three.
pub(super) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let distances = candidates.map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate));
    let limit = (word.chars().count() / 3).clamp(1, 3);
    distances.filter(|(distance, _)| *distance <= limit).min().map(|(_, candidate)| candidate)
}

/// The suggestion for an unknown key: a near name beside it, or the same name in another section.
fn suggestion(path: &[String], known: &'static [&'static str]) -> Option<String> {
    let (last, before) = path.split_last()?;
    if let Some(near) = nearest(last, known.iter().copied()) {
        return Some(dotted(&[before, &[near.to_owned()]].concat()));
    }
    // Below a section, the same name elsewhere has another meaning.
    if before.len() > 1 {
        return None;
    }
    all().iter().find(|key| key.rsplit('.').next() == Some(last) && !key.contains(CHOSEN)).cloned()
}

/// A key in TOML's syntax: parts that are no plain words are quoted.
fn dotted(path: &[String]) -> String {
    let is_plain = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    let parts: Vec<_> = path.iter().map(|part| if is_plain(part) { part.clone() } else { format!("{part:?}") }).collect();
    parts.join(".")
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = dotted(&self.path);
        match &self.variable {
            Some(variable) => write!(f, "{variable} ({key}): ")?,
            None => write!(f, "{key}: ")?,
        }
        match &self.why {
            Why::Wrong => f.write_str("cannot be read"),
            Why::Reason(why) => f.write_str(why),
            Why::Unknown { known } => {
                f.write_str("there is no such setting")?;
                match (suggestion(&self.path, known), &self.variable) {
                    (Some(meant), Some(_)) => write!(f, "; did you mean {}?", variable(&meant)),
                    (Some(meant), None) => write!(f, "; did you mean {meant}?"),
                    (None, _) if (1..=MOST_NAMED).contains(&known.len()) => {
                        write!(f, "; the settings here are {}", known.join(", "))
                    }
                    (None, _) => Ok(()),
                }
            }
        }
    }
}

/// The kind of a place in the configuration.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Leaf,
    Section(&'static [&'static str]),
    /// Names that the operator chooses.
    Names,
}

/// Adds the keys at and under `path`.
fn find(path: &mut Vec<&'static str>, found: &mut Vec<String>) {
    let kind = Cell::new(Kind::Leaf);
    // The probe always ends with an error.
    let _ = Config::deserialize(Probe { path, kind: &kind });
    let key = || path.iter().map(|part| if *part == EXAMPLE { CHOSEN } else { part }).collect::<Vec<_>>().join(".");
    let under: &'static [&'static str] = match kind.get() {
        _ if path.len() >= MAX_DEPTH => &[],
        Kind::Leaf => return found.push(key()),
        Kind::Section(fields) => fields,
        Kind::Names => {
            // The table itself is a key, too.
            found.push(key());
            &[EXAMPLE]
        }
    };
    for part in under {
        path.push(part);
        find(path, found);
        path.pop();
    }
}

/// A deserializer that follows a path through the types and records the kind of the type at its end.
#[derive(Clone, Copy)]
struct Probe<'a> {
    path: &'a [&'static str],
    kind: &'a Cell<Kind>,
}

impl Probe<'_> {
    fn found(self, kind: Kind) -> Error {
        self.kind.set(kind);
        Error::default()
    }

    fn step<'de, V: Visitor<'de>>(self, kind: Kind, visitor: V) -> Result<V::Value, Error> {
        match self.path.split_first() {
            None => Err(self.found(kind)),
            Some((key, path)) => visitor.visit_map(Step { key: Some(key), below: Probe { path, ..self } }),
        }
    }
}

struct Step<'a> {
    key: Option<&'static str>,
    below: Probe<'a>,
}

impl<'de> MapAccess<'de> for Step<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some(key) = self.key.take() else { return Ok(None) };
        let key: StrDeserializer<'_, Error> = key.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(self.below)
    }
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(self.found(Kind::Leaf))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.step(Kind::Names, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.step(Kind::Section(fields), visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct enum
        identifier ignored_any
    }
}

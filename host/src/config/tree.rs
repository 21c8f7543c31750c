//! The untyped configuration: tables of the file, and texts of the environment that are parsed by the type of their key. An error names
//! the key or the variable. It must never show a value, which may be a secret.

pub(crate) mod text;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de::value::{StrDeserializer, StringDeserializer};
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use toml::Value;

/// A value of the configuration.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Table(BTreeMap<String, Place>),
    List(Vec<Place>),
    /// A number, a text or a flag of the file.
    Scalar(Value),
    /// The raw text of a variable, or a part of it.
    Text(String),
    /// JSON's `null`.
    Null,
}

/// A value, and the variable that it comes from.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) node: Node,
    pub(super) variable: Option<Arc<str>>,
}

/// Why a configuration is invalid, and where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Error {
    /// The variable with the wrong value; `None`: the file.
    pub(super) variable: Option<Arc<str>>,
    /// The keys that lead to it.
    pub(super) path: Vec<String>,
    pub(super) why: Why,
}

/// The reason of an error. No case may hold a value of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Why {
    #[default]
    Wrong,
    Reason(String),
    Unknown {
        known: &'static [&'static str],
    },
}

impl Place {
    pub(super) fn table(variable: Option<Arc<str>>) -> Self {
        Self { node: Node::Table(BTreeMap::new()), variable }
    }

    /// A value of the file.
    pub(super) fn of_file(value: Value) -> Self {
        let node = match value {
            Value::Table(table) => Node::Table(table.into_iter().map(|(key, value)| (key, Self::of_file(value))).collect()),
            Value::Array(list) => Node::List(list.into_iter().map(Self::of_file).collect()),
            scalar => Node::Scalar(scalar),
        };
        Self { node, variable: None }
    }

    /// A part of this value, such as an element of its list.
    pub(super) fn part(&self, node: Node) -> Self {
        Self { node, variable: self.variable.clone() }
    }

    fn wrong(&self, why: impl Into<String>) -> Error {
        Error { variable: self.variable.clone(), path: Vec::new(), why: Why::Reason(why.into()) }
    }

    /// Adds this place's variable to an error without one.
    fn locate(&self, error: Error) -> Error {
        Error { variable: error.variable.or_else(|| self.variable.clone()), ..error }
    }

    fn visit<'de, V: Visitor<'de>>(&self, result: Result<V::Value, Error>) -> Result<V::Value, Error> {
        result.map_err(|error| self.locate(error))
    }

    /// Visits a value for a key of any type. The type of an environment's text is guessed.
    fn visit_any<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node {
            Node::Table(_) => self.visit_map(visitor),
            Node::List(_) => self.visit_list(visitor),
            Node::Null => self.visit::<V>(visitor.visit_unit()),
            Node::Scalar(Value::String(text)) => self.visit::<V>(visitor.visit_str(text)),
            Node::Scalar(Value::Integer(number)) => self.visit::<V>(visitor.visit_i64(*number)),
            Node::Scalar(Value::Float(number)) => self.visit::<V>(visitor.visit_f64(*number)),
            Node::Scalar(Value::Boolean(flag)) => self.visit::<V>(visitor.visit_bool(*flag)),
            Node::Scalar(other) => self.visit::<V>(visitor.visit_string(other.to_string())),
            Node::Text(raw) => match text::guess(raw) {
                text::Guess::Table if text::table(raw, &self).is_some() => self.visit_map(visitor),
                text::Guess::List if text::bracketed(raw, &self).is_some() => self.visit_list(visitor),
                text::Guess::Flag(flag) => self.visit::<V>(visitor.visit_bool(flag)),
                text::Guess::Unsigned(number) => self.visit::<V>(visitor.visit_u64(number)),
                text::Guess::Signed(number) => self.visit::<V>(visitor.visit_i64(number)),
                text::Guess::Float(number) => self.visit::<V>(visitor.visit_f64(number)),
                text::Guess::Null => self.visit::<V>(visitor.visit_unit()),
                _ => self.visit::<V>(visitor.visit_string(text::unquoted(raw))),
            },
        }
    }

    fn visit_map<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let entries = match &self.node {
            Node::Table(table) => table.clone(),
            Node::Text(raw) => text::table(raw, &self).ok_or_else(|| self.wrong("must be a table, such as {\"a\": \"b\"}"))?,
            _ => return Err(self.wrong("must be a table")),
        };
        let access = Entries { rest: entries.into_iter(), next: None };
        self.visit::<V>(visitor.visit_map(access))
    }

    fn visit_list<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let elements = match &self.node {
            Node::List(list) => list.clone(),
            Node::Text(raw) => {
                text::list(raw, &self).ok_or_else(|| self.wrong("must be a list, such as [\"a\", \"b\"] or a, b"))?
            }
            _ => return Err(self.wrong("must be a list")),
        };
        let access = Elements { rest: elements.into_iter(), index: 0 };
        self.visit::<V>(visitor.visit_seq(access))
    }

    fn visit_number<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Node::Text(raw) = &self.node else { return self.visit_any(visitor) };
        match text::whole(raw) {
            Some(text::Whole::Unsigned(number)) => self.visit::<V>(visitor.visit_u64(number)),
            Some(text::Whole::Signed(number)) => self.visit::<V>(visitor.visit_i64(number)),
            None => Err(self.wrong("must be a whole number, without a unit")),
        }
    }
}

struct Entries<I> {
    rest: I,
    next: Option<(String, Place)>,
}

impl<'de, I: Iterator<Item = (String, Place)>> MapAccess<'de> for Entries<I> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        self.next = self.rest.next();
        let Some((key, value)) = &self.next else { return Ok(None) };
        let keyed: StrDeserializer<'_, Error> = key.as_str().into_deserializer();
        seed.deserialize(keyed).map(Some).map_err(|error| value.locate(within(key, error)))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let Some((key, value)) = self.next.take() else { return Err(Error::default()) };
        seed.deserialize(value).map_err(|error| within(&key, error))
    }
}

struct Elements<I> {
    rest: I,
    index: usize,
}

impl<'de, I: Iterator<Item = Place>> SeqAccess<'de> for Elements<I> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(element) = self.rest.next() else { return Ok(None) };
        let key = self.index.to_string();
        self.index += 1;
        seed.deserialize(element).map(Some).map_err(|error| within(&key, error))
    }
}

fn within(key: &str, mut error: Error) -> Error {
    error.path.insert(0, key.to_owned());
    error
}

impl<'de> Deserializer<'de> for Place {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit_any(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Node::Text(raw) = &self.node else { return self.visit_any(visitor) };
        match text::flag(raw) {
            Some(flag) => self.visit::<V>(visitor.visit_bool(flag)),
            None => Err(self.wrong("must be true or false")),
        }
    }

    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit_number(visitor)
    }

    fn deserialize_i16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit_number(visitor)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit_number(visitor)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit_number(visitor)
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit_number(visitor)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit_number(visitor)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit_number(visitor)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit_number(visitor)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Node::Text(raw) = &self.node else { return self.visit_any(visitor) };
        match text::unquoted(raw).parse::<f64>() {
            Ok(number) if number.is_finite() => self.visit::<V>(visitor.visit_f64(number)),
            _ => Err(self.wrong("must be a number")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_string(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Node::Text(raw) = &self.node else { return self.visit_any(visitor) };
        let text = text::unquoted(raw);
        self.visit::<V>(visitor.visit_string(text))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.node {
            Node::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit_list(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.visit_list(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit_map(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.visit_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let written = match &self.node {
            Node::Text(raw) => text::unquoted(raw),
            Node::Scalar(Value::String(text)) => text.clone(),
            _ => return Err(self.wrong(one_of(variants))),
        };
        // A variable may be in any case.
        let from_variable = matches!(self.node, Node::Text(_));
        let same = |variant: &&&str| **variant == written || (from_variable && variant.eq_ignore_ascii_case(&written));
        let Some(variant) = variants.iter().find(same) else { return Err(self.wrong(one_of(variants))) };
        let variant: StringDeserializer<Error> = (*variant).to_owned().into_deserializer();
        self.visit::<V>(visitor.visit_enum(variant))
    }

    serde::forward_to_deserialize_any! { char bytes byte_buf unit unit_struct tuple_struct identifier ignored_any }
}

impl IntoDeserializer<'_, Error> for Place {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

fn one_of(variants: &[&str]) -> String {
    let quoted: Vec<String> = variants.iter().map(|variant| format!("`{variant}`")).collect();
    format!("must be one of {}", quoted.join(", "))
}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        let message = message.to_string();
        // serde's message names Rust's types.
        let why =
            if message.starts_with("data did not match any variant") { "has a value of a wrong kind".into() } else { message };
        Self { why: Why::Reason(why), ..Self::default() }
    }

    fn invalid_type(_: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self { why: Why::Reason(expectation(&expected.to_string())), ..Self::default() }
    }

    fn invalid_value(_: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self { why: Why::Reason(expectation(&expected.to_string())), ..Self::default() }
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self { why: Why::Reason(one_of(expected)), ..Self::default() }
    }

    fn unknown_field(_: &str, expected: &'static [&'static str]) -> Self {
        Self { why: Why::Unknown { known: expected }, ..Self::default() }
    }
}

/// Translates serde's name of a type for operators.
fn expectation(expected: &str) -> String {
    let words = match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a string" | "string" => "a text, in quotes",
        "a sequence" => "a list",
        "a map" => "a table",
        _ if expected.starts_with("struct ") => "a table",
        _ if expected.contains("path") => "a text, in quotes",
        other => other,
    };
    format!("must be {words}")
}

impl std::error::Error for Error {}

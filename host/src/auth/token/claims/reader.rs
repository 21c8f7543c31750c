//! Parses the claims of a token from JSON, and keeps only those that the host uses.

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::fmt;

use super::*;

pub(super) struct ReadClaims<'n> {
    pub(super) names: &'n ClaimNames,
}

impl<'de> DeserializeSeed<'de> for ReadClaims<'_> {
    type Value = Claims<'de>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Claims<'de>, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ReadClaims<'_> {
    type Value = Claims<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of claims")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Claims<'de>, A::Error> {
        let mut claims = Claims::default();
        let mut seen: SmallVec<[Cow<'de, str>; 16]> = SmallVec::new();
        while let Some(name) = map.next_key_seed(ReadName)? {
            if seen.len() == MAX_CLAIMS {
                return Err(de::Error::custom("too many claims"));
            }
            let value = map.next_value_seed(ReadValue { depth: 2, list: List::of(&name, self.names) })?;
            if seen.contains(&name) {
                claims.problem.get_or_insert(TokenError::DuplicateClaim);
            }
            claims.take(self.names, &name, value);
            seen.push(name);
        }
        Ok(claims)
    }
}

/// A member's name, borrowed if it has no escapes (a plain `Cow` would always be copied).
struct ReadName;

impl<'de> DeserializeSeed<'de> for ReadName {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Cow<'de, str>, D::Error> {
        from.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for ReadName {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

/// Which elements of a list are kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum List {
    Nothing,
    /// Only texts.
    Audiences,
    /// Texts and whole numbers. `null` and empty ones are left out.
    Roles,
}

impl List {
    fn of(claim: &str, names: &ClaimNames) -> Self {
        match claim {
            "aud" => Self::Audiences,
            _ if names.role.iter().any(|name| name == claim) => Self::Roles,
            _ => Self::Nothing,
        }
    }

    /// Adds one more value. None if the list is unusable.
    fn take<'a>(self, mut texts: Texts<'a>, value: Value<'a>) -> Option<Texts<'a>> {
        let (most, text) = match (self, value) {
            (Self::Audiences, Value::Text(text)) => (MAX_AUDIENCES, text),
            (Self::Roles, value) if value.is_empty() => return Some(texts),
            (Self::Roles, Value::Text(text)) => (MAX_ROLES, text),
            (Self::Roles, Value::Integer(number)) => (MAX_ROLES, number.to_string().into()),
            _ => return None,
        };
        texts.push(text);
        (texts.len() <= most).then_some(texts)
    }
}

/// A value. All of its content is checked, as plugins will parse it; only the used parts are kept.
struct ReadValue {
    /// The level of a list or object here. The claims themselves are level 1.
    depth: u8,
    list: List,
}

impl ReadValue {
    fn check_depth<E: de::Error>(&self) -> Result<(), E> {
        if self.depth > MAX_DEPTH { Err(E::custom("nested too deeply")) } else { Ok(()) }
    }

    fn inner(&self) -> Self {
        Self { depth: self.depth + 1, list: List::Nothing }
    }
}

impl<'de> DeserializeSeed<'de> for ReadValue {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value<'de>, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ReadValue {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Value<'de>, E> {
        Ok(Value::Other)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Value<'de>, E> {
        Ok(Value::Integer(number.into()))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Value<'de>, E> {
        Ok(Value::Integer(number.into()))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Value<'de>, E> {
        Ok(Value::Float(number))
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value<'de>, A::Error> {
        self.check_depth()?;
        let mut texts = (self.list != List::Nothing).then(Texts::new);
        while let Some(value) = list.next_element_seed(self.inner())? {
            texts = texts.and_then(|texts| self.list.take(texts, value));
        }
        Ok(texts.map_or(Value::Other, Value::Texts))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value<'de>, A::Error> {
        self.check_depth()?;
        while map.next_key_seed(ReadName)?.is_some() {
            map.next_value_seed(self.inner())?;
        }
        Ok(Value::Other)
    }
}

//! JSON for stores and clients. Never built through a tree of values: every event is serialized here.

use std::{borrow::Cow, fmt, marker::PhantomData};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::{EffectError, Refusal};

/// A value that is serialized already, so that it is stored and sent without being serialized again.
///
/// ```
/// # use hubbub_sdk::{Json, Result, emitter::Emits, store};
/// # #[derive(serde::Serialize)] struct Message { content: String }
/// const MESSAGE: Emits<Json<Message>> = Emits::new("/chat", "chat:message");
/// # fn handler(message: Message) -> Result<()> {
/// let message = Json::of(&message)?;
/// store::append("messages/42/", &message)?;
/// MESSAGE.to_room("chat:42", &message)
/// # }
/// ```
pub struct Json<T: ?Sized> {
    raw: Box<RawValue>,
    of: PhantomData<fn(&T)>,
}

impl<T: Serialize + ?Sized> Json<T> {
    /// Serializes the value.
    pub fn of(value: &T) -> Result<Self, Refusal> {
        let raw = serde_json::value::to_raw_value(value).map_err(|error| invalid(&error))?;
        Ok(Self { raw, of: PhantomData })
    }
}

impl<T: ?Sized> Json<T> {
    /// The same text as JSON of another type. Nothing is checked before [`Json::value`].
    pub fn into_type<U: ?Sized>(self) -> Json<U> {
        Json { raw: self.raw, of: PhantomData }
    }

    /// The JSON text.
    pub fn text(&self) -> &str {
        self.raw.get()
    }
}

impl<T: DeserializeOwned> Json<T> {
    /// The value, or `internal` if the text does not fit the type.
    pub fn value(&self) -> Result<T, Refusal> {
        serde_json::from_str(self.text()).map_err(Refusal::internal)
    }
}

impl<T: ?Sized> Clone for Json<T> {
    fn clone(&self) -> Self {
        Self { raw: self.raw.clone(), of: PhantomData }
    }
}

impl<T: ?Sized> fmt::Debug for Json<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl<T: ?Sized> Serialize for Json<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.raw.serialize(serializer)
    }
}

/// Takes any JSON as it is. Nothing is checked before [`Json::value`].
impl<'de, T: ?Sized> Deserialize<'de> for Json<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(|raw| Self { raw, of: PhantomData })
    }
}

impl<T: JsonSchema + ?Sized> JsonSchema for Json<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A value as JSON text.
pub(crate) fn text<T: Serialize + ?Sized>(value: &T) -> Result<String, Refusal> {
    serde_json::to_string(value).map_err(|error| invalid(&error))
}

#[cold]
fn invalid(error: &serde_json::Error) -> Refusal {
    EffectError::InvalidJson(error.to_string()).into()
}

/// An event's arguments of one payload: `[payload]`.
pub(crate) fn args<T: Serialize + ?Sized>(payload: &T) -> Result<String, Refusal> {
    text(&(payload,))
}

#[cfg(test)]
mod tests {
    use super::{Json, args};

    #[test]
    fn serialized_json_is_written_as_it_is_and_read_back() {
        let json = Json::of(&vec!["a", "é\""]).expect("it serializes");
        assert_eq!(json.text(), r#"["a","é\""]"#);
        assert_eq!(args(&json), Ok(r#"[["a","é\""]]"#.to_owned()));
        let read: Json<Vec<String>> = serde_json::from_str(" [ 1, \"b\" ] ").expect("any JSON is taken");
        assert_eq!(read.text(), "[ 1, \"b\" ]");
        let read: Json<Vec<String>> = serde_json::from_str(json.text()).expect("any JSON is taken");
        assert_eq!(read.value().ok(), Some(vec!["a".to_owned(), "é\"".to_owned()]));
    }
}

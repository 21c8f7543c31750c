//! Payloads: the types of an event's arguments, and the sentence for a client if a payload does not fit. The sentence names the field
//! (`chatId: missing`), and never a Rust type.

use std::{borrow::Cow, fmt, marker::PhantomData, ops::Deref, str::FromStr};

use crate::Refusal;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, DeserializeOwned, IgnoredAny, SeqAccess, Visitor, value::MapAccessDeserializer},
};

mod explain;
mod link;

pub(crate) use explain::explain;
pub use link::{is_link, link};

/// An id in a payload: 1–128 bytes, no control characters. It fits a room's name and a store key, so that no id from a client
/// makes the plugin fail.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Id(String);

impl Id {
    /// The most bytes of an id.
    pub const MAX_BYTES: usize = 128;

    fn checked<E: de::Error>(text: String) -> Result<Self, E> {
        if text.is_empty() || text.len() > Self::MAX_BYTES || text.contains(char::is_control) {
            return Err(E::custom("must be an id of 1 to 128 bytes"));
        }
        Ok(Self(text))
    }

    /// The id's text.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl Deref for Id {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// For ids outside payloads: a timer's parameter, a part of a key.
impl FromStr for Id {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        Self::checked::<de::value::Error>(text.to_owned()).map_err(|wrong| Refusal::invalid(wrong.to_string()))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Id;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Id, E> {
                Id::checked(text.to_owned())
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Id, E> {
                Id::checked(text)
            }
        }

        // A visitor's error carries the id's place in the text.
        deserializer.deserialize_string(Text)
    }
}

/// An id that is sent to clients as the backend wrote it: `7` as `7`, `"7"` as `"7"`. For rooms and keys both are the id `7`. Only for
/// messages: clients send strings, which are an [`Id`].
///
/// ```
/// use hubbub_sdk::payload::PublishedId;
///
/// let (number, text): (PublishedId, PublishedId) = (serde_json::from_str("7")?, serde_json::from_str(r#""7""#)?);
/// assert_eq!(*number.id(), *text.id());
/// assert_eq!((serde_json::to_string(&number)?, serde_json::to_string(&text)?), ("7".into(), r#""7""#.into()));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedId {
    id: Id,
    is_number: bool,
}

impl PublishedId {
    /// The id as text.
    pub fn id(&self) -> &Id {
        &self.id
    }

    /// The id as text.
    pub fn into_id(self) -> Id {
        self.id
    }
}

impl Deref for PublishedId {
    type Target = str;

    fn deref(&self) -> &str {
        &self.id
    }
}

/// For an id from a client.
impl From<Id> for PublishedId {
    fn from(id: Id) -> Self {
        Self { id, is_number: false }
    }
}

/// For an id from the host: of an event, a message or a user.
impl From<String> for PublishedId {
    fn from(id: String) -> Self {
        Self { id: Id(id), is_number: false }
    }
}

impl Serialize for PublishedId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !self.is_number {
            return serializer.serialize_str(&self.id);
        }
        match self.id.parse::<i128>() {
            Ok(number) => serializer.serialize_i128(number),
            Err(error) => Err(serde::ser::Error::custom(error)),
        }
    }
}

impl<'de> Deserialize<'de> for PublishedId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = PublishedId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a whole number")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<PublishedId, E> {
                Id::checked(text.to_owned()).map(PublishedId::from)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<PublishedId, E> {
                Ok(PublishedId { id: Id(number.to_string()), is_number: true })
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<PublishedId, E> {
                Ok(PublishedId { id: Id(number.to_string()), is_number: true })
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for PublishedId {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "PublishedId".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [Id::json_schema(generator), { "type": "integer" }] })
    }
}

/// Reads an id of a backend that is not sent to clients: a string, or the digits of a whole number. Only for messages: clients send
/// strings. The field is an [`Id`], a `Vec<Id>`, or an `Option` of either (with `default`). An id that is sent to clients is a
/// [`PublishedId`].
///
/// ```
/// use hubbub_sdk::payload::{Id, published_id};
///
/// #[derive(serde::Deserialize)]
/// struct Enrolled {
///     #[serde(deserialize_with = "published_id")]
///     course: Id,
/// }
///
/// let (number, text) = (r#"{"course":42}"#, r#"{"course":"42"}"#);
/// assert_eq!(serde_json::from_str::<Enrolled>(number)?.course, serde_json::from_str::<Enrolled>(text)?.course);
/// # Ok::<(), serde_json::Error>(())
/// ```
pub fn published_id<'de, D: Deserializer<'de>, T: Published>(deserializer: D) -> Result<T, D::Error> {
    T::read(deserializer)
}

/// A type that [`published_id`] reads.
pub trait Published: Sized {
    #[doc(hidden)]
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

impl Published for Id {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        PublishedId::deserialize(deserializer).map(PublishedId::into_id)
    }
}

impl Published for Option<Id> {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::<PublishedId>::deserialize(deserializer)?.map(PublishedId::into_id))
    }
}

impl Published for Vec<Id> {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ids = Vec::<PublishedId>::deserialize(deserializer)?;
        Ok(ids.into_iter().map(PublishedId::into_id).collect())
    }
}

impl Published for Option<Vec<Id>> {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ids = Option::<Vec<PublishedId>>::deserialize(deserializer)?;
        Ok(ids.map(|ids| ids.into_iter().map(PublishedId::into_id).collect()))
    }
}

impl JsonSchema for Id {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Id".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "maxLength": Self::MAX_BYTES })
    }
}

/// A payload that is an object, or the bare id that would be its only field: `{threadId}` or the id.
///
/// ```
/// use hubbub_sdk::payload::{Id, IdOr};
///
/// #[derive(serde::Deserialize)]
/// #[serde(rename_all = "camelCase")]
/// struct Thread { thread_id: Id }
///
/// impl From<Id> for Thread {
///     fn from(thread_id: Id) -> Self { Self { thread_id } }
/// }
///
/// let bare: IdOr<Thread> = serde_json::from_str(r#""t1""#)?;
/// let whole: IdOr<Thread> = serde_json::from_str(r#"{"threadId":"t1"}"#)?;
/// assert_eq!(bare.thread_id, whole.thread_id);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdOr<T>(pub T);

impl<T> Deref for IdOr<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<'de, T: DeserializeOwned + From<Id>> Deserialize<'de> for IdOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);

        impl<'de, T: DeserializeOwned + From<Id>> Visitor<'de> for Either<T> {
            type Value = IdOr<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an id or an object")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<IdOr<T>, E> {
                Id::checked(text.to_owned()).map(|id| IdOr(T::from(id)))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<IdOr<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(IdOr)
            }
        }

        deserializer.deserialize_any(Either(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for IdOr<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("IdOr{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [Id::json_schema(generator), generator.subschema_for::<T>()] })
    }
}

/// The arguments of one event, by position. Further arguments are ignored; an `Option` may be missing.
#[doc(hidden)]
pub trait Args<'de>: Sized {
    fn read<A: SeqAccess<'de>>(seq: A) -> Result<Self, A::Error>;
}

macro_rules! args_of {
    ($($name:ident),+) => {
        impl<'de, $($name: Deserialize<'de>),+> Args<'de> for ($($name,)+) {
            fn read<Seq: SeqAccess<'de>>(mut seq: Seq) -> Result<Self, Seq::Error> {
                let args = ($(next::<$name, Seq>(&mut seq)?,)+);
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(args)
            }
        }
    };
}

args_of!(A);
args_of!(A, B);
args_of!(A, B, C);
args_of!(A, B, C, D);

fn next<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(seq: &mut A) -> Result<T, A::Error> {
    match seq.next_element()? {
        Some(value) => Ok(value),
        None => T::deserialize(de::value::UnitDeserializer::new()),
    }
}

/// Reads an event's arguments.
pub(crate) fn read<'de, T: Args<'de>>(args: &'de str) -> Result<T, serde_json::Error> {
    struct Arguments<T>(PhantomData<T>);

    impl<'de, T: Args<'de>> Visitor<'de> for Arguments<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array of arguments")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<T, A::Error> {
            T::read(seq)
        }
    }

    serde_json::Deserializer::from_str(args).deserialize_seq(Arguments(PhantomData))
}

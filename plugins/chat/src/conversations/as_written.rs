//! An id that goes back out as it came in. Some backends number their rows, and their clients compare what they get with `===`.

use std::{borrow::Cow, fmt};

use hubbub_sdk::{
    Json, Result,
    payload::{Id, published_id},
};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// An id, and how it was written: `7` or `"7"`.
#[derive(Clone)]
pub(crate) struct AsWritten {
    id: Id,
    written: Json<Id>,
}

impl AsWritten {
    /// As a client writes it: a string.
    pub(super) fn text(id: Id) -> Result<Self> {
        let written = Json::of(&id)?;
        Ok(Self { id, written })
    }

    pub(super) fn id(&self) -> &Id {
        &self.id
    }
}

/// Two ways of writing one id are two: what is stored follows the backend.
impl PartialEq for AsWritten {
    fn eq(&self, other: &Self) -> bool {
        self.written.text() == other.written.text()
    }
}

impl fmt::Debug for AsWritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.written.fmt(f)
    }
}

impl Serialize for AsWritten {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.written.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for AsWritten {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Json::<Id>::deserialize(deserializer)?;
        let id = published_id(&mut serde_json::Deserializer::from_str(written.text()))
            .map_err(|_| D::Error::custom("must be an id of 1 to 128 bytes"))?;
        Ok(Self { id, written })
    }
}

impl JsonSchema for AsWritten {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        Id::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Id::json_schema(generator)
    }
}

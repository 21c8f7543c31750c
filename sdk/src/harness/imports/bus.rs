//! The bus: published messages are handled when the call has succeeded.

use crate::{
    EffectError,
    harness::{
        call::{self, Effect},
        names,
    },
};

pub(crate) fn publish(topic: &str, key: Option<&str>, data: &str) -> Result<(), EffectError> {
    call::import(|call, _| {
        names::topic(topic)?;
        if let Some(key) = key {
            names::check("key", key)?;
        }
        call.collect(Effect::Publish { topic: topic.to_owned(), data: names::json(data)? })
    })
}

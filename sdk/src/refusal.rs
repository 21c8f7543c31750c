//! Refusals: the errors that clients see, and the conversion of every import's error into one. An error's detail never reaches a
//! client: it is logged.

use std::{fmt, time::Duration};

pub(crate) use crate::bindings::hubbub::plugin::types::EffectError;
pub use crate::bindings::hubbub::plugin::types::{Refusal, RefusalCode};
use crate::{bindings::hubbub::plugin::store, log};

/// The sentences for a failed import.
const INTERNAL: &str = "Internal error";
const UNAVAILABLE: &str = "Service unavailable";

/// A handler's result, and every import's. After an error, the effects of the call are dropped.
pub type Result<T = (), E = Refusal> = std::result::Result<T, E>;

impl Refusal {
    /// A refusal with a code and one sentence for the client.
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after_ms: None }
    }

    /// The event needs a user, and a visitor sent it.
    pub fn unauthenticated(message: impl Into<String>) -> Self {
        Self::new(RefusalCode::Unauthenticated, message)
    }

    /// The user may not do this.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(RefusalCode::Forbidden, message)
    }

    /// The named thing does not exist, or this user must not see it.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(RefusalCode::NotFound, message)
    }

    /// The event's arguments are wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(RefusalCode::Invalid, message)
    }

    /// Too many events in too short a time. A retry can succeed after `retry_after`.
    pub fn rate_limited(message: impl Into<String>, retry_after: Duration) -> Self {
        let millis = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
        Self { retry_after_ms: Some(millis), ..Self::new(RefusalCode::RateLimited, message) }
    }

    /// Over a limit of size or number.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(RefusalCode::TooLarge, message)
    }

    /// The event is right, and may succeed later.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(RefusalCode::Unavailable, message)
    }

    /// A mistake of the plugin. `detail` is logged at once; the client gets `Internal error`.
    #[cold]
    pub fn internal(detail: impl fmt::Display) -> Self {
        log::error(&detail.to_string());
        Self::new(RefusalCode::Internal, INTERNAL)
    }

    /// Whether it has the sentence of a failed import, and not one of the plugin's own.
    pub(crate) fn is_failure(&self) -> bool {
        self.message == INTERNAL || self.message == UNAVAILABLE
    }
}

/// A wrong name, wrong JSON or a missing grant is a mistake of the plugin, not of the client: `internal`.
impl From<EffectError> for Refusal {
    #[cold]
    fn from(error: EffectError) -> Self {
        match error {
            EffectError::InvalidName(why) => Self::internal(format_args!("invalid name: {why}")),
            EffectError::InvalidJson(why) => Self::internal(format_args!("invalid JSON: {why}")),
            EffectError::NoCaller => Self::internal("the import is about the caller, and this call has none"),
            EffectError::Denied(why) => Self::internal(format_args!("denied: {why}")),
        }
    }
}

/// Storage that does not answer is `unavailable`. Any other error is a mistake of the plugin: `internal`.
impl From<store::Error> for Refusal {
    #[cold]
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Unavailable => Self::unavailable(UNAVAILABLE),
            store::Error::InvalidKey(why) => Self::internal(format_args!("invalid store key: {why}")),
            store::Error::ValueTooLarge => Self::internal("the value is too large for the store"),
            store::Error::NotACounter => Self::internal("the stored value is not a counter"),
        }
    }
}

//! Why a client is refused, and how every import's error becomes such a refusal. Never lets an error's detail reach a client:
//! the detail goes to the log.

use std::time::Duration;

pub use crate::bindings::hubbub::plugin::types::{EffectError, Refusal, RefusalCode};
use crate::{log, store};

/// What clients read where an import failed.
const INTERNAL: &str = "Internal error";
const UNAVAILABLE: &str = "Service unavailable";

/// What a handler answers. Everything that the call has collected is dropped where it is an error.
pub type Result<T = (), E = Refusal> = std::result::Result<T, E>;

impl Refusal {
    /// A refusal with a code and one sentence for the client.
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after_ms: None }
    }

    /// A user is needed and there is none.
    pub fn unauthenticated(message: impl Into<String>) -> Self {
        Self::new(RefusalCode::Unauthenticated, message)
    }

    /// The user may not do this.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(RefusalCode::Forbidden, message)
    }

    /// The thing named does not exist, or must not be seen by this user.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(RefusalCode::NotFound, message)
    }

    /// The event's arguments are wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(RefusalCode::Invalid, message)
    }

    /// Too many, too fast; a retry can succeed after `retry_after`.
    pub fn rate_limited(message: impl Into<String>, retry_after: Duration) -> Self {
        let millis = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
        Self { retry_after_ms: Some(millis), ..Self::new(RefusalCode::RateLimited, message) }
    }

    /// Too large for a limit.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(RefusalCode::TooLarge, message)
    }

    /// Nothing wrong with the event: it may succeed later.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(RefusalCode::Unavailable, message)
    }

    /// The plugin's own fault. `detail` is for the log; the client reads `Internal error`.
    #[cold]
    pub fn internal(detail: impl std::fmt::Display) -> Self {
        log::error(&detail.to_string());
        Self::new(RefusalCode::Internal, INTERNAL)
    }

    /// Whether it speaks of a failed import, and not in the plugin's own words.
    pub(crate) fn is_failure(&self) -> bool {
        self.message == INTERNAL || self.message == UNAVAILABLE
    }
}

/// A wrong name, wrong JSON or a missing grant is the plugin's mistake, never the client's: `internal`, with its detail logged.
impl From<EffectError> for Refusal {
    #[cold]
    fn from(error: EffectError) -> Self {
        match error {
            EffectError::InvalidName(why) => Self::internal(format_args!("invalid name: {why}")),
            EffectError::InvalidJson(why) => Self::internal(format_args!("invalid JSON: {why}")),
            EffectError::NoCaller => Self::internal("the import speaks of the caller, and this call has none"),
            EffectError::Denied(why) => Self::internal(format_args!("denied: {why}")),
        }
    }
}

/// Storage that does not answer is `unavailable`; the rest is the plugin's mistake, `internal`, with its detail logged.
impl From<store::Error> for Refusal {
    #[cold]
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Unavailable => Self::unavailable(UNAVAILABLE),
            other => Self::internal(other),
        }
    }
}

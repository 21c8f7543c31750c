//! The error that a refused client receives. Never contains internals: the cause is logged, the client receives a sentence.

use std::borrow::Cow;

use serde::Serialize;

/// The codes of the public contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    Unauthenticated,
    Forbidden,
    NotFound,
    Invalid,
    RateLimited,
    TooLarge,
    Unavailable,
    Internal,
}

impl Code {
    pub const ALL: [Self; 8] = [
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::Invalid,
        Self::RateLimited,
        Self::TooLarge,
        Self::Unavailable,
        Self::Internal,
    ];

    /// The label in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Invalid => "invalid",
            Self::RateLimited => "rate_limited",
            Self::TooLarge => "too_large",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }
}

/// A refusal of one event or connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    pub code: Code,
    pub message: Cow<'static, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// The client's sentence for an internal failure.
pub const INTERNAL: &str = "Internal error";

impl Refusal {
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), retry_after_ms: None }
    }

    /// Nothing can serve the event now.
    pub fn unavailable() -> Self {
        Self::new(Code::Unavailable, "Service unavailable")
    }

    /// A fault of the plugin or the host.
    pub fn internal() -> Self {
        Self::new(Code::Internal, INTERNAL)
    }

    /// As an acknowledgement: `[{"error":{…}}]`.
    pub fn as_ack(&self) -> String {
        #[derive(Serialize)]
        struct Ack<'a> {
            error: &'a Refusal,
        }
        to_json(&Ack { error: self })
    }

    /// As the event `error`, for a client that did not request an acknowledgement: the argument `{…,"event"}`.
    pub fn as_event_args(&self, event: &str) -> String {
        #[derive(Serialize)]
        struct Event<'a> {
            #[serde(flatten)]
            refusal: &'a Refusal,
            event: &'a str,
        }
        to_json(&Event { refusal: self, event })
    }
}

#[expect(clippy::expect_used, reason = "structs of strings and numbers always serialize")]
fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings and numbers serialize")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_the_contracts_shape() {
        let refusal = Refusal { retry_after_ms: Some(50), ..Refusal::new(Code::RateLimited, "Slow down") };
        assert_eq!(refusal.as_ack(), r#"{"error":{"code":"rate_limited","message":"Slow down","retryAfterMs":50}}"#);
        let args = Refusal::new(Code::NotFound, "Unknown event").as_event_args("x");
        assert_eq!(args, r#"{"code":"not_found","message":"Unknown event","event":"x"}"#);
    }
}

//! A recorded call: the export, the imports with their answers, and the outcome. Holds everything that a rerun needs, and nothing
//! about the recording.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::CallError;
use super::job::Job;
use crate::sandbox::Fault;
use crate::sandbox::exports::{Caller, DisconnectReason, DueTimer, Event, Message};
use crate::transaction::import_log::ImportCall;

/// A call, as one line of a recording.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordedCall {
    /// The time that the call was given, in milliseconds since 1970.
    pub at: u64,
    #[serde(flatten)]
    pub job: RecordedJob,
    /// The imports it called, in order, with their answers; without `clock`, `config`, `log` and `metrics`.
    pub imports: Vec<ImportCall>,
    pub outcome: Outcome,
    /// CPU time, including that of its imports.
    pub cpu_ns: u64,
}

/// An export, with its arguments.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "export", rename_all = "kebab-case")]
pub enum RecordedJob {
    Authorize { caller: Arc<Caller>, auth: String },
    OnConnect { caller: Arc<Caller> },
    OnEvent { caller: Arc<Caller>, event: Event },
    OnDisconnect { caller: Arc<Caller>, reason: DisconnectReason },
    OnMessage { message: Message, key: String, hops: u8 },
    OnTimer { timer: DueTimer },
}

/// The outcome of the handler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// With its reply, if there is one.
    Ok(Option<String>),
    #[serde(rename_all = "camelCase")]
    Refused {
        code: String,
        message: String,
        retry_after_ms: Option<u64>,
    },
    /// The data does not fit the handler's type.
    InvalidData(String),
    Failed(String),
    /// It trapped, or exceeded a limit.
    Trapped(String),
}

impl Outcome {
    pub fn of(answer: &Result<Result<Option<String>, CallError>, Fault>) -> Self {
        match answer {
            Ok(Ok(reply)) => Self::Ok(reply.clone()),
            Ok(Err(CallError::Refused(refusal))) => Self::Refused {
                code: refusal.code.as_str().to_owned(),
                message: refusal.message.to_string(),
                retry_after_ms: refusal.retry_after_ms,
            },
            Ok(Err(CallError::InvalidData(what))) => Self::InvalidData(what.clone()),
            Ok(Err(error)) => Self::Failed(error.to_string()),
            Err(fault) => Self::Trapped(fault.to_string()),
        }
    }

    pub fn to_value(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

impl RecordedJob {
    pub fn of(job: Job<'_>) -> Self {
        match job {
            Job::Authorize { caller, auth, .. } => Self::Authorize { caller: caller.clone(), auth: auth.clone() },
            Job::Connect { caller, .. } => Self::OnConnect { caller: caller.clone() },
            Job::Event { caller, event, .. } => Self::OnEvent { caller: caller.clone(), event: event.clone() },
            Job::Disconnect { caller, reason } => Self::OnDisconnect { caller: caller.clone(), reason },
            Job::Message { message, key, hops, .. } => Self::OnMessage { message: message.clone(), key: key.to_owned(), hops },
            Job::Timer { timer, .. } => Self::OnTimer { timer: timer.clone() },
        }
    }

    /// The job to call.
    pub fn job(&self) -> Job<'_> {
        match self {
            Self::Authorize { caller, auth } => Job::Authorize { caller, auth, peer: None },
            Self::OnConnect { caller } => Job::Connect { caller, peer: None },
            Self::OnEvent { caller, event } => Job::Event { caller, event, peer: None, once: None },
            Self::OnDisconnect { caller, reason } => Job::Disconnect { caller, reason: *reason },
            Self::OnMessage { message, key, hops } => {
                Job::Message { message, key, hops: *hops, handled: false, again: false, active: false }
            }
            Self::OnTimer { timer } => Job::Timer { timer, stored: None, handled: None, again: false },
        }
    }

    /// `on-event chat:message`
    pub fn name(&self) -> String {
        let (export, subject) = self.job().name();
        format!("{export} {subject}")
    }
}

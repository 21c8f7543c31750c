//! The reasons why a call took no effect.

use super::pool::NoInstance;
use crate::budgets::quota::Passed;
use crate::error::Refusal;
use crate::sandbox::Fault;
use crate::telemetry::Outcome;

/// Why a call took no effect.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The plugin refused the call.
    #[error("refused: {}", .0.message)]
    Refused(Refusal),
    /// The data of a message or timer does not fit its handler's type. Not a fault of the release.
    #[error("invalid data: {0}")]
    InvalidData(String),
    /// The plugin failed, with a message for the log, not for a client.
    #[error("it failed: {0}")]
    Failed(String),
    /// The plugin trapped or exceeded a limit.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// No instance could be started, through the release's own fault.
    #[error(transparent)]
    NotStarted(NoInstance),
    /// The plugin's answer is not valid.
    #[error("its answer cannot be used: {0}")]
    Answer(String),
    /// Nothing can serve the call now: there is no release, no instance or no storage.
    #[error("unavailable: {0}")]
    Unavailable(&'static str),
    /// The plugin has used up a quota. Retrying later helps.
    #[error("{0}")]
    OverQuota(Passed),
    /// The message was handled before.
    #[error("handled before")]
    AlreadyHandled,
}

impl From<NoInstance> for CallError {
    fn from(error: NoInstance) -> Self {
        match error {
            NoInstance::OutOfCpu(passed) => Self::OverQuota(passed),
            NoInstance::Busy => Self::Unavailable("all instances were busy for too long"),
            NoInstance::Fault(_) | NoInstance::Init(_) => Self::NotStarted(error),
        }
    }
}

impl CallError {
    /// Whether the call itself is not at fault, so that it may take effect later.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::OverQuota(_) | Self::NotStarted(_))
    }

    /// Whether a retry with the same data cannot succeed.
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::InvalidData(_) | Self::Refused(_))
    }

    /// The outcome in metrics and traces.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Refused(_) => Outcome::Refused,
            Self::InvalidData(_) => Outcome::InvalidData,
            Self::Failed(_) => Outcome::Failed,
            Self::Fault(_) | Self::Answer(_) | Self::NotStarted(_) => Outcome::Fault,
            Self::Unavailable(_) | Self::OverQuota(_) => Outcome::Unavailable,
            Self::AlreadyHandled => Outcome::AlreadyHandled,
        }
    }
}

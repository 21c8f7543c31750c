//! Why a call took no effect.

use super::pool::NoInstance;
use crate::budgets::quota::Passed;
use crate::error::Refusal;
use crate::sandbox::Fault;
use crate::telemetry::Outcome;

/// Why a call took no effect.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The plugin refused, knowingly.
    #[error("refused: {}", .0.message)]
    Refused(Refusal),
    /// The data of a message or timer does not fit what its handler takes: no fault of the release.
    #[error("invalid data: {0}")]
    InvalidData(String),
    /// The plugin could not, and says why; for the log, not for a client.
    #[error("it failed: {0}")]
    Failed(String),
    /// It trapped or passed a limit.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// There was no instance to call, by the release's own fault.
    #[error(transparent)]
    NotStarted(NoInstance),
    /// What it answered cannot be used.
    #[error("its answer cannot be used: {0}")]
    Answer(String),
    /// Nothing can serve the call now: no release, no instance, or no storage.
    #[error("unavailable: {0}")]
    Unavailable(&'static str),
    /// The plugin has used what it may for now. Trying later helps.
    #[error("{0}")]
    OverQuota(Passed),
    /// The message was handled before.
    #[error("handled before")]
    AlreadyHandled,
}

impl From<NoInstance> for CallError {
    fn from(error: NoInstance) -> Self {
        match error {
            NoInstance::Tired(passed) => Self::OverQuota(passed),
            NoInstance::Busy => Self::Unavailable("all instances were busy for too long"),
            NoInstance::Fault(_) | NoInstance::Init(_) => Self::NotStarted(error),
        }
    }
}

impl CallError {
    /// Whether nothing is wrong with the call: later it may take effect.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::OverQuota(_) | Self::NotStarted(_))
    }

    /// Whether trying again with the same data is of no use.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::InvalidData(_) | Self::Refused(_))
    }

    /// As figures and traces name it.
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

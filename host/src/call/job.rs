//! A job: one call of one export of a plugin, with its arguments. Does not handle instances or commits.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use super::breaker::Source;
use super::error::CallError;
use super::key::Key;
use super::release::Release;
use crate::error::{Code, Refusal};
use crate::sandbox::exports::{self, Caller, DisconnectReason, DueTimer, Event, Message};
use crate::sandbox::imports::types::RefusalCode;
use crate::sandbox::{Fault, Instance};
use crate::transaction::profile::Tenancy;
use crate::transaction::state::{State, StoredTimer};

/// The longest message of a refusal or a failure, in bytes.
const MAX_SENTENCE: usize = 1024;

/// The prefix of a failure that blames the data, not the plugin. The contract in `wit/plugin.wit` names it, and the SDK writes it
/// where data does not fit its handler's type.
const INVALID_DATA: &str = "invalid data: ";

/// The export to call.
#[derive(Clone, Copy)]
pub enum Job<'a> {
    /// `peer`, in each call of a client: a hash of the client's address.
    Authorize {
        caller: &'a Arc<Caller>,
        auth: &'a String,
        peer: Option<u64>,
    },
    Connect {
        caller: &'a Arc<Caller>,
        peer: Option<u64>,
    },
    Event {
        caller: &'a Arc<Caller>,
        event: &'a Event,
        peer: Option<u64>,
        /// The field of the payload that is its idempotency key.
        once: Option<&'a str>,
    },
    Disconnect {
        caller: &'a Arc<Caller>,
        reason: DisconnectReason,
    },
    Message {
        message: &'a Message,
        key: &'a str,
        hops: u8,
        /// It is from the outbox, and its id is stored with its effects. Neither holds for a notice.
        handled: bool,
        /// It has failed before: circuit breakers count a message once.
        again: bool,
        /// No canary may handle it.
        active: bool,
    },
    /// `handled`: the id under which a schedule runs once in the cluster. `again`: as for a message.
    Timer {
        timer: &'a DueTimer,
        stored: Option<&'a StoredTimer>,
        handled: Option<&'a str>,
        again: bool,
    },
}

impl<'a> Job<'a> {
    pub(crate) fn caller(&self) -> Option<&'a Arc<Caller>> {
        match self {
            Self::Authorize { caller, .. }
            | Self::Connect { caller, .. }
            | Self::Event { caller, .. }
            | Self::Disconnect { caller, .. } => Some(caller),
            Self::Message { .. } | Self::Timer { .. } => None,
        }
    }

    /// The key by which a canary is chosen, so that one user is always served by the same release.
    pub(crate) fn key(&self) -> Key<'a> {
        match self {
            Self::Message { key, .. } => Key::Text(key),
            Self::Timer { timer, .. } => Key::Text(&timer.key),
            Self::Authorize { caller, .. }
            | Self::Connect { caller, .. }
            | Self::Event { caller, .. }
            | Self::Disconnect { caller, .. } => match &caller.user {
                Some(user) => match &user.tenant {
                    Some(tenant) => Key::User { tenant, id: &user.id },
                    None => Key::Text(&user.id),
                },
                None => Key::Socket(caller.socket),
            },
        }
    }

    /// The subject of the call, for faults of a release: the user, a visitor's address, a message or a timer. Repeated faults of
    /// one subject count once. None where calls cannot be distinguished.
    pub(crate) fn subject(&self) -> Option<u64> {
        let mut hasher = DefaultHasher::new();
        match self {
            Self::Message { message, .. } => message.id.hash(&mut hasher),
            Self::Timer { timer, .. } if timer.payload.is_none() => return None,
            Self::Timer { timer, .. } => (&timer.key, &timer.tenant).hash(&mut hasher),
            Self::Authorize { caller, peer, .. } | Self::Connect { caller, peer } | Self::Event { caller, peer, .. } => {
                match &caller.user {
                    Some(user) => (&user.tenant, &user.id).hash(&mut hasher),
                    None => return Some(peer.unwrap_or(caller.socket)),
                }
            }
            Self::Disconnect { caller, .. } => match &caller.user {
                Some(user) => (&user.tenant, &user.id).hash(&mut hasher),
                None => return Some(caller.socket),
            },
        }
        Some(hasher.finish())
    }

    /// The source of the call, for the circuit breakers.
    pub(crate) fn source(&self) -> Source {
        match self {
            Self::Authorize { .. } => Source::Authorize,
            Self::Connect { .. } => Source::Connects,
            Self::Event { .. } => Source::Events,
            Self::Disconnect { .. } => Source::Disconnects,
            Self::Message { handled: true, .. } => Source::Messages,
            Self::Message { .. } => Source::Notices,
            // A schedule has no payload, and a timer always has one.
            Self::Timer { timer, .. } if timer.payload.is_none() => Source::Schedules,
            Self::Timer { .. } => Source::Timers,
        }
    }

    /// Whether it is a retry.
    pub(crate) fn is_retry(&self) -> bool {
        matches!(self, Self::Message { again: true, .. } | Self::Timer { again: true, .. })
    }

    /// Whether only the active release may serve it.
    pub(crate) fn is_for_active(&self) -> bool {
        matches!(self, Self::Message { active: true, .. })
    }

    pub(crate) fn event(&self) -> Option<&'a str> {
        match self {
            Self::Event { event, .. } => Some(&event.name),
            _ => None,
        }
    }

    pub(crate) fn hops(&self) -> u8 {
        match self {
            Self::Message { hops, .. } => *hops,
            _ => 0,
        }
    }

    /// The id that ensures that the call is handled once.
    pub(crate) fn handled(&self) -> Option<String> {
        match self {
            Self::Message { message, handled: true, .. } => Some(message.id.clone()),
            Self::Timer { handled, .. } => handled.map(str::to_owned),
            _ => None,
        }
    }

    /// The export and its subject, for the log.
    pub(crate) fn name(&self) -> (&'static str, &'a str) {
        match self {
            Self::Authorize { caller, .. } => ("authorize", &caller.namespace),
            Self::Connect { caller, .. } => ("on-connect", &caller.namespace),
            Self::Event { event, .. } => ("on-event", &event.name),
            Self::Disconnect { caller, .. } => ("on-disconnect", &caller.namespace),
            Self::Message { message, .. } => ("on-message", &message.topic),
            Self::Timer { timer, .. } => ("on-timer", &timer.key),
        }
    }
}

/// The tenant that scopes a call, if the plugin has tenants.
pub(crate) fn tenant(release: &Release, job: Job<'_>) -> Result<Option<Arc<str>>, CallError> {
    let named = match job {
        Job::Message { message, .. } => message.tenant.as_deref(),
        Job::Timer { timer, .. } => timer.tenant.as_deref(),
        _ => job.caller().and_then(|caller| caller.user.as_ref()).and_then(|user| user.tenant.as_deref()),
    };
    let tenant = named.or(release.profile.default_tenant.as_deref());
    match (release.profile.tenancy, tenant) {
        (_, Some(tenant)) => Ok(Some(tenant.into())),
        (Tenancy::None | Tenancy::Optional, None) => Ok(None),
        // A schedule belongs to no tenant; the keys it uses name one.
        (_, None) if matches!(job, Job::Timer { .. }) => Ok(None),
        (Tenancy::Required, None) if matches!(job, Job::Message { .. }) => {
            Err(CallError::InvalidData("the message belongs to no tenant".to_owned()))
        }
        (Tenancy::Required, None) => Err(CallError::Refused(Refusal::new(Code::Forbidden, "The user belongs to no tenant"))),
    }
}

/// Calls the export.
pub(crate) async fn invoke(instance: &mut Instance<State>, job: Job<'_>) -> Result<Result<Option<String>, CallError>, Fault> {
    let failed = |failure: exports::Failure| CallError::Failed(cut(failure.message));
    Ok(match job {
        Job::Authorize { caller, auth, .. } => instance.authorize(caller, auth).await?.map(|()| None).map_err(refused),
        Job::Connect { caller, .. } => instance.on_connect(caller).await?.map(|()| None).map_err(failed),
        Job::Event { caller, event, .. } => instance.on_event(caller, event).await?.map_err(refused),
        Job::Disconnect { caller, reason } => {
            instance.on_disconnect(caller, reason).await?;
            Ok(None)
        }
        Job::Message { message, .. } => instance.on_message(message).await?.map(|()| None).map_err(failed_on_data),
        Job::Timer { timer, .. } => instance.on_timer(timer).await?.map(|()| None).map_err(failed_on_data),
    })
}

/// The failure of a call with data, which the data may have caused.
fn failed_on_data(failure: exports::Failure) -> CallError {
    match failure.message.strip_prefix(INVALID_DATA) {
        Some(what) => CallError::InvalidData(cut(what.to_owned())),
        None => CallError::Failed(cut(failure.message)),
    }
}

/// Cuts a plugin's sentence to its limit.
fn cut(mut sentence: String) -> String {
    sentence.truncate(sentence.floor_char_boundary(MAX_SENTENCE));
    sentence
}

fn refused(refusal: exports::Refusal) -> CallError {
    let code = match refusal.code {
        RefusalCode::Unauthenticated => Code::Unauthenticated,
        RefusalCode::Forbidden => Code::Forbidden,
        RefusalCode::NotFound => Code::NotFound,
        RefusalCode::Invalid => Code::Invalid,
        RefusalCode::RateLimited => Code::RateLimited,
        RefusalCode::TooLarge => Code::TooLarge,
        RefusalCode::Unavailable => Code::Unavailable,
        RefusalCode::Internal => Code::Internal,
    };
    CallError::Refused(Refusal { retry_after_ms: refusal.retry_after_ms, ..Refusal::new(code, cut(refusal.message)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(message: &str) -> CallError {
        failed_on_data(exports::Failure { message: message.to_owned() })
    }

    #[test]
    fn the_prefix_of_a_failure_blames_the_data() {
        assert!(matches!(failed("invalid data: who: missing"), CallError::InvalidData(what) if what == "who: missing"));
        assert!(matches!(failed("it has invalid data: who: missing"), CallError::Failed(_)));
        assert!(matches!(failed("Invalid data"), CallError::Failed(_)));
    }

    #[test]
    fn a_failure_message_is_cut_at_its_limit() {
        let (long, at_limit) = (format!("x{}", "é".repeat(MAX_SENTENCE)), "x".repeat(MAX_SENTENCE));
        assert!(matches!(failed(&at_limit), CallError::Failed(text) if text == at_limit));
        assert!(matches!(failed(&long), CallError::Failed(text) if text.len() == MAX_SENTENCE - 1));
        assert!(
            matches!(failed(&format!("{INVALID_DATA}{long}")), CallError::InvalidData(text) if text.len() == MAX_SENTENCE - 1)
        );
    }
}

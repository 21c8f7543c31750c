//! Events that take effect once: a repeat gets the first reply again, for 24 hours. It has no limit of bytes.

use serde_json::Value;

use super::{
    World,
    call::{About, Call, Effect, Scoped, To},
};
use crate::Refusal;

/// The host's default of `once.keep`, in milliseconds.
const KEEP: u64 = 24 * 60 * 60 * 1000;

/// The longest key, in characters.
const MAX_KEY: usize = 64;

/// The identity of an event: a repeat has the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Once {
    user: Scoped,
    namespace: String,
    event: String,
    key: String,
}

/// The first reply, the events to the caller, and the time.
#[derive(Debug)]
pub(crate) struct FirstReply {
    reply: Option<String>,
    to_caller: Vec<(String, Vec<Value>)>,
    at: u64,
}

impl Once {
    /// None for an event without a key, and for a visitor's.
    pub(crate) fn of(about: &About, event: &str, args: &str, field: &str) -> Result<Option<Self>, Refusal> {
        let Some(user) = &about.user else { return Ok(None) };
        let args: Value = serde_json::from_str(args).unwrap_or_default();
        let key = args.get(0).and_then(|payload| payload.get(field)).filter(|key| !key.is_null());
        let Some(key) = key else { return Ok(None) };
        let Some(key) = key.as_str().filter(|key| (1..=MAX_KEY).contains(&key.chars().count())) else {
            return Err(Refusal::invalid(format!("{field}: expected a text of 1 to {MAX_KEY} characters")));
        };
        let user = Scoped { tenant: user.tenant.clone(), name: user.id.clone() };
        Ok(Some(Self { user, namespace: about.namespace.clone(), event: event.to_owned(), key: key.to_owned() }))
    }
}

impl World {
    /// The first reply, if this is a repeat. The caller gets the events of the first call again.
    pub(crate) fn repeat(&mut self, once: &Once, socket: u64) -> Option<Option<String>> {
        let now = self.now;
        let first = self.first_replies.get(once).filter(|first| now - first.at < KEEP)?;
        if let Some(socket) = self.sockets.get_mut(&socket) {
            socket.inbox.extend(first.to_caller.iter().cloned());
        }
        Some(first.reply.clone())
    }

    /// Stores the reply of a call that has taken effect.
    pub(crate) fn remember(&mut self, once: Once, reply: Option<String>, call: &Call) {
        let to_caller = call.effects.iter().filter_map(|effect| match effect {
            Effect::Emit { to: To::Caller, event, args } => Some((event.clone(), args.clone())),
            _ => None,
        });
        let first = FirstReply { reply, to_caller: to_caller.collect(), at: self.now };
        self.first_replies.insert(once, first);
    }
}

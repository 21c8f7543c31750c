//! Events that take effect once: a repeat gets the first reply again. The record is written in the transaction of the first call, and a
//! second record of the same key is a conflict, so that of two repeats at the same time one takes effect on any node.

use std::sync::Arc;

use serde_json::value::RawValue;
use tokio::sync::MutexGuard;

use super::commit;
use super::effects::{Effects, Emit, Live, Target};
use super::onces;
use super::services::Services;
use super::state::name_of;
use crate::duration::millis;
use crate::error::{Code, Refusal};
use crate::json;
use crate::names::{SEPARATOR, SocketId};
use crate::sandbox::exports::{Caller, Event};
use crate::storage::{FirstReply, FirstReplyBounds, Unavailable};

/// The longest key, in characters.
const MAX_KEY: usize = 64;

/// The key of one event.
pub(crate) struct Once {
    /// The user, within the tenant.
    owner: String,
    /// Namespace, event and key. The plugin is no part of it: another plugin may take over the event.
    key: String,
    namespace: Arc<str>,
    socket: SocketId,
}

impl Once {
    /// The key in the field of an event. None for an event without it, and for a visitor's.
    ///
    /// # Errors
    /// The key is not valid.
    pub(crate) fn of(services: &Services, caller: &Caller, event: &Event, field: &str) -> Result<Option<Self>, Refusal> {
        let Some(user) = &caller.user else { return Ok(None) };
        let value = json::field_of_first(&event.args, field).filter(|value| value.get() != "null");
        let Some(value) = value else { return Ok(None) };
        let key: Option<String> = serde_json::from_str(value.get()).ok();
        let Some(key) = key.filter(|key| !key.is_empty() && key.chars().count() <= MAX_KEY) else {
            let sentence = format!("{field}: expected a text of 1 to {MAX_KEY} characters");
            return Err(Refusal::new(Code::Invalid, sentence));
        };
        if services.onces.config.keep.is_zero() {
            return Ok(None);
        }
        let key = format!("{}{SEPARATOR}{}{SEPARATOR}{key}", caller.namespace, event.name);
        let namespace = caller.namespace.as_str().into();
        Ok(Some(Self { owner: name_of(user), key, namespace, socket: caller.socket }))
    }

    /// Waits for other calls with the same key on this node: a repeat then finds the first reply, and takes no budget of the plugin.
    pub(crate) async fn lock<'a>(&self, services: &'a Services) -> Option<MutexGuard<'a, ()>> {
        services.onces.lock(&self.owner, &self.key).await
    }

    /// The first reply, if this is a repeat. The events that the first call sent to its caller are sent again.
    ///
    /// # Errors
    /// Storage does not answer.
    pub(crate) async fn repeated(&self, services: &Services) -> Result<Option<String>, Unavailable> {
        let since_ms = self.bounds(services).since_ms;
        let found = services.storage.first_reply(&self.owner, &self.key, since_ms).await?;
        let Some((reply, events)) = found.as_deref().and_then(decode) else { return Ok(None) };
        let emit = |text: String| {
            let to = Target::Socket(self.socket);
            Live::Emit(Emit {
                namespace: self.namespace.clone(),
                to,
                except: Vec::new(),
                except_socket: None,
                text,
                volatile: false,
            })
        };
        commit::apply(services, events.into_iter().map(emit).collect()).await;
        services.metrics.once_repeats.inc();
        Ok(Some(reply))
    }

    /// The record of the first call.
    pub(crate) fn record(&self, services: &Services, reply: Option<&str>, effects: &Effects) -> FirstReply {
        let reply = encode(reply.unwrap_or("{}"), effects, self.socket).into();
        FirstReply { owner: self.owner.clone(), key: self.key.clone(), reply, bounds: self.bounds(services) }
    }

    fn bounds(&self, services: &Services) -> FirstReplyBounds {
        let onces::Config { keep, user_bytes, plugin_bytes } = services.onces.config;
        let since_ms = services.clock.before_ms(millis(keep));
        FirstReplyBounds { since_ms, owner_bytes: user_bytes, plugin_bytes }
    }
}

/// One JSON array: the reply, then the events that the call sends to its caller alone.
fn encode(reply: &str, effects: &Effects, caller: SocketId) -> String {
    let to_caller = effects.live.iter().filter_map(|live| match live {
        Live::Emit(Emit { to: Target::Socket(socket), text, .. }) if *socket == caller => Some(text.as_str()),
        _ => None,
    });
    let parts: Vec<&str> = std::iter::once(reply).chain(to_caller).collect();
    format!("[{}]", parts.join(","))
}

fn decode(record: &[u8]) -> Option<(String, Vec<String>)> {
    let parts: Vec<Box<RawValue>> = serde_json::from_slice(record).ok()?;
    let mut parts = parts.into_iter().map(|part| Box::<str>::from(part).into_string());
    Some((parts.next()?, parts.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn emit(to: Target, text: &str) -> Live {
        let text = text.to_owned();
        Live::Emit(Emit { namespace: "/".into(), to, except: Vec::new(), except_socket: None, text, volatile: false })
    }

    #[test]
    fn a_record_holds_the_reply_and_the_events_to_the_caller() {
        let live = vec![
            emit(Target::Socket(7), r#"["sent",{"id":1}]"#),
            emit(Target::Socket(8), r#"["seen",{}]"#),
            emit(Target::Everyone, r#"["new",{}]"#),
            emit(Target::Socket(7), r#"["badge",2]"#),
        ];
        let mut effects = Effects::default();
        effects.live = live;
        let record = encode(r#"{"id":1}"#, &effects, 7);
        let events = vec![r#"["sent",{"id":1}]"#.to_owned(), r#"["badge",2]"#.to_owned()];
        assert_eq!(decode(record.as_bytes()), Some((r#"{"id":1}"#.to_owned(), events)));
        assert_eq!(decode(encode("{}", &Effects::default(), 7).as_bytes()), Some(("{}".to_owned(), Vec::new())));
        assert_eq!(decode(b"[]"), None);
    }
}

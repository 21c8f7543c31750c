//! `emitter.wit`: events to clients, collected as the text of their packets.

use std::sync::Arc;

use crate::sandbox::imports::emitter::{Delivery, Host};
use crate::sandbox::imports::types::EffectError;
use crate::transaction::effects::{Emit, Live, Target};
use crate::transaction::profile::Tenancy;
use crate::transaction::state::{State, invalid_name};
use crate::{json, names};

type Answer = wasmtime::Result<Result<(), EffectError>>;

/// The most rooms that one emit may name.
const MAX_ROOMS: usize = 64;

/// The most users that one emit may name.
const MAX_USERS: usize = 1000;

impl Host for State {
    fn to_caller(&mut self, event: String, args: String) -> Answer {
        self.emit(event.len() + args.len(), |state| {
            let caller = state.caller()?;
            let to = Target::Socket(caller.socket);
            let namespace = caller.namespace.as_str().into();
            state.packet(namespace, to, &event, &args, Delivery::empty())
        })
    }

    fn to_room(&mut self, namespace: String, room: String, event: String, args: String, how: Delivery) -> Answer {
        self.emit(namespace.len() + room.len() + event.len() + args.len(), |state| {
            let to = state.room_target(&room)?;
            state.packet(state.namespace(&namespace)?, to, &event, &args, how)
        })
    }

    fn to_rooms(
        &mut self,
        namespace: String,
        rooms: Vec<String>,
        except: Vec<String>,
        event: String,
        args: String,
        how: Delivery,
    ) -> Answer {
        let names: usize = rooms.iter().chain(&except).map(String::len).sum();
        self.emit(namespace.len() + names + event.len() + args.len(), |state| {
            if rooms.len() + except.len() > MAX_ROOMS {
                return Err(EffectError::Denied(format!("an emit names at most {MAX_ROOMS} rooms")));
            }
            let scope = |names: &[String]| names.iter().map(|name| state.room(name)).collect::<Result<Vec<_>, _>>();
            let to = Target::Rooms(scope(&rooms)?);
            let mut emit = state.packet(state.namespace(&namespace)?, to, &event, &args, how)?;
            emit.except = scope(&except)?;
            Ok(emit)
        })
    }

    fn to_users(&mut self, namespace: String, users: Vec<String>, event: String, args: String, how: Delivery) -> Answer {
        let names: usize = users.iter().map(String::len).sum();
        self.emit(namespace.len() + names + event.len() + args.len(), |state| {
            if users.len() > MAX_USERS {
                return Err(EffectError::Denied(format!("an emit names at most {MAX_USERS} users")));
            }
            let users = users.iter().map(|user| state.user(user)).collect::<Result<_, _>>()?;
            state.packet(state.namespace(&namespace)?, Target::Users(users), &event, &args, how)
        })
    }

    fn to_tenant(&mut self, namespace: String, tenant: String, event: String, args: String, how: Delivery) -> Answer {
        self.emit(namespace.len() + tenant.len() + event.len() + args.len(), |state| {
            names::check("tenant", &tenant).map_err(invalid_name)?;
            // In a plugin with tenants a call without a tenant cannot name one either.
            if state.profile.tenancy != Tenancy::None && state.scope()? != Some(&tenant) {
                return Err(EffectError::Denied("another tenant cannot be named".into()));
            }
            state.packet(state.namespace(&namespace)?, Target::Tenant(tenant), &event, &args, how)
        })
    }

    fn to_namespace(&mut self, namespace: String, event: String, args: String, how: Delivery) -> Answer {
        self.emit(namespace.len() + event.len() + args.len(), |state| {
            if state.profile.tenancy != Tenancy::None {
                return Err(EffectError::Denied("a namespace holds more than one tenant".into()));
            }
            state.packet(state.namespace(&namespace)?, Target::Everyone, &event, &args, how)
        })
    }
}

impl State {
    fn emit(&mut self, bytes: usize, emit: impl FnOnce(&Self) -> Result<Emit, EffectError>) -> Answer {
        if let Err(refused) = self.effect(bytes)? {
            return Ok(Err(refused));
        }
        Ok(emit(self).map(|emit| self.call.effects.live.push(Live::Emit(emit))))
    }

    /// A room, or for `user:{id}` the user's sockets: the host's rooms can be sent to, but not joined.
    fn room_target(&self, room: &str) -> Result<Target, EffectError> {
        Ok(match room.strip_prefix("user:") {
            Some(user) => Target::Users(vec![self.user(user)?]),
            None => Target::Rooms(vec![self.room(room)?]),
        })
    }

    fn packet(&self, namespace: Arc<str>, to: Target, event: &str, args: &str, how: Delivery) -> Result<Emit, EffectError> {
        names::check_event(event).map_err(invalid_name)?;
        let inside = json::check_array(args).map_err(|e| EffectError::InvalidJson(e.to_string()))?;
        let except_caller = how.contains(Delivery::EXCEPT_CALLER);
        Ok(Emit {
            namespace,
            to,
            except: Vec::new(),
            except_socket: self.call.caller.as_ref().filter(|_| except_caller).map(|caller| caller.socket),
            text: packet_text(event, inside),
            volatile: how.contains(Delivery::VOLATILE),
        })
    }
}

/// `["event",args]`, from a checked name and the text between the brackets of checked arguments.
pub fn packet_text(event: &str, inside: &str) -> String {
    let mut text = String::with_capacity(event.len() + inside.len() + 5);
    text.push('[');
    if event.contains(['"', '\\']) {
        text.push_str(&serde_json::Value::from(event).to_string());
    } else {
        // Control characters are refused, so nothing else needs an escape.
        text.push('"');
        text.push_str(event);
        text.push('"');
    }
    if !inside.is_empty() {
        text.push(',');
        text.push_str(inside);
    }
    text.push(']');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_holds_the_name_and_the_arguments() {
        assert_eq!(packet_text("a", r#"{"b":1}"#), r#"["a",{"b":1}]"#);
        assert_eq!(packet_text("a", ""), r#"["a"]"#);
        assert_eq!(packet_text(r#"a"b"#, "1"), r#"["a\"b",1]"#);
    }
}

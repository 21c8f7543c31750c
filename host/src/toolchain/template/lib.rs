//! plugin-name: a chat in rooms. Nothing may stay in memory between calls: lasting state is in the store.

use hubbub_sdk::{Caller, Refusal, Result, emitter::Emits, plugin, rooms, store};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const NAMESPACE: &str = "/plugin-name";

/// Sent to everyone in a room.
const SAID: Emits<Said> = Emits::new(NAMESPACE, "said");

/// `{room}`, from a client.
#[derive(Deserialize, JsonSchema)]
struct Join {
    room: String,
}

#[derive(Serialize, JsonSchema)]
struct Joined {
    room: String,
    /// Sockets in the room, on all nodes.
    here: u64,
    /// Number of texts ever said in the room.
    said: i64,
}

/// `{room, text}`, from a client.
#[derive(Deserialize, JsonSchema)]
struct Say {
    room: String,
    text: String,
}

#[derive(Serialize, JsonSchema)]
struct Said {
    room: String,
    text: String,
    by: String,
}

/// The plugin. For settings, add `fn init(config: Config) -> Self`.
#[derive(Default)]
pub struct PluginName;

#[plugin(name = "plugin-name")]
#[door("/plugin-name", token = "optional")]
#[room("/plugin-name", "room:{room}")]
#[emits(SAID)]
impl PluginName {
    #[on("join", reply)]
    fn join(Join { room }: Join) -> Result<Joined> {
        rooms::join(&id(&room))?;
        let here = rooms::size(NAMESPACE, &id(&room))?.sockets;
        Ok(Joined { here, said: store::counter(&count(&room))?, room })
    }

    #[on("say", invalid = "Say what, and where?")]
    fn say(caller: &Caller, Say { room, text }: Say) -> Result<()> {
        if !rooms::joined(&id(&room))? {
            return Err(Refusal::forbidden("Join the room first"));
        }
        store::add(&count(&room), 1)?;
        let by = caller.user.as_ref().map_or("a visitor", |user| user.display_name()).to_owned();
        Ok(SAID.to_room(&id(&room), &Said { room: room.clone(), text, by })?)
    }
}

fn id(room: &str) -> String {
    format!("room:{room}")
}

fn count(room: &str) -> String {
    store::key(["said", room])
}

#[cfg(test)]
mod tests {
    use hubbub_sdk::harness::{Harness, user, visitor};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_text_is_sent_to_everyone_in_the_room() {
        let app = Harness::<PluginName>::new();
        let (ana, ben) = (app.connect(NAMESPACE, user("u1").name("Ana")), app.connect(NAMESPACE, visitor()));
        ana.emit("join", json!({"room": "hall"})).expect_reply(json!({"room": "hall", "here": 1, "said": 0}));
        ben.emit("join", json!({"room": "hall"})).expect_reply(json!({"room": "hall", "here": 2, "said": 0}));

        ana.emit("say", json!({"room": "hall", "text": "hello"})).expect_ok();
        ben.expect("said", json!({"room": "hall", "text": "hello", "by": "Ana"}));
        ben.emit("join", json!({"room": "hall"})).expect_reply(json!({"room": "hall", "here": 2, "said": 1}));
    }

    #[test]
    fn only_members_of_a_room_may_say_something() {
        let app = Harness::<PluginName>::new();
        let ana = app.connect(NAMESPACE, user("u1").name("Ana"));
        ana.emit("say", json!({"room": "hall", "text": "hello"})).expect_refusal("forbidden", "Join the room first");
        ana.emit("say", json!({"room": "hall"})).expect_refusal("invalid", "Say what, and where?");
    }
}

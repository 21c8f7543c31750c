//! plugin-name: clients join a room and send texts to its members. A plugin keeps nothing in memory between calls: what must last is
//! stored.

use hubbub_sdk::{Caller, Refusal, Result, emitter::Emits, plugin, rooms::Room, store};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The rooms of this plugin, one for each name that a client gives.
const ROOM: Room = Room::new("/plugin-name", "room:{room}");

/// Sent to all members of a room.
const SAID: Emits<Said> = Emits::new("/plugin-name", "said");

#[derive(Deserialize, JsonSchema)]
struct Join {
    room: String,
}

#[derive(Serialize, JsonSchema)]
struct Joined {
    room: String,
    /// Sockets in the room, on all nodes.
    here: u64,
    /// The number of texts that were ever sent to the room.
    said: i64,
}

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

/// The plugin. It has no settings yet; `fn init(config: Config) -> Self` would read them.
#[derive(Default)]
pub struct PluginName;

#[plugin(name = "plugin-name")]
#[door("/plugin-name", token = "optional")]
#[rooms(ROOM)]
#[emits(SAID)]
impl PluginName {
    #[on("join", reply)]
    fn join(Join { room }: Join) -> Result<Joined> {
        ROOM.of(&room).join()?;
        let here = ROOM.of(&room).size()?.sockets;
        Ok(Joined { here, said: store::counter(&count(&room))?, room })
    }

    #[on("say", invalid = "Say what, and where?")]
    fn say(caller: &Caller, Say { room, text }: Say) -> Result<()> {
        let members = ROOM.of(&room);
        if !members.joined()? {
            return Err(Refusal::forbidden("Join the room first"));
        }
        store::add(&count(&room), 1)?;
        let by = caller.user.as_ref().map_or("a visitor", |user| user.display_name()).to_owned();
        SAID.to_room(&members, &Said { room, text, by })
    }
}

/// The key of a room's number of texts.
fn count(room: &str) -> String {
    store::key(["said", room])
}

#[cfg(test)]
mod tests {
    use hubbub_sdk::harness::{Harness, user, visitor};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_text_reaches_everyone_in_the_room() {
        let app = Harness::<PluginName>::new();
        let (ana, ben) = (app.connect("/plugin-name", user("u1").name("Ana")), app.connect("/plugin-name", visitor()));
        ana.emit("join", json!({"room": "hall"})).expect_reply(json!({"room": "hall", "here": 1, "said": 0}));
        ben.emit("join", json!({"room": "hall"})).expect_reply(json!({"room": "hall", "here": 2, "said": 0}));

        ana.emit("say", json!({"room": "hall", "text": "hello"})).expect_ok();
        ben.expect("said", json!({"room": "hall", "text": "hello", "by": "Ana"}));
        ben.emit("join", json!({"room": "hall"})).expect_reply(json!({"room": "hall", "here": 2, "said": 1}));
    }

    #[test]
    fn a_client_outside_the_room_is_refused() {
        let app = Harness::<PluginName>::new();
        let ana = app.connect("/plugin-name", user("u1").name("Ana"));
        ana.emit("say", json!({"room": "hall", "text": "hello"})).expect_refusal("forbidden", "Join the room first");
        ana.emit("say", json!({"room": "hall"})).expect_refusal("invalid", "Say what, and where?");
    }
}

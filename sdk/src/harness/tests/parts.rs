//! A plugin of several blocks, with an event and a room in two namespaces.

use serde_json::json;

use crate::{
    Caller, Plugin, Result, Timer, User,
    emitter::Emits,
    harness::{Harness, user, visitor},
    plugin,
    rooms::Room,
    store,
};

#[derive(Default)]
struct Desk;

#[plugin(name = "desk", version = "1.0.0")]
#[door("/hub", token = "required")]
#[namespace("/portal", missing = "Please sign in")]
#[parts(threads, counts)]
impl Desk {
    #[on_message("thread.ended")]
    fn ended(thread: String) -> Result<()> {
        store::put("ended", &thread)
    }
}

mod threads {
    use super::*;

    const BOTH: &[&str] = &["/hub", "/portal"];

    pub(super) const ROOM: Room = Room::in_each(BOTH, "thread:{id}");
    const SAID: Emits<String> = Emits::in_each(BOTH, "said");

    #[plugin(part, namespaces = ["/hub", "/portal"])]
    #[rooms(ROOM)]
    #[emits(SAID)]
    #[tenant_keys("threads/")]
    impl Desk {
        #[authorize("/hub")]
        fn let_in(user: &User) -> Result<()> {
            if user.id == "eve" { Err(crate::Refusal::forbidden("Not you")) } else { Ok(()) }
        }

        #[on("join")]
        fn join(thread: String) -> Result<u64> {
            ROOM.of(&thread).join()?;
            Ok(ROOM.of(&thread).size()?.sockets)
        }

        #[on("say")]
        fn say(user: &User, thread: String, text: String) -> Result<()> {
            SAID.to_room(&ROOM.of(&thread), &format!("{}: {text}", user.id))
        }

        #[on("thread", namespace = "/hub")]
        fn thread_of(caller: &Caller) -> Result<String> {
            Ok(caller.namespace.clone())
        }

        #[on_message("thread.ended")]
        fn thread_ended(thread: String) -> Result<()> {
            SAID.to_room(&ROOM.of(&thread), &"ended".to_owned())
        }
    }
}

mod counts {
    use super::*;

    #[plugin(part, namespace = "/portal")]
    impl Desk {
        #[on_connect]
        fn count(user: Option<&User>) -> Result<()> {
            store::add(if user.is_some() { "users" } else { "visitors" }, 1)
        }

        #[schedule("hourly", every_ms = 3_600_000, scope = "once")]
        fn hourly(timer: &Timer) -> Result<()> {
            store::put("hour", &timer.due)
        }
    }
}

#[test]
fn the_parts_of_a_plugin_have_one_description() {
    let description = Desk::describe();
    let events = description.events.iter().map(|event| (event.namespace.as_str(), event.name.as_str()));
    let expected = [("/hub", "join"), ("/portal", "join"), ("/hub", "say"), ("/portal", "say"), ("/hub", "thread")];
    assert_eq!(events.collect::<Vec<_>>(), expected);
    let emits = description.emits.iter().map(|event| event.namespace.as_str());
    assert_eq!(emits.collect::<Vec<_>>(), ["/hub", "/portal"]);
    let rooms = description.rooms.iter().map(|room| (room.namespace.as_str(), room.pattern.as_str()));
    assert_eq!(rooms.collect::<Vec<_>>(), [("/hub", "thread:{id}"), ("/portal", "thread:{id}")]);
    assert_eq!(description.topics, ["thread.ended"]);
    assert_eq!((description.schedules.len(), description.tenant_keys.len()), (1, 1));
    assert!(description.namespaces[0].door.as_ref().is_some_and(|door| door.authorize));
}

#[test]
fn one_emit_reaches_the_room_in_both_namespaces() {
    let app = Harness::<Desk>::new();
    let (ana, ben) = (app.connect("/hub", user("ana")), app.connect("/portal", user("ben")));
    ana.emit("join", json!("1")).expect_ack(json!(1));
    ben.emit("join", json!("1")).expect_ack(json!(2));
    ben.emit_args("say", vec![json!("1"), json!("hi")]).expect_ok();
    for client in [&ana, &ben] {
        client.expect("said", json!("ben: hi"));
        client.expect_nothing();
    }
    ben.emit_bare("thread").expect_refusal("not_found", "Unknown event");
    assert_eq!(app.try_connect("/hub", user("eve")).map(drop), Err("Not you".to_owned()));
}

#[test]
fn every_part_that_handles_a_message_is_called() {
    let app = Harness::<Desk>::new();
    let ana = app.connect("/hub", user("ana"));
    ana.emit("join", json!("1")).expect_ack(json!(1));
    app.publish("thread.ended", json!("1"));
    ana.expect("said", json!("ended"));
    assert_eq!(app.stored::<String>("ended").as_deref(), Some("1"));
}

#[test]
fn a_handler_that_takes_a_user_refuses_visitors_with_the_namespaces_sentence() {
    let app = Harness::<Desk>::new();
    let (guest, _ben) = (app.connect("/portal", visitor()), app.connect("/portal", user("ben")));
    guest.emit_args("say", vec![json!("1"), json!("hi")]).expect_refusal("unauthenticated", "Please sign in");
    let counted = ["users", "visitors"].map(|key| app.inside(|| store::counter(key)));
    assert_eq!(counted, [Ok(1), Ok(1)]);
    app.advance(std::time::Duration::from_secs(3600));
    assert_eq!(app.stored::<u64>("hour"), Some(app.now()));
}

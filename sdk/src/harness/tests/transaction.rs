//! All of a call's effects or none of them, and its own ones visible to itself.

use serde_json::json;

use crate::{
    Caller, EffectError, Refusal, Result, emitter,
    harness::{Harness, user},
    log, plugin, rooms,
    store::{self, Entry},
};

#[derive(Default)]
struct Notes;

/// The value, the counter, the entries, whether it is in the room, its rooms, and how many are in the hall.
type Seen = (Option<String>, i64, Vec<String>, bool, Vec<String>, u64);

#[plugin(name = "notes", version = "1.0.0")]
#[door("/", token = "required")]
#[room("/", "hall")]
#[room("/", "room:{n}")]
impl Notes {
    #[on_connect("/")]
    fn enter() -> Result<()> {
        Ok(rooms::join("hall")?)
    }

    #[on("write", on_failure = "Failed to write")]
    fn write(caller: &Caller, text: String) -> Result<()> {
        store::put("last", &text)?;
        store::append("notes/", &text)?;
        store::add("count", 1)?;
        emitter::to_room("/", "hall", "written", &text)?;
        match text.as_str() {
            "refuse" => Err(Refusal::forbidden(format!("Not you, {}", caller.user()?.id))),
            "trap" => Err(Refusal::invalid(text.repeat(usize::MAX))),
            "flood" => (0..300).try_for_each(|_| emitter::to_caller("drop", &())).map_err(Into::into),
            _ => Ok(()),
        }
    }

    #[on("see")]
    fn see() -> Result<Seen> {
        store::put("last", "mine")?;
        store::put("n/a", "1")?;
        store::put("n/b", "2")?;
        store::delete("n/b")?;
        store::add("count", 2)?;
        rooms::join("room:1")?;
        rooms::leave("hall")?;
        let entries = store::prefix("n/").read::<String>(10)?;
        let names = entries.into_iter().map(|Entry { key, .. }| key).collect();
        let mut list = rooms::list()?;
        list.sort();
        Ok((
            store::get("last")?,
            store::counter("count")?,
            names,
            rooms::joined("room:1")?,
            list,
            rooms::size("/", "hall")?.users,
        ))
    }

    #[on("wrong")]
    fn wrong(what: String) -> Result<()> {
        Ok(match what.as_str() {
            "host's room" => rooms::join("user:u1"),
            "no pattern" => rooms::join("elsewhere"),
            "empty" => rooms::join(""),
            "namespace" => emitter::to_room("/x", "hall", "e", &()),
            other => Err(EffectError::InvalidName(other.into())),
        }?)
    }

    #[on("rooms")]
    fn many(count: u32) -> Result<()> {
        (0..count).try_for_each(|n| rooms::join(&format!("room:{n}"))).map_err(Into::into)
    }

    #[on("panic", on_failure = "Failed")]
    fn panic() -> Result<()> {
        log::info("on the way");
        let none: Option<u32> = store::get("none")?;
        store::put("never", &none.unwrap())?;
        Ok(())
    }
}

#[test]
fn effects_of_a_refused_call_never_happen() {
    let app = Harness::<Notes>::new();
    let ana = app.connect("/", user("ana"));
    ana.emit("write", json!("refuse")).expect_refusal("forbidden", "Not you, ana");
    assert!(app.keys("").is_empty());
    ana.expect_nothing();
    ana.emit("write", json!("hello")).expect_ok();
    ana.expect("written", json!("hello"));
    assert_eq!(app.keys(""), ["count", "last", "notes/00000000000000000001"]);
}

#[test]
fn a_trap_a_panic_and_too_many_effects_end_the_call_with_the_events_own_sentence() {
    let app = Harness::<Notes>::new();
    let ana = app.connect("/", user("ana"));
    for text in ["trap", "flood"] {
        ana.emit("write", json!(text)).expect_refusal("internal", "Failed to write");
    }
    ana.emit_bare("panic").expect_refusal("internal", "Failed");
    assert!(app.keys("").is_empty());
    ana.expect_nothing();
    let logs: Vec<String> = app.logs().into_iter().map(|line| line.message).collect();
    assert!(logs[0].contains("capacity overflow") && logs[1].contains("256 effects"), "{logs:?}");
    assert!(logs[2] == "on the way" && logs[3].contains("unwrap"), "{logs:?}");
}

#[test]
fn storage_that_does_not_answer_is_the_events_own_sentence_too() {
    let app = Harness::<Notes>::new();
    let ana = app.connect("/", user("ana"));
    app.storage_answers(false);
    ana.emit("write", json!("hello")).expect_refusal("unavailable", "Failed to write");
    app.storage_answers(true);
    ana.emit("write", json!("hello")).expect_ok();
}

#[test]
fn a_call_sees_what_it_has_done_so_far() {
    let app = Harness::<Notes>::new();
    let ana = app.connect("/", user("ana"));
    let _ben = app.connect("/", user("ben"));
    ana.emit("write", json!("hello")).expect_ok();
    ana.emit_bare("see").expect_ack(json!(["mine", 3, ["n/a"], true, ["room:1"], 1]));
    assert_eq!(ana.rooms(), ["room:1"]);
    assert_eq!(app.stored::<String>("last").as_deref(), Some("mine"));
}

#[test]
fn mistakes_of_the_plugin_are_internal_to_the_client_and_explained_in_the_log() {
    let app = Harness::<Notes>::new();
    let ana = app.connect("/", user("ana"));
    for (what, why) in [
        ("host's room", "the host's own"),
        ("no pattern", "no room pattern"),
        ("empty", "is empty"),
        ("namespace", "takes no part"),
    ] {
        ana.emit("wrong", json!(what)).expect_refusal("internal", "Internal error");
        assert!(app.logs().last().is_some_and(|line| line.message.contains(why)), "{:?}", app.logs().last());
    }
}

#[test]
fn a_socket_is_in_at_most_64_rooms() {
    let app = Harness::<Notes>::new();
    let ana = app.connect("/", user("ana"));
    ana.emit("rooms", json!(64)).expect_refusal("too_large", "Too many rooms");
    assert_eq!(ana.rooms(), ["hall"]);
    ana.emit("rooms", json!(63)).expect_ok();
    assert_eq!(ana.rooms().len(), 64);
}

#[test]
#[should_panic = "an import was called outside a handler"]
fn imports_work_only_inside_calls() {
    let _ = store::get::<String>("last");
}

#[test]
fn a_test_may_look_from_inside() {
    let app = Harness::<Notes>::new();
    let ana = app.connect("/", user("ana"));
    ana.emit("write", json!("hello")).expect_ok();
    let seen = app.inside(|| {
        store::delete("last").map_err(Refusal::from)?;
        store::get::<String>("last").map_err(Refusal::from)
    });
    assert_eq!((seen, app.stored::<String>("last").as_deref()), (Ok(None), Some("hello")));
}

#[test]
fn counters_are_read_many_at_once() {
    let app = Harness::<Notes>::new();
    let counted = app.inside(|| {
        store::add("n/a", 1)?;
        store::add("n/b", -2)?;
        store::add("o", 3)?;
        store::prefix("n/").counters(10)
    });
    let entry = |key: &str, value| Entry { key: key.to_owned(), value };
    assert_eq!(counted, Ok(vec![entry("n/a", 1), entry("n/b", -2)]));
    let text = app.inside(|| store::put("n/c", "text").and_then(|()| store::prefix("n/").counters(10)));
    assert_eq!(text, Err(store::Error::NotACounter));
}

#[test]
fn a_test_puts_a_client_in_a_room_of_another_plugin() {
    let app = Harness::<Notes>::new();
    let (ana, ben) = (app.connect("/", user("ana")), app.connect("/", user("ben")));
    ana.put_in("elsewhere");
    assert_eq!((ana.rooms(), ben.rooms()), (vec!["elsewhere".to_owned(), "hall".to_owned()], vec!["hall".to_owned()]));
}

//! Transactions: all effects of a call happen or none, and the call sees its own.

use serde_json::json;

use crate::{
    Refusal, RefusalCode, Result, User, emitter,
    harness::{Harness, user},
    log, plugin,
    rooms::{self, Room},
    store::{self, Entry},
};

const HALL: Room = Room::new("/", "hall");
const ROOM: Room = Room::new("/", "room:{n}");

#[derive(Default)]
struct Notes;

/// The value, the counter, the entries, whether it is in the room, its rooms, and how many are in the hall.
type Seen = (Option<String>, i64, Vec<String>, bool, Vec<String>, u64);

#[plugin(name = "notes", version = "1.0.0")]
#[door("/", token = "required")]
#[rooms(HALL, ROOM)]
impl Notes {
    #[on_connect("/")]
    fn enter() -> Result<()> {
        HALL.join()
    }

    #[on("write", on_failure = "Failed to write")]
    fn write(user: &User, text: String) -> Result<()> {
        store::put("last", &text)?;
        store::append("notes/", &text)?;
        store::add("count", 1)?;
        emitter::to_room("/", &HALL, "written", &text)?;
        match text.as_str() {
            "refuse" => Err(Refusal::forbidden(format!("Not you, {}", user.id))),
            "trap" => Err(Refusal::invalid(text.repeat(usize::MAX))),
            "flood" => (0..300).try_for_each(|_| emitter::to_caller("drop", &())),
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
        ROOM.of("1").join()?;
        HALL.leave()?;
        let entries = store::prefix("n/").read::<String>(10)?;
        let names = entries.into_iter().map(|Entry { key, .. }| key).collect();
        let mut list = rooms::list()?;
        list.sort();
        Ok((store::get("last")?, store::counter("count")?, names, ROOM.of("1").joined()?, list, HALL.size()?.users))
    }

    #[on("wrong")]
    fn wrong(what: String) -> Result<()> {
        match what.as_str() {
            "host's room" => rooms::join("user:u1"),
            "no pattern" => rooms::join("elsewhere"),
            "empty" => rooms::join(""),
            "no parameter" => ROOM.join(),
            "namespace" => emitter::to_room("/x", &HALL, "e", &()),
            other => Err(Refusal::internal(other)),
        }
    }

    #[on("rooms")]
    fn many(count: u32) -> Result<()> {
        (0..count).try_for_each(|n| ROOM.of(&n.to_string()).join())
    }

    #[on("panic", on_failure = "Failed")]
    fn panic() -> Result<()> {
        log::info("on the way");
        let none: Option<u32> = store::get("none")?;
        store::put("never", &none.unwrap())
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
fn a_trap_a_panic_or_too_many_effects_refuse_with_the_events_sentence() {
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
fn storage_that_does_not_answer_refuses_with_the_events_sentence() {
    let app = Harness::<Notes>::new();
    let ana = app.connect("/", user("ana"));
    app.storage_answers(false);
    ana.emit("write", json!("hello")).expect_refusal("unavailable", "Failed to write");
    app.storage_answers(true);
    ana.emit("write", json!("hello")).expect_ok();
}

#[test]
fn a_call_sees_its_own_effects() {
    let app = Harness::<Notes>::new();
    let ana = app.connect("/", user("ana"));
    let _ben = app.connect("/", user("ben"));
    ana.emit("write", json!("hello")).expect_ok();
    ana.emit_bare("see").expect_ack(json!(["mine", 3, ["n/a"], true, ["room:1"], 1]));
    assert_eq!(ana.rooms(), ["room:1"]);
    assert_eq!(app.stored::<String>("last").as_deref(), Some("mine"));
}

#[test]
fn mistakes_of_the_plugin_are_internal_and_logged_with_their_reason() {
    let app = Harness::<Notes>::new();
    let ana = app.connect("/", user("ana"));
    for (what, why) in [
        ("host's room", "the host's own"),
        ("no pattern", "no room pattern"),
        ("empty", "is empty"),
        ("no parameter", "is a pattern"),
        ("namespace", "takes no part"),
    ] {
        ana.emit("wrong", json!(what)).expect_refusal("internal", "Internal error");
        assert!(app.logs().last().is_some_and(|line| line.message.contains(why)), "{:?}", app.logs().last());
    }
}

#[test]
fn the_65th_room_of_a_socket_is_refused() {
    let app = Harness::<Notes>::new();
    let ana = app.connect("/", user("ana"));
    ana.emit("rooms", json!(64)).expect_refusal("too_large", "Too many rooms");
    assert_eq!(ana.rooms(), ["hall"]);
    ana.emit("rooms", json!(63)).expect_ok();
    assert_eq!(ana.rooms().len(), 64);
}

#[test]
#[should_panic = "an import was called outside a handler"]
fn an_import_outside_a_call_fails_the_test() {
    let _ = store::get::<String>("last");
}

#[test]
fn code_inside_a_call_reads_the_store_and_changes_nothing() {
    let app = Harness::<Notes>::new();
    let ana = app.connect("/", user("ana"));
    ana.emit("write", json!("hello")).expect_ok();
    let seen = app.inside(|| {
        store::delete("last")?;
        store::get::<String>("last")
    });
    assert_eq!((seen, app.stored::<String>("last").as_deref()), (Ok(None), Some("hello")));
}

#[test]
fn a_scan_reads_counters_and_refuses_other_values() {
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
    assert_eq!(text.map_err(|refusal| refusal.code), Err(RefusalCode::Internal));
    assert_eq!(app.logs().last().map(|line| line.message.as_str()), Some("the stored value is not a counter"));
}

#[test]
fn put_in_moves_one_client_to_any_room() {
    let app = Harness::<Notes>::new();
    let (ana, ben) = (app.connect("/", user("ana")), app.connect("/", user("ben")));
    ana.put_in("elsewhere");
    assert_eq!((ana.rooms(), ben.rooms()), (vec!["elsewhere".to_owned(), "hall".to_owned()], vec!["hall".to_owned()]));
}

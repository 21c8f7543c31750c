//! Messages: from the backend, to itself, and from the host.

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    Message, Refusal, Result, bus, emitter,
    harness::{Harness, user},
    plugin,
    rooms::{self, Counted},
    store,
};

#[derive(Default)]
struct Relay;

#[derive(Serialize, Deserialize)]
struct Hop {
    hops: u32,
}

#[plugin(name = "relay", version = "1.0.0")]
#[door("/", token = "optional")]
#[room("/", "hall")]
impl Relay {
    #[on_connect]
    fn enter() -> Result<()> {
        Ok(rooms::join("hall")?)
    }

    #[on("ask")]
    fn ask() -> Result<()> {
        bus::publish("asked", "anything")?;
        Ok(bus::publish_keyed("somewhere.else", "k1", &json!({ "n": 1 }))?)
    }

    #[on_message("asked")]
    fn asked(message: &Message, what: String) -> Result<()> {
        emitter::event("/", "answer").to_namespace(&(what, &message.topic))?;
        Ok(())
    }

    #[on_message("hop")]
    fn hop(Hop { hops }: Hop) -> Result<()> {
        store::put("hops", &hops)?;
        Ok(bus::publish("hop", &Hop { hops: hops + 1 })?)
    }

    #[on_message("broken")]
    fn broken() -> Result<()> {
        store::put("never", &())?;
        Err(Refusal::internal("as it was told"))
    }

    #[on_message("picky")]
    fn picky(what: String) -> Result<()> {
        Err(if what == "unknown" { Refusal::not_found("No such thing") } else { Refusal::invalid("what: must be known") })
    }

    #[on_message("room.counted")]
    fn counted(counted: Counted) -> Result<()> {
        Ok(store::put("counted", &(counted.sockets, counted.users, counted.visitors))?)
    }
}

#[test]
fn what_is_published_is_handled_after_the_call() {
    let app = Harness::<Relay>::new();
    let ana = app.connect("/", user("ana"));
    ana.emit_bare("ask").expect_ok();
    ana.expect("answer", json!(["anything", "asked"]));
    assert_eq!(app.published("somewhere.else"), [json!({ "n": 1 })]);
}

#[test]
fn the_ninth_hop_is_dropped() {
    let app = Harness::<Relay>::new();
    app.publish("hop", json!({ "hops": 0 }));
    assert_eq!(app.stored::<u32>("hops"), Some(8));
}

#[test]
fn a_message_that_fails_does_nothing_and_says_why() {
    let app = Harness::<Relay>::new();
    assert_eq!(app.try_publish("broken", json!(null)), Err("Internal error".into()));
    assert_eq!(
        app.try_publish("hop", json!({ "hops": -1 })),
        Err("invalid data: hops: must be a whole number, 0 or more".into())
    );
    assert!(app.keys("").is_empty());
    assert_eq!(app.logs().len(), 1);
}

#[test]
fn a_handler_says_that_the_data_is_at_fault_by_refusing_it_as_invalid() {
    let app = Harness::<Relay>::new();
    assert_eq!(app.try_publish("picky", json!("bad")), Err("invalid data: what: must be known".into()));
    assert_eq!(app.try_publish("picky", json!("unknown")), Err("No such thing".into()), "it may be known later");
}

#[test]
fn the_host_tells_how_many_are_in_a_room() {
    let app = Harness::<Relay>::new();
    let ana = app.connect("/", user("ana"));
    let _phone = app.connect("/", user("ana"));
    let _guest = app.connect("/", crate::harness::visitor());
    assert_eq!(app.stored::<[u64; 3]>("counted"), Some([1, 1, 0]), "one count in half a second");
    app.advance(std::time::Duration::from_millis(500));
    assert_eq!(app.stored::<[u64; 3]>("counted"), Some([3, 1, 1]));
    ana.disconnect();
    app.advance(std::time::Duration::from_millis(500));
    assert_eq!(app.stored::<[u64; 3]>("counted"), Some([2, 1, 1]));
}

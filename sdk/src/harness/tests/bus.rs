//! Messages: from the backend, to itself, and from the host.

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    Message, Refusal, Result, bus, emitter,
    harness::{Harness, user},
    plugin,
    rooms::{Counted, Room},
    store,
};

const HALL: Room = Room::new("/", "hall");

#[derive(Default)]
struct Relay;

#[derive(Serialize, Deserialize)]
struct Hop {
    hops: u32,
}

#[plugin(name = "relay", version = "1.0.0")]
#[door("/", token = "optional")]
#[rooms(HALL)]
impl Relay {
    #[on_connect]
    fn enter() -> Result<()> {
        HALL.join()
    }

    #[on("ask")]
    fn ask() -> Result<()> {
        bus::publish("asked", "anything")?;
        bus::publish_keyed("somewhere.else", "k1", &json!({ "n": 1 }))
    }

    #[on_message("asked")]
    fn asked(message: &Message, what: String) -> Result<()> {
        emitter::event("/", "answer").to_namespace(&(what, &message.topic))
    }

    #[on_message("hop")]
    fn hop(Hop { hops }: Hop) -> Result<()> {
        store::put("hops", &hops)?;
        bus::publish("hop", &Hop { hops: hops + 1 })
    }

    #[on_message("broken")]
    fn broken() -> Result<()> {
        store::put("never", &())?;
        Err(Refusal::internal("the data says so"))
    }

    #[on_message("picky")]
    fn picky(what: String) -> Result<()> {
        Err(if what == "unknown" { Refusal::not_found("No such thing") } else { Refusal::invalid("what: must be known") })
    }

    #[on_message("room.counted")]
    fn counted(counted: Counted) -> Result<()> {
        store::put("counted", &(counted.sockets, counted.users, counted.visitors))
    }
}

#[test]
fn a_published_message_is_handled_after_the_call() {
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
fn a_failed_message_has_no_effects_and_returns_its_failure() {
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
fn a_refusal_as_invalid_blames_the_data() {
    let app = Harness::<Relay>::new();
    assert_eq!(app.try_publish("picky", json!("bad")), Err("invalid data: what: must be known".into()));
    assert_eq!(app.try_publish("picky", json!("unknown")), Err("No such thing".into()), "it may be known later");
}

#[test]
fn room_sizes_are_reported_twice_a_second() {
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

//! Tenants: a plugin never reaches another tenant's rooms and users.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use crate::{
    Caller, Message, Result, Timer, User,
    budget::Budget,
    emitter::{self, Emits},
    harness::{Harness, user, visitor},
    plugin, presence,
    rooms::Room,
    timers,
};

const HALL: Room = Room::new("/", "hall");

#[derive(Default)]
struct Crm;

#[derive(Deserialize)]
struct Tagged {
    user: String,
    tag: String,
}

const SAID: Emits<String> = Emits::new("/", "said");

#[plugin(name = "crm", version = "1.0.0", tenancy = "required")]
#[door("/", token = "required", claims = ["userId"], roles = ["AGENT", "ADMIN"],
    missing = "Authentication required", invalid = "Invalid or expired token", forbidden = "Agents only")]
#[rooms(HALL)]
#[emits(SAID)]
impl Crm {
    #[on_connect]
    fn enter() -> Result<()> {
        HALL.join()
    }

    #[on("say")]
    fn say(text: String) -> Result<u64> {
        SAID.to_room(&HALL, &text)?;
        Ok(HALL.size()?.users)
    }

    #[on("say to the tenant")]
    fn say_to_the_tenant(user: &User, text: String) -> Result<()> {
        SAID.to_tenant(user.tenant.as_deref().unwrap_or_default(), &text)
    }

    #[on("shout")]
    fn shout(at: String) -> Result<()> {
        if at.is_empty() { SAID.to_namespace(&at) } else { SAID.to_tenant(&at, &at) }
    }

    #[on_message("contact.tagged")]
    fn tagged(Tagged { user, tag }: Tagged) -> Result<()> {
        emitter::to_user("/", &user, "tagged", &tag)
    }
}

fn agent(id: &str, tenant: &str) -> crate::harness::Identity {
    user(id).claim("userId", id).tenant(tenant).role("AGENT")
}

#[test]
fn two_tenants_with_equal_rooms_and_users_never_meet() {
    let app = Harness::<Crm>::new();
    let (ana, ben, eve) =
        (app.connect("/", agent("1", "acme")), app.connect("/", agent("2", "acme")), app.connect("/", agent("1", "evil")));
    ana.emit("say", json!("hi")).expect_ack(json!(2));
    ben.expect("said", json!("hi"));
    ben.emit("say to the tenant", json!("all of acme")).expect_ok();
    assert_eq!(ana.received("said"), [json!("hi"), json!("all of acme")]);
    app.publish_for("acme", "contact.tagged", json!({ "user": "1", "tag": "vip" }));
    ana.expect("tagged", json!("vip"));
    eve.expect_nothing();
}

#[test]
fn an_emit_to_another_tenant_or_to_all_is_refused() {
    let app = Harness::<Crm>::new();
    let (ana, eve) = (app.connect("/", agent("1", "acme")), app.connect("/", agent("2", "evil")));
    for at in ["acme", ""] {
        eve.emit("shout", json!(at)).expect_refusal("internal", "Internal error");
    }
    ana.expect_nothing();
}

#[test]
fn a_message_without_a_tenant_is_a_dead_letter() {
    let app = Harness::<Crm>::new();
    let dead = app.try_publish("contact.tagged", json!({ "user": "1", "tag": "vip" }));
    assert_eq!(dead, Err("invalid data: the message belongs to no tenant".into()));
}

#[test]
fn each_failed_check_of_the_door_policy_has_its_sentence() {
    let app = Harness::<Crm>::new();
    let refused = |who| app.try_connect("/", who).map(drop).expect_err("the door is closed");
    assert_eq!(refused(visitor()), "Authentication required");
    assert_eq!(refused(user("1").tenant("acme").role("AGENT")), "Invalid or expired token");
    assert_eq!(refused(user("1").claim("userId", "").tenant("acme").role("AGENT")), "Invalid or expired token");
    assert_eq!(refused(user("1").claim("userId", "1").role("AGENT")), "Invalid or expired token");
    assert_eq!(refused(agent("1", "acme").role("CUSTOMER")), "Agents only");
    assert_eq!(refused(agent("1", "acme").claim("role", json!(["CUSTOMER", "GUEST"]))), "Agents only");
}

#[test]
fn one_role_of_a_list_opens_the_door() {
    let app = Harness::<Crm>::new();
    for roles in [json!(["AGENT"]), json!(["CUSTOMER", "ADMIN", "AGENT"]), json!(["", null, "AGENT"])] {
        assert!(app.try_connect("/", agent("1", "acme").claim("role", roles.clone())).is_ok(), "{roles}");
    }
}

#[derive(Default)]
struct Desk;

#[plugin(name = "desk", version = "1.0.0", tenancy = "optional")]
#[door("/", token = "required")]
#[rooms(HALL)]
#[emits(SAID)]
impl Desk {
    #[on_connect]
    fn enter() -> Result<()> {
        HALL.join()
    }

    #[on("say")]
    fn say(text: String) -> Result<u64> {
        SAID.to_room(&HALL, &text)?;
        Ok(HALL.size()?.users)
    }

    #[on("say to the tenant")]
    fn say_to_the_tenant(tenant: String) -> Result<()> {
        SAID.to_tenant(&tenant, &tenant)
    }

    #[on_message("contact.tagged")]
    fn tagged(Tagged { user, tag }: Tagged) -> Result<()> {
        emitter::to_user("/", &user, "tagged", &tag)
    }
}

#[test]
fn with_optional_tenancy_users_without_a_tenant_never_meet_tenants() {
    let app = Harness::<Desk>::new();
    let (ana, eve, bare) =
        (app.connect("/", agent("1", "acme")), app.connect("/", agent("1", "evil")), app.connect("/", user("1")));
    ana.emit("say", json!("acme alone")).expect_ack(json!(1));
    bare.emit("say", json!("no tenant alone")).expect_ack(json!(1));
    assert_eq!(ana.received("said"), [json!("acme alone")]);
    assert_eq!(bare.received("said"), [json!("no tenant alone")]);
    app.publish_for("acme", "contact.tagged", json!({ "user": "1", "tag": "vip" }));
    app.publish("contact.tagged", json!({ "user": "1", "tag": "bare" }));
    assert_eq!(ana.received("tagged"), [json!("vip")]);
    assert_eq!(bare.received("tagged"), [json!("bare")]);
    eve.expect_nothing();
    for who in [&eve, &bare] {
        who.emit("say to the tenant", json!("acme")).expect_refusal("internal", "Internal error");
    }
    ana.expect_nothing();
}

/// A plugin with rooms, groups and topics that all tenants share.
#[derive(Default)]
struct Video;

const HEARD: Emits<String> = Emits::new("/", "heard");
const CHANGED: Emits<String> = Emits::new("/", "changed");

#[plugin(name = "video", version = "1.0.0")]
#[door("/", token = "optional")]
#[rooms(HALL)]
#[emits(HEARD, CHANGED)]
impl Video {
    #[on_connect]
    fn enter(user: Option<&User>) -> Result<()> {
        HALL.join()?;
        let Some(user) = user else { return Ok(()) };
        presence::track("hall", &user.id, presence::Status::Online, &())
    }

    #[on("say")]
    fn say(caller: &Caller, text: String) -> Result<u64> {
        Budget::per_minute("said", 1).take(&caller.user()?.id)?.or_refuse("Slow down")?;
        timers::after("later", Duration::from_secs(1), &text, timers::Durability::Soft)?;
        SAID.to_room(&HALL, &text)?;
        HEARD.to_user(&caller.user()?.id, &text)?;
        Ok(HALL.size()?.users)
    }

    #[on("count")]
    fn count() -> Result<u64> {
        presence::count("hall")
    }

    #[on_timer("later")]
    fn later(timer: &Timer, text: String) -> Result<()> {
        HEARD.to_user("1", &format!("{text} of {:?}", timer.tenant))
    }

    #[on_message("presence.changed")]
    fn changed(message: &Message, changed: presence::Changed<()>) -> Result<()> {
        CHANGED.to_user(&changed.key, &format!("{:?}", message.tenant))
    }
}

#[test]
fn shared_rooms_keep_the_users_of_tenants_apart() {
    let app = Harness::<Video>::new();
    let ana = app.connect("/", user("1").tenant("acme"));
    let (eve, bare) = (app.connect("/", user("1").tenant("evil")), app.connect("/", user("1")));
    assert_eq!(ana.received("changed"), [json!("Some(\"acme\")")]);
    assert_eq!(bare.received("changed"), [json!("None")]);
    ana.emit_bare("count").expect_ack(json!(3));
    ana.emit("say", json!("hi")).expect_ack(json!(3));
    ana.emit("say", json!("again")).expect_refusal("rate_limited", "Slow down");
    eve.emit("say", json!("hey")).expect_ack(json!(3));
    assert_eq!(bare.received("said"), [json!("hi"), json!("hey")]);
    app.advance(Duration::from_secs(1));
    assert_eq!(ana.received("heard"), [json!("hi"), json!("hi of Some(\"acme\")")]);
    assert_eq!(eve.received("heard"), [json!("hey"), json!("hey of Some(\"evil\")")]);
    assert!(bare.received("heard").is_empty());
}

#[test]
fn a_message_belongs_to_the_tenant_that_its_data_names() {
    let app = Harness::<Crm>::new();
    let ana = app.connect("/", agent("1", "acme"));
    for (key, tag) in [("companyId", "a"), ("tenant", "b")] {
        app.publish("contact.tagged", json!({ "user": "1", "tag": tag, key: "acme" }));
        ana.expect("tagged", json!(tag));
    }
}

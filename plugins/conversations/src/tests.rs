//! Conversations: each event, each refusal's sentence, and that no user outside a conversation gets its events, in this tenant or
//! another.

use hubbub_sdk::harness::{Client, Harness, user, visitor};
use serde_json::{Value, json};

use crate::Conversations;

mod crowds;
mod unread;

const NOT_AUTHORIZED: (&str, &str) = ("forbidden", "Not authorized");

fn here() -> Value {
    json!({ "conversation_id": "c1" })
}

/// A conversation of two, without a tenant.
fn of_two() -> Harness<Conversations> {
    let app = Harness::<Conversations>::new();
    app.publish("conversation.created", json!({ "id": "c1", "members": ["ana", "ben"] }));
    app
}

fn connect(app: &Harness<Conversations>, id: &str) -> Client<Conversations> {
    app.connect("/", user(id).name(&id.to_uppercase()))
}

fn enter(app: &Harness<Conversations>, id: &str) -> Client<Conversations> {
    let client = connect(app, id);
    client.emit("join_conversation", here()).expect_ok();
    client
}

fn post(app: &Harness<Conversations>, id: &str, by: &str) {
    app.publish("message.created", json!({ "id": id, "conversation_id": "c1", "user_id": by, "text": "hi" }));
}

#[test]
fn changes_of_a_conversation_reach_only_its_members_as_published() {
    let app = Harness::<Conversations>::new();
    let (ana, phone, eve, guest) =
        (connect(&app, "ana"), connect(&app, "ana"), connect(&app, "eve"), app.connect("/", visitor()));
    let mut conversation = json!({ "id": 1, "members": ["ana", 7], "title": "Plans", "extra": [null] });
    for topic in ["created", "updated"] {
        app.publish(&format!("conversation.{topic}"), conversation.clone());
        for client in [&ana, &phone] {
            client.expect(&format!("conversation_{topic}"), conversation.clone());
        }
        conversation["title"] = json!("Better plans");
    }
    app.publish("conversation.deleted", json!({ "id": 1, "by": "ana" }));
    ana.expect("conversation_deleted", json!({ "id": 1, "by": "ana" }));
    for client in [&ana, &eve, &guest] {
        client.expect_nothing();
    }
    assert!(app.keys("teams/").is_empty(), "{:?}", app.keys("teams/"));
}

#[test]
fn the_deletion_of_an_unknown_conversation_reaches_its_listed_members() {
    let app = Harness::<Conversations>::new();
    let [ana, ben] = ["ana", "ben"].map(|id| app.connect("/", user(id).tenant("acme")));
    let (spy, free) = (app.connect("/", user("ana").tenant("bolt")), connect(&app, "ana"));
    let named = json!({ "id": 7, "members": ["ana"], "by": "the backend" });
    app.publish_for("acme", "conversation.deleted", named.clone());
    ana.expect("conversation_deleted", named);
    let open = json!({ "id": "c8", "companyId": "acme" });
    app.publish("conversation.deleted", open.clone());
    for client in [&ana, &ben] {
        client.expect("conversation_deleted", open.clone());
    }
    app.publish("conversation.deleted", json!({ "id": "c9" }));
    free.expect("conversation_deleted", json!({ "id": "c9" }));
    for client in [&ana, &ben, &spy, &free] {
        client.expect_nothing();
    }
    assert!(app.keys("teams/").is_empty(), "{:?}", app.keys("teams/"));
}

#[test]
fn a_conversation_without_a_list_is_for_the_tenant() {
    let app = Harness::<Conversations>::new();
    let ana = app.connect("/", user("ana").tenant("acme"));
    let (spy, free) = (app.connect("/", user("ana").tenant("bolt")), connect(&app, "ana"));
    app.publish_for("acme", "conversation.created", json!({ "id": "c1" }));
    app.publish("conversation.created", json!({ "id": "c1", "companyId": "acme" }));
    ana.expect("conversation_created", json!({ "id": "c1" }));
    ana.expect("conversation_created", json!({ "id": "c1", "companyId": "acme" }));
    ana.emit("join_conversation", here()).expect_ok();
    for client in [&spy, &free] {
        client.expect_nothing();
        client.emit("join_conversation", here()).expect_refusal(NOT_AUTHORIZED.0, NOT_AUTHORIZED.1);
    }
    app.publish_for("acme", "message.created", json!({ "id": "m1", "conversation_id": "c1", "user_id": "x" }));
    ana.expect("message_created", json!({ "id": "m1", "conversation_id": "c1", "user_id": "x" }));
    ana.expect_nothing();
    spy.expect_nothing();
}

#[test]
fn without_list_and_tenant_it_is_for_all_users_without_a_tenant() {
    let app = Harness::<Conversations>::new();
    let (ana, spy, guest) = (connect(&app, "ana"), app.connect("/", user("ana").tenant("acme")), app.connect("/", visitor()));
    app.publish("conversation.created", json!({ "id": "c1" }));
    ana.expect("conversation_created", json!({ "id": "c1" }));
    ana.emit("join_conversation", here()).expect_ok();
    spy.expect_nothing();
    guest.expect_nothing();
    spy.emit("join_conversation", here()).expect_refusal(NOT_AUTHORIZED.0, NOT_AUTHORIZED.1);
}

#[test]
fn only_members_join() {
    let app = of_two();
    let (ana, eve, guest) = (enter(&app, "ana"), connect(&app, "eve"), app.connect("/", visitor()));
    assert_eq!(ana.rooms(), ["conversation:c1", "everyone"]);
    eve.emit("join_conversation", here()).expect_refusal(NOT_AUTHORIZED.0, NOT_AUTHORIZED.1);
    eve.emit("join_conversation", json!({ "conversation_id": "c2" })).expect_refusal(NOT_AUTHORIZED.0, NOT_AUTHORIZED.1);
    guest.emit("join_conversation", here()).expect_refusal("unauthenticated", "Authentication error");
    eve.emit("join_conversation", json!({})).expect_refusal("invalid", "conversation_id: missing");
    ana.emit("leave_conversation", here()).expect_ok();
    assert_eq!(ana.rooms(), ["everyone"]);
    assert!(guest.rooms().is_empty());
}

#[test]
fn equal_ids_of_two_tenants_are_two_conversations() {
    let app = Harness::<Conversations>::new();
    let [ana, spy] = ["acme", "bolt"].map(|tenant| {
        app.publish_for(tenant, "conversation.created", json!({ "id": "c1", "members": ["ana", "ben"] }));
        let ana = app.connect("/", user("ana").tenant(tenant));
        ana.emit("join_conversation", here()).expect_ok();
        ana
    });
    let ben = app.connect("/", user("ben").tenant("acme"));
    ben.emit("join_conversation", here()).expect_ok();
    spy.forget();
    assert_eq!(ana.rooms(), ["conversation:c1", "everyone"]);
    app.publish_for("acme", "message.created", json!({ "id": "m1", "conversation_id": "c1", "user_id": "ben" }));
    ana.expect_any("message_created");
    ana.expect("unread_count", json!({ "conversation_id": "c1", "unread_count": 1 }));
    ben.emit("typing", here()).expect_ok();
    ana.expect_any("typing");
    app.publish_for("acme", "conversation.updated", json!({ "id": "c1", "members": ["ana", "ben"] }));
    ana.emit("mark_read", json!({ "conversation_id": "c1", "message_ids": ["m1"] })).expect_ok();
    app.publish_for("acme", "conversation.deleted", json!({ "id": "c1" }));
    spy.expect_nothing();
    assert_eq!(spy.rooms(), ["conversation:c1", "everyone"]);
    assert_eq!(ana.rooms(), ["everyone"]);
}

#[test]
fn a_tenants_user_is_no_member_of_a_conversation_without_tenant() {
    let app = of_two();
    let (ana, bare) = (app.connect("/", user("ana").tenant("acme")), enter(&app, "ana"));
    ana.emit("join_conversation", here()).expect_refusal(NOT_AUTHORIZED.0, NOT_AUTHORIZED.1);
    let read = json!({ "conversation_id": "c1", "message_ids": ["m1"] });
    ana.emit("mark_read", read.clone()).expect_refusal(NOT_AUTHORIZED.0, NOT_AUTHORIZED.1);
    app.publish_for("acme", "message.created", json!({ "id": "m1", "conversation_id": "c1", "user_id": "ben" }));
    app.publish_for("acme", "message.read", json!({ "conversation_id": "c1", "message_ids": ["m1"], "user_id": "ana" }));
    for client in [&ana, &bare] {
        client.expect_nothing();
    }
}

#[test]
fn the_data_names_the_tenant_as_tenant_or_as_company_id() {
    let app = Harness::<Conversations>::new();
    let (ana, bare) = (app.connect("/", user("ana").tenant("acme")), connect(&app, "ana"));
    for named in [json!({ "id": "c1", "tenant": "acme" }), json!({ "id": "c2", "companyId": "acme" })] {
        app.publish("conversation.created", named.clone());
        ana.expect("conversation_created", named);
    }
    for wrong in [json!({ "id": "c1", "tenant": ["acme"] }), json!({ "id": "c1", "companyId": "" })] {
        assert!(app.try_publish("conversation.created", wrong).is_err());
    }
    bare.expect_nothing();
}

#[test]
fn messages_of_the_old_chat_plugin_reach_only_their_tenant() {
    let app = Harness::<Conversations>::new();
    app.publish_for("acme", "conversation.created", json!({ "id": "c1", "members": ["ana"] }));
    let (ana, spy, bare) =
        (app.connect("/", user("ana").tenant("acme")), app.connect("/", user("ana").tenant("bolt")), connect(&app, "ana"));
    app.publish("conversation.unread", json!({ "place": { "tenant": "acme", "id": "c1" }, "users": ["ana"] }));
    ana.expect("unread_count", json!({ "conversation_id": "c1", "unread_count": 0 }));
    for client in [&ana, &spy, &bare] {
        client.expect_nothing();
    }
}

#[test]
fn a_removed_member_leaves_the_room_at_once() {
    let app = of_two();
    let (ana, ben, phone) = (enter(&app, "ana"), enter(&app, "ben"), enter(&app, "ben"));
    app.publish("conversation.updated", json!({ "id": "c1", "members": ["ana"] }));
    assert_eq!((ana.rooms().len(), ben.rooms().len(), phone.rooms().len()), (2, 1, 1));
    assert!(ben.received("conversation_updated").is_empty());
    post(&app, "m1", "ana");
    ben.expect_nothing();
    ben.emit("mark_read", json!({ "conversation_id": "c1", "message_ids": [] }))
        .expect_refusal(NOT_AUTHORIZED.0, NOT_AUTHORIZED.1);
}

#[test]
fn an_update_without_a_list_keeps_it() {
    let app = of_two();
    let (ana, eve) = (enter(&app, "ana"), connect(&app, "eve"));
    app.publish("conversation.updated", json!({ "id": "c1", "title": "x" }));
    ana.expect("conversation_updated", json!({ "id": "c1", "title": "x" }));
    eve.expect_nothing();
    eve.emit("join_conversation", here()).expect_refusal(NOT_AUTHORIZED.0, NOT_AUTHORIZED.1);
}

#[test]
fn a_new_list_closes_an_open_conversation() {
    let app = Harness::<Conversations>::new();
    app.publish("conversation.created", json!({ "id": "c1" }));
    let (ana, eve) = (enter(&app, "ana"), enter(&app, "eve"));
    app.publish("conversation.updated", json!({ "id": "c1", "members": ["ana"] }));
    ana.emit("join_conversation", here()).expect_ok();
    eve.forget();
    post(&app, "m1", "ana");
    ana.expect_any("message_created");
    eve.expect_nothing();
}

#[test]
fn typing_reaches_the_room_without_storage() {
    let app = of_two();
    let (ana, ben, out) = (enter(&app, "ana"), enter(&app, "ben"), connect(&app, "ben"));
    app.storage_answers(false);
    ana.emit("typing", here()).expect_ok();
    ben.expect("typing", json!({ "conversation_id": "c1", "user_id": "ana", "user_name": "ANA" }));
    ana.expect_nothing();
    out.expect_nothing();
    out.emit("typing", here()).expect_refusal(NOT_AUTHORIZED.0, NOT_AUTHORIZED.1);
    let guest = app.connect("/", visitor());
    guest.emit("typing", here()).expect_refusal("unauthenticated", "Authentication error");
}

#[test]
fn a_message_reaches_the_room_as_published() {
    let app = of_two();
    let (ana, ben, out) = (enter(&app, "ana"), enter(&app, "ben"), connect(&app, "ana"));
    let message = json!({ "id": 5, "conversation_id": "c1", "user_id": "ben", "text": "hi", "files": [{}] });
    app.publish("message.created", message.clone());
    ana.expect("message_created", message.clone());
    ben.expect("message_created", message);
    assert!(out.received("message_created").is_empty());
}

#[test]
fn a_delivery_is_sent_to_each_messages_author() {
    let app = of_two();
    let (ana, phone, ben) = (connect(&app, "ana"), connect(&app, "ana"), enter(&app, "ben"));
    post(&app, "m1", "ana");
    post(&app, "m2", "ben");
    [&ana, &phone, &ben].into_iter().for_each(Client::forget);
    let delivered = |ids: &[&str]| json!({ "conversation_id": "c1", "message_ids": ids });
    ben.emit("delivered", delivered(&["m1", "m2", "unknown"])).expect_ok();
    for client in [&ana, &phone] {
        client.expect("message_delivered", json!({ "conversation_id": "c1", "message_id": "m1", "user_id": "ben" }));
        client.expect_nothing();
    }
    ben.expect_nothing();
    connect(&app, "eve").emit("delivered", delivered(&["m1"])).expect_refusal(NOT_AUTHORIZED.0, NOT_AUTHORIZED.1);
    let many = ben.emit("delivered", delivered(&["m1"; 201]));
    many.expect_refusal("invalid", "message_ids: more than 200");
    app.publish("conversation.updated", json!({ "id": "c1", "members": ["ben"] }));
    ben.emit("delivered", delivered(&["m1"])).expect_ok();
    ana.expect_nothing();
}

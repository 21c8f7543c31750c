//! The unread count: exact for late, repeated and parallel reads.

use serde_json::{Value, json};

use super::{Client, Conversations, Harness, NOT_AUTHORIZED, connect, enter, of_two, post};

fn count(unread: u64) -> Value {
    json!({ "conversation_id": "c1", "unread_count": unread })
}

fn read(ids: &[&str]) -> Value {
    json!({ "conversation_id": "c1", "message_ids": ids })
}

fn counts(client: &Client<Conversations>) -> Vec<u64> {
    client.received("unread_count").iter().filter_map(|count| count["unread_count"].as_u64()).collect()
}

/// Two members, and this many messages of the second.
fn with_messages(messages: usize) -> (Harness<Conversations>, Client<Conversations>, Client<Conversations>) {
    let app = of_two();
    let (ana, ben) = (enter(&app, "ana"), enter(&app, "ben"));
    (1..=messages).for_each(|number| post(&app, &format!("m{number}"), "ben"));
    ana.forget();
    ben.forget();
    (app, ana, ben)
}

#[test]
fn a_message_is_unread_for_every_member_except_its_author() {
    let app = of_two();
    let (ana, phone, ben) = (connect(&app, "ana"), connect(&app, "ana"), connect(&app, "ben"));
    post(&app, "m1", "ben");
    post(&app, "m2", "ben");
    post(&app, "m3", "ana");
    assert_eq!((counts(&ana), counts(&phone), counts(&ben)), (vec![1, 2], vec![1, 2], vec![1]));
}

#[test]
fn a_read_is_sent_to_the_room_and_the_readers_devices() {
    let (app, ana, ben) = with_messages(3);
    let phone = connect(&app, "ana");
    ana.emit("mark_read", read(&["m1", "m3"])).expect_ok();
    ana.expect("message_read", read(&["m1", "m3"]));
    ben.expect("message_read", read(&["m1", "m3"]));
    for client in [&ana, &phone] {
        client.expect("unread_count", count(1));
        client.expect_nothing();
    }
    ben.expect_nothing();
}

#[test]
fn a_repeated_read_counts_once() {
    let (app, ana, _) = with_messages(3);
    ana.emit("mark_read", read(&["m2", "m2", "unknown"])).expect_ok();
    ana.emit("mark_read", read(&["m2"])).expect_ok();
    app.publish("message.read", json!({ "conversation_id": "c1", "message_ids": ["m2", "m1"], "user_id": "ana" }));
    assert_eq!(counts(&ana), [2, 1]);
    post(&app, "m3", "ben");
    assert_eq!(counts(&ana), [] as [u64; 0], "a repeated message is counted once");
    post(&app, "m4", "ben");
    assert_eq!(counts(&ana), [2]);
}

#[test]
fn own_messages_are_never_unread() {
    let (app, ana, ben) = with_messages(2);
    ben.emit("mark_read", read(&["m1", "m2"])).expect_ok();
    assert_eq!(counts(&ben), [] as [u64; 0]);
    post(&app, "m3", "ana");
    assert_eq!(counts(&ana), [] as [u64; 0]);
    ana.emit("mark_read", read(&["m1", "m2", "m3"])).expect_ok();
    assert_eq!((counts(&ana), counts(&ben)), (vec![0], vec![1]));
}

#[test]
fn a_new_member_has_no_unread_messages_from_before() {
    let (app, _, ben) = with_messages(3);
    let dora = connect(&app, "dora");
    app.publish("conversation.updated", json!({ "id": "c1", "members": ["ana", "ben", "dora"] }));
    post(&app, "m4", "ben");
    assert_eq!(counts(&dora), [1]);
    // A member that was removed and added again.
    app.publish("conversation.updated", json!({ "id": "c1", "members": ["ana", "ben"] }));
    app.publish("conversation.updated", json!({ "id": "c1", "members": ["ana", "ben", "dora"] }));
    post(&app, "m5", "ana");
    assert_eq!((counts(&dora), counts(&ben)), (vec![1], vec![1]));
}

#[test]
fn a_message_before_its_conversation_counts() {
    let app = Harness::<Conversations>::new();
    let ana = connect(&app, "ana");
    post(&app, "m1", "ben");
    ana.expect_nothing();
    app.publish("conversation.created", json!({ "id": "c1", "members": ["ana", "ben"] }));
    post(&app, "m2", "ben");
    assert_eq!(counts(&ana), [2]);
}

#[test]
fn number_ids_are_sent_as_published_and_strings_from_clients() {
    let app = Harness::<Conversations>::new();
    app.publish("conversation.created", json!({ "id": 1, "members": [5, 6] }));
    let ana = connect(&app, "5");
    ana.emit("join_conversation", json!({ "conversation_id": "1" })).expect_ok();
    app.publish("message.created", json!({ "id": 9, "conversation_id": 1, "user_id": 6 }));
    ana.expect("unread_count", json!({ "conversation_id": 1, "unread_count": 1 }));
    let ben = connect(&app, "6");
    ana.emit("delivered", json!({ "conversation_id": "1", "message_ids": ["9"] })).expect_ok();
    ben.expect("message_delivered", json!({ "conversation_id": 1, "message_id": 9, "user_id": "5" }));
    app.publish("message.read", json!({ "conversation_id": 1, "message_ids": [9], "user_id": 5 }));
    ana.expect("message_read", json!({ "conversation_id": 1, "message_ids": [9] }));
    ana.expect("unread_count", json!({ "conversation_id": 1, "unread_count": 0 }));
    for event in ["join_conversation", "leave_conversation", "typing", "mark_read", "delivered"] {
        let number = ana.emit(event, json!({ "conversation_id": 1, "message_ids": [] }));
        number.expect_refusal("invalid", "conversation_id: must be a string");
    }
    ana.emit("mark_read", json!({ "conversation_id": "1", "message_ids": [9] }))
        .expect_refusal("invalid", "message_ids.0: must be a string");
}

#[test]
fn a_read_by_a_non_member_is_refused() {
    let (app, ana, ben) = with_messages(1);
    connect(&app, "eve").emit("mark_read", read(&["m1"])).expect_refusal(NOT_AUTHORIZED.0, NOT_AUTHORIZED.1);
    app.publish("message.read", json!({ "conversation_id": "unknown", "message_ids": ["m1"], "user_id": "ana" }));
    let many = ana.emit("mark_read", read(&["m1"; 1001]));
    many.expect_refusal("invalid", "message_ids: more than 1000");
    ana.expect_nothing();
    ben.expect_nothing();
}

#[test]
fn only_the_last_thousand_messages_are_remembered() {
    let (app, ana, _) = with_messages(1003);
    assert_eq!((app.keys("teams//c1/message/").len(), app.keys("teams//c1/slot/").len()), (1000, 1000));
    ana.emit("mark_read", read(&["m1", "m2", "m1003"])).expect_ok();
    assert_eq!(counts(&ana), [999]);
    let all: Vec<String> = (4..=1003).map(|number| format!("m{number}")).collect();
    ana.emit("mark_read", json!({ "conversation_id": "c1", "message_ids": all })).expect_ok();
    assert_eq!(counts(&ana), [0]);
    app.publish("conversation.deleted", json!({ "id": "c1" }));
    assert!(app.keys("teams/").is_empty(), "{:?}", app.keys("teams/"));
}

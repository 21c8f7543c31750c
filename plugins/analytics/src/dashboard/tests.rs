//! A company's dashboards: the door policy, the reply for each period, and at most one update a second.

use std::time::Duration;

use hubbub_sdk::harness::{Client, Harness, Identity, user, visitor};
use serde_json::{Value, json};

use crate::Analytics;

fn of(company: &str) -> Identity {
    user("ana").claim("userId", "ana").claim("companyId", company)
}

fn watch(app: &Harness<Analytics>, company: &str) -> Client<Analytics> {
    app.connect("/analytics", of(company))
}

fn send(app: &Harness<Analytics>, company: &str, conversation: &str) {
    app.publish(
        "message.sent",
        json!({ "companyId": company, "conversationId": conversation, "messageId": "m", "userId": "ana" }),
    );
}

fn metrics(period: &str, messages: u64, conversations: u64, timestamp: &str) -> Value {
    json!({
        "period": period, "totalMessages": messages, "totalConversations": conversations,
        "averageResponseTime": 0.0, "conversionRate": 0.0, "timestamp": timestamp,
    })
}

#[test]
fn a_user_without_a_company_is_refused() {
    let app = Harness::<Analytics>::new();
    let refusal = |who| app.try_connect("/analytics", who).err();
    assert_eq!(refusal(visitor()).as_deref(), Some("Authentication required"));
    assert_eq!(refusal(user("ana")).as_deref(), Some("Invalid or expired token"));
    assert_eq!(refusal(user("ana").claim("userId", "ana")).as_deref(), Some("Invalid or expired token"));
    assert_eq!(watch(&app, "acme").rooms(), ["analytics:acme"]);
}

#[test]
fn all_numbers_are_zero_without_messages() {
    let app = Harness::<Analytics>::new();
    let ana = watch(&app, "acme");
    for period in ["today", "week", "month"] {
        let answer = ana.emit("analytics:request", json!(period));
        answer.expect_reply_as("analytics:update", metrics(period, 0, 0, "2025-01-01T00:00:00.000Z"));
    }
    ana.expect_nothing();
}

#[test]
fn an_unknown_period_and_failing_storage_refuse_the_request() {
    let app = Harness::<Analytics>::new();
    let ana = watch(&app, "acme");
    for period in [json!("year"), json!(7), json!(null), json!({ "period": "today" })] {
        ana.emit("analytics:request", period).expect_refusal("invalid", "Failed to get metrics");
    }
    ana.emit_bare("analytics:request").expect_refusal("invalid", "Failed to get metrics");
    app.storage_answers(false);
    ana.emit("analytics:request", json!("today")).expect_refusal("unavailable", "Failed to get metrics");
}

#[test]
fn a_change_reaches_the_companys_dashboards_within_a_moment() {
    let app = Harness::<Analytics>::new();
    let (ana, screen, rival) = (watch(&app, "acme"), watch(&app, "acme"), watch(&app, "rival"));
    send(&app, "acme", "c1");
    app.advance(super::COLLECT);
    ana.expect("metrics:update", metrics("today", 1, 0, "2025-01-01T00:00:00.200Z"));
    screen.expect_any("metrics:update");
    rival.expect_nothing();
}

#[test]
fn changes_send_at_most_one_update_a_second() {
    let app = Harness::<Analytics>::new();
    let ana = watch(&app, "acme");
    for _ in 0..50 {
        send(&app, "acme", "c1");
        app.advance(Duration::from_millis(100));
    }
    app.advance(Duration::from_secs(2));
    let updates = ana.received("metrics:update");
    assert_eq!((updates.len(), &updates[5]["totalMessages"]), (6, &json!(50)));
    app.advance(Duration::from_secs(60));
    ana.expect_nothing();
}

#[test]
fn a_repeated_message_sends_no_update() {
    let app = Harness::<Analytics>::new();
    let ana = watch(&app, "acme");
    let upsert = || app.publish("conversation.upserted", json!({ "companyId": "acme", "conversationId": "c1" }));
    upsert();
    app.advance(Duration::from_secs(5));
    ana.expect_any("metrics:update");
    upsert();
    app.advance(Duration::from_secs(5));
    ana.expect_nothing();
}

#[test]
fn a_conversion_of_an_older_day_sends_no_update() {
    let app = Harness::<Analytics>::new();
    let ana = watch(&app, "acme");
    app.publish("conversation.upserted", json!({ "companyId": "acme", "conversationId": "c1" }));
    app.advance(Duration::from_secs(24 * 60 * 60));
    ana.forget();
    app.publish("conversation.converted", json!({ "companyId": "acme", "conversationId": "c1" }));
    app.advance(Duration::from_secs(5));
    ana.expect_nothing();
}

//! The counters: for each message, day and company.

use std::time::Duration;

use hubbub_sdk::harness::{Harness, user};
use serde_json::{Value, json};

use crate::Analytics;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn publish(app: &Harness<Analytics>, topic: &str, company: &str, conversation: &str) {
    app.publish(topic, json!({ "companyId": company, "conversationId": conversation, "from": "caio", "content": "oi" }));
}

/// The numbers of a period, as a company's dashboard asks for them.
fn ask(app: &Harness<Analytics>, company: &str, period: &str) -> Value {
    let client = app.connect("/analytics", user("ana").claim("userId", "ana").claim("companyId", company));
    client.emit("analytics:request", json!(period)).ack()
}

/// Messages, conversations, seconds to a reply, and the share of conversions.
fn numbers(app: &Harness<Analytics>, company: &str, period: &str) -> Value {
    let metrics = ask(app, company, period);
    ["totalMessages", "totalConversations", "averageResponseTime", "conversionRate"].map(|key| metrics[key].clone()).into()
}

#[test]
fn messages_of_both_directions_are_counted() {
    let app = Harness::<Analytics>::new();
    publish(&app, "message.received", "acme", "c1");
    publish(&app, "message.received", "acme", "c1");
    publish(&app, "message.sent", "acme", "c2");
    assert_eq!(numbers(&app, "acme", "today"), json!([3, 0, 0.0, 0.0]));
}

#[test]
fn response_time_runs_from_the_first_inbound_message_to_the_first_reply() {
    let app = Harness::<Analytics>::new();
    publish(&app, "message.received", "acme", "c1");
    app.advance(Duration::from_millis(1500));
    publish(&app, "message.received", "acme", "c1");
    app.advance(Duration::from_secs(1));
    publish(&app, "message.sent", "acme", "c1");
    app.advance(Duration::from_secs(9));
    publish(&app, "message.sent", "acme", "c1");
    assert_eq!(ask(&app, "acme", "today")["averageResponseTime"], json!(2.5));
    publish(&app, "message.received", "acme", "c2");
    app.advance(Duration::from_millis(500));
    publish(&app, "message.sent", "acme", "c2");
    assert_eq!(ask(&app, "acme", "today")["averageResponseTime"], json!(1.5));
}

#[test]
fn a_reply_counts_on_its_own_day() {
    let app = Harness::<Analytics>::new();
    publish(&app, "message.received", "acme", "c1");
    app.advance(DAY);
    publish(&app, "message.sent", "acme", "c1");
    assert_eq!(numbers(&app, "acme", "today"), json!([1, 0, 86_400.0, 0.0]));
}

#[test]
fn a_conversation_and_its_conversion_count_once() {
    let app = Harness::<Analytics>::new();
    for topic in ["conversation.upserted", "conversation.upserted", "conversation.converted", "conversation.converted"] {
        publish(&app, topic, "acme", "c1");
    }
    publish(&app, "conversation.upserted", "acme", "c2");
    assert_eq!(numbers(&app, "acme", "today"), json!([0, 2, 0.0, 0.5]));
}

#[test]
fn a_conversion_of_an_unknown_conversation_makes_it_known() {
    let app = Harness::<Analytics>::new();
    publish(&app, "conversation.converted", "acme", "c1");
    publish(&app, "conversation.upserted", "acme", "c1");
    assert_eq!(numbers(&app, "acme", "today"), json!([0, 1, 0.0, 1.0]));
}

#[test]
fn a_conversion_counts_on_the_day_of_its_conversation() {
    let app = Harness::<Analytics>::new();
    publish(&app, "conversation.upserted", "acme", "c1");
    app.advance(DAY);
    publish(&app, "conversation.upserted", "acme", "c2");
    publish(&app, "conversation.converted", "acme", "c1");
    assert_eq!(numbers(&app, "acme", "today"), json!([0, 1, 0.0, 0.0]));
    assert_eq!(numbers(&app, "acme", "week"), json!([0, 2, 0.0, 0.5]));
}

#[test]
fn a_week_has_7_days_and_a_month_30() {
    let app = Harness::<Analytics>::new();
    for _ in 0..35 {
        for topic in ["message.received", "message.sent", "conversation.converted"] {
            publish(&app, topic, "acme", &app.now().to_string());
        }
        app.advance(DAY);
    }
    assert_eq!(numbers(&app, "acme", "today"), json!([0, 0, 0.0, 0.0]));
    assert_eq!(numbers(&app, "acme", "week"), json!([12, 6, 0.0, 1.0]));
    assert_eq!(numbers(&app, "acme", "month"), json!([58, 29, 0.0, 1.0]));
}

#[test]
fn counts_of_two_companies_stay_apart() {
    let app = Harness::<Analytics>::new();
    publish(&app, "message.received", "acme", "c1");
    publish(&app, "conversation.upserted", "acme/2025", "c1");
    publish(&app, "message.sent", "rival", "c1");
    assert_eq!(numbers(&app, "acme", "month"), json!([1, 0, 0.0, 0.0]));
    assert_eq!(numbers(&app, "rival", "month"), json!([1, 0, 0.0, 0.0]));
    assert_eq!(numbers(&app, "acme/2025", "month"), json!([0, 1, 0.0, 0.0]));
}

#[test]
fn a_message_without_a_company_counts_for_its_tenant() {
    let app = Harness::<Analytics>::new();
    assert_eq!(
        app.try_publish("message.sent", json!({ "conversationId": "c1" })),
        Err("invalid data: companyId: missing".to_owned())
    );
    app.publish_for("acme", "message.sent", json!({ "conversationId": "c1" }));
    assert_eq!(numbers(&app, "acme", "today"), json!([1, 0, 0.0, 0.0]));
}

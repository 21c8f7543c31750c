//! Ids that clients send are strings, in every event of every plugin. Must never list the events by hand: the contract does.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tests::{Client, Server, Token, token};

/// A payload's schema, with what it refers to.
struct Schemas(Value);

impl Schemas {
    fn resolved<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(reference) => self.0.pointer(reference.trim_start_matches('#')).expect("the reference leads somewhere"),
            None => schema,
        }
    }

    /// Payloads of this schema in which one id is a number, and all else fits.
    fn with_a_number(&self, schema: &Value) -> Vec<Value> {
        let schema = self.resolved(schema);
        if is_id(schema) {
            return vec![json!(5)];
        }
        if let Some(several) = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array()) {
            return several.iter().flat_map(|one| self.with_a_number(one)).collect();
        }
        if schema["items"].is_object() {
            return self.with_a_number(&schema["items"]).into_iter().map(|item| json!([item])).collect();
        }
        let Some(properties) = schema["properties"].as_object() else { return Vec::new() };
        let fitting = self.fitting(schema);
        let mut all = Vec::new();
        for (name, property) in properties {
            for wrong in self.with_a_number(property) {
                let mut payload = fitting.clone();
                payload[name] = wrong;
                all.push(payload);
            }
        }
        all
    }

    fn fitting(&self, schema: &Value) -> Value {
        let schema = self.resolved(schema);
        if let Some(several) = schema["anyOf"].as_array() {
            return self.fitting(&several[0]);
        }
        if let Some(known) = schema["enum"].as_array() {
            return known[0].clone();
        }
        match schema["type"].as_str() {
            Some("string") => json!("x"),
            Some("number" | "integer") => json!(1),
            Some("boolean") => json!(true),
            Some("array") => json!([]),
            Some("object") => {
                let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
                required
                    .map(|name| (name.to_owned(), self.fitting(&schema["properties"][name])))
                    .collect::<serde_json::Map<_, _>>()
                    .into()
            }
            _ => Value::Null,
        }
    }
}

/// The schema of the SDK's `Id`, also where it may be missing.
fn is_id(schema: &Value) -> bool {
    schema["minLength"] == 1 && schema["maxLength"] == 128
}

/// A token that opens every namespace.
fn anyone() -> Token {
    token("ana").claim("userId", "ana").claim("companyId", "acme").claim("role", json!(["ADMIN", "ATTENDANT"]))
}

#[tokio::test]
async fn a_number_where_a_client_sends_an_id_is_invalid_in_every_event() {
    let server = Server::dev().chatty().start().await;
    let (_, document) = server.get("/asyncapi.json").await;
    let schemas = Schemas(document.clone());
    let mut tried = BTreeSet::new();
    for operation in document["operations"].as_object().expect("operations").values() {
        let of_the_host = operation["tags"][0]["name"].as_str().is_some_and(|plugin| plugin.starts_with("hubbub@"));
        if operation["action"] != "receive" || of_the_host {
            continue;
        }
        let at = |reference: &Value| document.pointer(reference["$ref"].as_str().expect("a reference").trim_start_matches('#'));
        let namespace = at(&operation["channel"]).expect("the channel")["address"].as_str().expect("an address");
        let event = operation["title"].as_str().expect("a name");
        let payload = &at(&operation["messages"][0]).expect("the message")["payload"];
        if namespace.contains('{') {
            // Its events are those of `/` too.
            continue;
        }
        let mut client: Client = server.connect(namespace, anyone()).await;
        for wrong in schemas.with_a_number(payload) {
            let (code, message) = client.refused(event, wrong.clone()).await;
            assert_eq!(code, "invalid", "{event} {wrong} in {namespace}: {message}");
            assert!(!message.contains("line 1"), "{event} {wrong} in {namespace}: {message}");
            tried.insert(event.to_owned());
        }
    }
    for event in ["queue:take", "join_conversation", "mark_read", "delivered", "join:thread", "join:conversation", "video:join"] {
        assert!(tried.contains(event), "{event} is not among {tried:?}");
    }
}

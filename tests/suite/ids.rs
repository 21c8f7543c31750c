//! Ids that clients send are strings, in every event of every plugin. The events must never be listed by hand: they come from the
//! contract.

use std::collections::BTreeSet;

use serde_json::json;
use tests::{Client, Server, Token, token};

use crate::schemas::Schemas;

/// A token that every namespace accepts.
fn anyone() -> Token {
    token("ana").claim("userId", "ana").claim("companyId", "acme").claim("role", json!(["ADMIN", "ATTENDANT"]))
}

#[tokio::test]
async fn a_numeric_id_is_invalid_in_every_event() {
    let server = Server::dev().without_message_limit().start().await;
    let (_, document) = server.get("/asyncapi.json").await;
    let schemas = Schemas(document);
    let mut tried = BTreeSet::new();
    for (namespace, event, payload) in schemas.events() {
        if namespace.contains('{') {
            // Its events are also those of `/`.
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

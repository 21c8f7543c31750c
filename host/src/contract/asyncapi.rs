//! The contract as an AsyncAPI 3 document from the server's view: events from clients are `receive`. The document must be valid for any
//! names in descriptions: they are values, or are escaped for keys.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{Contract, DONE, Emitted, Handled, Namespace, REFUSED, Reading, reference, unique};
use crate::sandbox::exports::{Door, TokenPolicy};

/// How to read the document, for readers without knowledge of Socket.IO.
const ABOUT: &str = "Each channel is a Socket.IO namespace, and each message an event of the message's `name`, with the payload as \
    its first argument. Every event from a client may ask for an acknowledgement: it is the reply, `{}` where there is none, or the \
    refusal. Without one a refusal is the event `error`.";

/// How a client sends its token, which AsyncAPI's security schemes cannot express.
const ABOUT_TOKEN: &str = "A JSON Web Token in the `auth` of the connect packet: `io(url, { auth: { token } })`, with or without \
    `Bearer ` before it; or else in the header `Authorization: Bearer` of the handshake.";

fn about_token(reading: &Reading) -> String {
    let rows = reading.rows().map(|(what, claims, form)| format!("{what}: the first of {} ({form})", claims.join(", ")));
    format!("{ABOUT_TOKEN} Its claims that are read: {}.", rows.join("; "))
}

/// The document as JSON text. `host` is the server's address as far as it is configured.
pub fn render(contract: &Contract, host: &str, reading: &Reading) -> String {
    let mut document = document(contract, host, reading);
    // The version is a hash of the content, so that it is the same on every node and after every restart.
    let digest = Sha256::digest(document.to_string());
    let version: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    document["info"]["version"] = version.into();
    document.to_string()
}

fn document(contract: &Contract, host: &str, reading: &Reading) -> Value {
    let (mut channels, mut operations) = (Map::new(), Map::new());
    for namespace in &contract.namespaces {
        let mut channel = Channel::new(namespace);
        for event in &namespace.handled {
            channel.receive(event, &mut operations);
        }
        for event in &namespace.emitted {
            channel.send(event, &mut operations);
        }
        channels.insert(namespace.name.clone(), channel.finish());
    }
    json!({
        "asyncapi": "3.0.0",
        "info": { "title": "Hubbub", "description": ABOUT, "tags": tags(&contract.plugins) },
        "defaultContentType": "application/json",
        "servers": {
            "public": {
                "host": "{host}",
                "pathname": "/socket.io/",
                "protocol": "ws",
                "description": "Socket.IO 5 over Engine.IO 4: websocket and long polling.",
                "variables": { "host": { "default": host, "description": "The public port." } },
            },
        },
        "channels": channels,
        "operations": operations,
        "components": {
            "schemas": contract.types.iter().map(|(name, schema)| (name.clone(), object(schema))).collect::<Map<_, _>>(),
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": about_token(reading) },
            },
        },
    })
}

/// A channel under construction.
struct Channel<'a> {
    namespace: &'a Namespace,
    messages: Map<String, Value>,
    keys: BTreeSet<String>,
}

impl<'a> Channel<'a> {
    fn new(namespace: &'a Namespace) -> Self {
        let refused = json!({ "name": "ack", "title": "A refusal", "payload": reference(REFUSED) });
        let done = json!({ "name": "ack", "title": "Done", "payload": reference(DONE) });
        let messages = Map::from_iter([(REFUSED.to_owned(), refused), (DONE.to_owned(), done)]);
        let keys = messages.keys().cloned().collect();
        Self { namespace, messages, keys }
    }

    /// Adds a message, and returns a reference to it.
    fn message(&mut self, key: &str, message: Value) -> Value {
        let key = unique(key, &mut self.keys);
        let reference = self.reference(&key);
        self.messages.insert(key, message);
        reference
    }

    fn reference(&self, message: &str) -> Value {
        json!({ "$ref": format!("#/channels/{}/messages/{message}", self.namespace.name) })
    }

    fn operation(&self, action: &str, plugins: &[String]) -> Map<String, Value> {
        let channel = json!({ "$ref": format!("#/channels/{}", self.namespace.name) });
        let mut operation = Map::from_iter([
            ("action".to_owned(), Value::from(action)),
            ("channel".to_owned(), channel),
            ("tags".to_owned(), tags(plugins)),
        ]);
        if self.namespace.door.as_ref().is_some_and(|door| door.token == TokenPolicy::Required) {
            operation.insert("security".into(), json!([{ "$ref": "#/components/securitySchemes/token" }]));
        }
        operation
    }

    fn receive(&mut self, event: &Handled, operations: &mut Map<String, Value>) {
        let key = key(&event.name);
        let message = json!({ "name": event.name, "payload": object(&event.payload) });
        let message = self.message(&format!("receive-{key}"), message);
        let reply = match &event.reply {
            None => self.reference(DONE),
            Some(reply) => {
                let title = format!("The reply to {}", event.name);
                self.message(&format!("reply-{key}"), json!({ "name": "ack", "title": title, "payload": object(reply) }))
            }
        };
        let mut operation = self.operation("receive", std::slice::from_ref(&event.plugin));
        operation.insert("title".into(), event.name.clone().into());
        let on_failure = event.on_failure.as_ref().map(|sentence| format!("If the server fails: {sentence:?}."));
        let about: Vec<_> = on_failure.into_iter().chain(event.once()).collect();
        if !about.is_empty() {
            operation.insert("description".into(), about.join(" ").into());
        }
        operation.insert("messages".into(), json!([message]));
        let reply = json!({ "channel": operation["channel"], "messages": [reply, self.reference(REFUSED)] });
        operation.insert("reply".into(), reply);
        insert(operations, &format!("{}-receive-{key}", self.namespace.name), operation);
    }

    fn send(&mut self, event: &Emitted, operations: &mut Map<String, Value>) {
        let key = key(&event.name);
        let messages: Vec<_> =
            event.payloads.iter().map(|payload| json!({ "name": event.name, "payload": object(payload) })).collect();
        let messages: Vec<_> = messages.into_iter().map(|message| self.message(&format!("send-{key}"), message)).collect();
        let mut operation = self.operation("send", &event.plugins);
        operation.insert("title".into(), event.name.clone().into());
        operation.insert("messages".into(), messages.into());
        insert(operations, &format!("{}-send-{key}", self.namespace.name), operation);
    }

    fn finish(self) -> Value {
        let Namespace { path, door, plugins, .. } = self.namespace;
        let mut channel = json!({
            "address": path,
            "title": path,
            "messages": self.messages,
            "tags": tags(plugins),
        });
        if let Some(parameter) = self.namespace.parameter() {
            let about = "Any text, to the end of the path.";
            channel["parameters"] = json!({ parameter: { "description": about } });
        }
        channel["description"] = match door {
            Some(_) => "The door policy, with the sentences of its refusals, is in `x-door`.".into(),
            None => "The plugin that owns it is not live: every connection is refused.".into(),
        };
        if let Some(door) = door {
            channel["x-door"] = self::door(door);
        }
        channel
    }
}

impl Namespace {
    /// The name of the path's parameter.
    fn parameter(&self) -> Option<&str> {
        self.path.split_once('{')?.1.strip_suffix('}')
    }
}

/// A schema as an object, because AsyncAPI forbids `true` and `false` in some places.
fn object(schema: &Value) -> Value {
    match schema {
        Value::Bool(true) => json!({}),
        Value::Bool(false) => json!({ "not": {} }),
        schema => schema.clone(),
    }
}

fn door(door: &Door) -> Value {
    let token = match door.token {
        TokenPolicy::Optional => "optional",
        TokenPolicy::Required => "required",
    };
    json!({
        "token": token,
        "claims": door.claims,
        "roles": door.roles,
        "missing": door.missing,
        "invalid": door.invalid,
        "forbidden": door.forbidden,
        "authorize": door.authorize,
    })
}

fn tags(names: &[String]) -> Value {
    let names: BTreeSet<&String> = names.iter().collect();
    names.into_iter().map(|name| json!({ "name": name })).collect()
}

fn insert(operations: &mut Map<String, Value>, key: &str, operation: Map<String, Value>) {
    let mut taken = operations.keys().cloned().collect();
    operations.insert(unique(key, &mut taken), operation.into());
}

/// An event's name as part of a key: other characters than ASCII letters, digits and `_` become `-`.
fn key(event: &str) -> String {
    event.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect()
}

//! Visits every text, name and number of a recorded call, with its position. Parses nested JSON texts and writes them again.
//! Decides nothing.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Number, Value};

/// Keys of free texts: a word that is a whole value of one does not count as a value of an enum.
const WRITTEN: [&str; 12] =
    ["content", "text", "body", "message", "html", "title", "description", "subject", "name", "email", "phone", "preview"];

/// The position of a value.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct At {
    /// In the output: arguments of imports, and the outcome.
    pub(crate) is_output: bool,
    /// In a payload, with names of the plugin.
    pub(crate) is_payload: bool,
    /// Under a key that hides all its values.
    pub(crate) is_hidden: bool,
    pub(crate) is_claims: bool,
    /// Under the key of a free text.
    pub(crate) is_written: bool,
    /// A part of the user's identity.
    pub(crate) is_identity: bool,
    /// An id of the user, which may be a key elsewhere.
    pub(crate) is_id: bool,
    /// A name or key of the host: of a room, in the store, of a timer.
    pub(crate) is_place: bool,
}

impl At {
    /// In the output of a call.
    pub(crate) fn out() -> Self {
        Self { is_output: true, is_place: true, ..Self::default() }
    }

    fn input() -> Self {
        Self::default()
    }
}

/// The work for each value. None: the value is kept.
pub(crate) trait Work {
    fn hides(&self, key: &str) -> bool;
    fn text(&mut self, text: &str, at: At) -> Option<String>;
    fn name(&mut self, name: &str, at: At) -> Option<String>;
    fn number(&mut self, number: &Number, at: At) -> Option<Number>;
    fn flag(&mut self, flag: bool, at: At) -> bool;
    fn bytes(&mut self, bytes: &mut Vec<u8>, at: At);
}

/// Visits a whole recorded call.
pub(crate) fn walk_call(call: &mut Value, work: &mut impl Work) {
    let Value::Object(fields) = call else { return };
    // The input first, since the redaction of the output depends on it.
    for (name, value) in fields.iter_mut() {
        match name.as_str() {
            "caller" => caller(value, work),
            "event" | "message" | "timer" => payload(value, work),
            "auth" => walk(value, At::input(), work),
            "key" => walk(value, At { is_place: true, ..At::input() }, work),
            _ => {}
        }
    }
    for import in fields.get_mut("imports").and_then(Value::as_array_mut).into_iter().flatten() {
        let is_random = import["import"].as_str().is_some_and(|name| name.starts_with("random."));
        if let Some(answer) = import.get_mut("answer").filter(|_| !is_random) {
            walk(answer, At { is_place: true, ..At::input() }, work);
        }
        if let Some(args) = import.get_mut("args") {
            walk(args, At::out(), work);
        }
    }
    if let Some(outcome) = fields.get_mut("outcome") {
        // The code of a refusal is the host's.
        match outcome.get_mut("refused").and_then(|refused| refused.get_mut("message")) {
            Some(message) => walk(message, At { is_place: false, ..At::out() }, work),
            None => walk(outcome, At { is_place: false, ..At::out() }, work),
        }
    }
}

fn caller(caller: &mut Value, work: &mut impl Work) {
    for (name, value) in caller.as_object_mut().into_iter().flatten() {
        match name.as_str() {
            "namespace" => walk(value, At { is_place: true, ..At::input() }, work),
            "user" => {
                for (name, value) in value.as_object_mut().into_iter().flatten() {
                    let is_claims = name == "claims";
                    // A role is often a word of the code.
                    let is_identity = !is_claims && name != "role" && name != "roles";
                    let is_id = name == "id" || name == "tenant";
                    walk(value, At { is_claims, is_identity, is_id, ..At::input() }, work);
                }
            }
            _ => {}
        }
    }
}

/// An event, a message or a timer. The plugin declares its name.
fn payload(of: &mut Value, work: &mut impl Work) {
    for (name, value) in of.as_object_mut().into_iter().flatten() {
        match name.as_str() {
            "name" | "topic" => {}
            "key" | "tenant" | "id" => walk(value, At { is_place: true, ..At::input() }, work),
            _ => walk(value, At::input(), work),
        }
    }
}

/// Visits a value and all values in it.
pub(crate) fn walk(value: &mut Value, at: At, work: &mut impl Work) {
    match value {
        Value::String(text) => match json_text(text) {
            Some(mut inside) => {
                let before = inside.clone();
                walk(&mut inside, At { is_payload: true, is_place: false, ..at }, work);
                if inside != before {
                    *text = inside.to_string();
                }
            }
            None => {
                if let Some(other) = work.text(text, at) {
                    *text = other;
                }
            }
        },
        Value::Number(number) => {
            if let Some(other) = work.number(number, at) {
                *number = other;
            }
        }
        Value::Bool(flag) => *flag = work.flag(*flag, at),
        Value::Array(items) => items.iter_mut().for_each(|item| walk(item, at, work)),
        Value::Object(fields) if at.is_payload => payload_fields(fields, at, work),
        Value::Object(fields) => host_fields(fields, at, work),
        Value::Null => {}
    }
}

fn payload_fields(fields: &mut Map<String, Value>, at: At, work: &mut impl Work) {
    for (mut name, mut value) in std::mem::take(fields) {
        let is_hidden = at.is_hidden || work.hides(&name);
        let is_written = WRITTEN.contains(&name.as_str());
        walk(&mut value, At { is_hidden, is_written, ..at }, work);
        if let Some(other) = work.name(&name, at) {
            name = other;
        }
        fields.insert(name, value);
    }
}

fn host_fields(fields: &mut Map<String, Value>, at: At, work: &mut impl Work) {
    for (name, value) in fields {
        match (name.as_str(), value.as_str().map(|text| BASE64_STANDARD.decode(text))) {
            ("base64", Some(Ok(mut bytes))) => {
                work.bytes(&mut bytes, at);
                *value = BASE64_STANDARD.encode(bytes).into();
            }
            ("utf8", _) => walk(value, At { is_place: false, ..at }, work),
            _ => walk(value, at, work),
        }
    }
}

/// The object, list or text that a text contains as JSON.
fn json_text(text: &str) -> Option<Value> {
    let is_json = text.trim_start().starts_with(['{', '[', '"']);
    is_json.then(|| serde_json::from_str(text).ok()).flatten()
}

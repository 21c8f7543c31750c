//! The contract of a running server, and payloads generated from it. Events must never be listed by hand: they come from the
//! contract.

use serde_json::{Value, json};

/// The AsyncAPI document with its schemas.
pub(crate) struct Schemas(pub(crate) Value);

impl Schemas {
    fn resolved<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(reference) => self.0.pointer(reference.trim_start_matches('#')).expect("the reference can be resolved"),
            None => schema,
        }
    }

    /// Payloads that match this schema except for one id, which is a number.
    pub(crate) fn with_a_number(&self, schema: &Value) -> Vec<Value> {
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

    /// Every event that a client may send to a plugin: its namespace, name and payload schema.
    pub(crate) fn events(&self) -> Vec<(&str, &str, &Value)> {
        let is_plugins = |operation: &&Value| {
            let of_the_host = operation["tags"][0]["name"].as_str().is_some_and(|plugin| plugin.starts_with("hubbub@"));
            operation["action"] == "receive" && !of_the_host
        };
        let operations = self.0["operations"].as_object().expect("operations").values().filter(is_plugins);
        operations
            .map(|operation| {
                let channel = operation["channel"]["$ref"].as_str().expect("a reference").trim_start_matches('#');
                let message = operation["messages"][0]["$ref"].as_str().expect("a reference").trim_start_matches('#');
                let namespace = self.0.pointer(channel).expect("the channel")["address"].as_str().expect("an address");
                let payload = &self.0.pointer(message).expect("the message")["payload"];
                (namespace, operation["title"].as_str().expect("a name"), payload)
            })
            .collect()
    }

    /// A payload of this schema with texts and lists of this size. Ids are `c1`.
    pub(crate) fn sized(&self, schema: &Value, size: usize) -> Value {
        let schema = self.resolved(schema);
        if is_id(schema) {
            return json!("c1");
        }
        if let Some(several) = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array()) {
            return several.iter().map(|one| self.sized(one, size)).max_by_key(|one| one.to_string().len()).unwrap_or_default();
        }
        if let Some(known) = schema["enum"].as_array() {
            return known[0].clone();
        }
        match &schema["type"] {
            kind if is(kind, "string") => json!("<é".repeat(size / 2)),
            kind if is(kind, "number") || is(kind, "integer") => json!(size),
            kind if is(kind, "boolean") => json!(true),
            kind if is(kind, "array") => (0..size).map(|_| self.sized(&schema["items"], 8)).collect::<Vec<_>>().into(),
            kind if is(kind, "object") => {
                let properties = schema["properties"].as_object().into_iter().flatten();
                properties.map(|(name, one)| (name.clone(), self.sized(one, size))).collect::<serde_json::Map<_, _>>().into()
            }
            _ => Value::Null,
        }
    }
}

/// Whether a schema's type is or includes this one.
fn is(kind: &Value, name: &str) -> bool {
    kind == name || kind.as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == name))
}

/// Whether this is the schema of the SDK's `Id`, optional or not.
fn is_id(schema: &Value) -> bool {
    schema["minLength"] == 1 && schema["maxLength"] == 128
}

//! The contract as TypeScript for `socket.io-client`. The same contract must always give the same text, and a plugin's text must be
//! quoted or in a comment, never code.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::schema::PREFIX;
use super::{Contract, DONE, Emitted, Handled, Namespace, REFUSED, reference};

/// Suffixes of a namespace's name: the types of its events.
pub(crate) const ENDINGS: [&str; 2] = ["ClientToServerEvents", "ServerToClientEvents"];

/// Names in the rendered text that no type may have.
pub(crate) const RESERVED: [&str; 6] = ["Socket", "Namespaces", "NamespaceSocket", "Payload", "Reply", "Asking"];

/// The depth of nested inline types, after which `unknown` is written: the depth that JSON may have.
const MAX_DEPTH: usize = crate::json::MAX_DEPTH;

const HEAD: &str = "\
/* eslint-disable */
import type { Socket } from \"socket.io-client\";
";

/// Types that `socket.io-client` lacks: its `emitWithAck` does not accept events with an optional acknowledgement.
const TAIL: &str = "\
type Payload<Event> = Event extends (...args: infer Args) => void
  ? Args extends [infer P, unknown?] ? [payload: P] : Args extends [(infer P)?, unknown?] ? [payload?: P] : never
  : never;
type Reply<Event> = Event extends (payload: never, ack?: (reply: infer R) => void) => void ? R : never;
interface Asking<Events> {
  /** Sends an event and waits for its acknowledgement. */
  emitWithAck<Name extends keyof Events>(event: Name, ...args: Payload<Events[Name]>): Promise<Reply<Events[Name]>>;
}

/**
 * A socket in one namespace, with every event, payload and acknowledgement typed:
 * `const socket: NamespaceSocket<\"/chat\"> = io(\"http://localhost:4100/chat\", { auth: { token } });`
 */
export type NamespaceSocket<Path extends keyof Namespaces> =
  Omit<Socket<Namespaces[Path][\"serverToClient\"], Namespaces[Path][\"clientToServer\"]>, \"emitWithAck\" | \"timeout\">
  & Asking<Namespaces[Path][\"clientToServer\"]>
  & { timeout(milliseconds: number): Asking<Namespaces[Path][\"clientToServer\"]> };
";

/// The whole contract as one module.
pub fn render(contract: &Contract) -> String {
    let origin = format!("Made by `hubbub types` of {}. Not for editing.", contract.plugins.join(", "));
    let mut text = docs(Some(&origin), 0) + HEAD;
    for (name, schema) in &contract.types {
        text.push('\n');
        text.push_str(&declaration(name, schema));
    }
    for namespace in &contract.namespaces {
        text.push('\n');
        interfaces(namespace, &contract.types, &mut text);
    }
    text.push_str("\n/** Every namespace, by its path. */\nexport interface Namespaces {\n");
    for Namespace { path, name, .. } in &contract.namespaces {
        let [sent, received] = ENDINGS;
        text.push_str(&format!("  {}: {{ clientToServer: {name}{sent}; serverToClient: {name}{received} }};\n", quoted(path)));
    }
    text.push_str("}\n\n");
    text.push_str(TAIL);
    text
}

/// One named type.
pub fn declaration(name: &str, schema: &Value) -> String {
    let docs = docs(schema.get("description").and_then(Value::as_str), 0);
    match schema {
        Value::Object(keywords) if is_plain_object(keywords) => {
            format!("{docs}export interface {name} {}\n", object(keywords, 0))
        }
        schema => format!("{docs}export type {name} = {};\n", expression(schema, 0)),
    }
}

/// A schema as an inline type.
pub fn inline(schema: &Value) -> String {
    expression(schema, 0)
}

fn interfaces(namespace: &Namespace, types: &BTreeMap<String, Value>, text: &mut String) {
    let Namespace { path, name, handled, emitted, plugins, .. } = namespace;
    let [sent, received] = ENDINGS;
    text.push_str(&docs(Some(&format!("What clients send in `{path}`, by {}.", plugins.join(", "))), 0));
    text.push_str(&format!("export interface {name}{sent} {{\n"));
    for event in handled {
        text.push_str(&docs(Some(&event.about()), 1));
        text.push_str(&format!("  {}: {};\n", property(&event.name), event.signature(types)));
    }
    text.push_str("}\n\n");
    text.push_str(&docs(Some(&format!("What clients get in `{path}`.")), 0));
    text.push_str(&format!("export interface {name}{received} {{\n"));
    for event in emitted {
        text.push_str(&docs(Some(&format!("From {}.", event.plugins.join(", "))), 1));
        text.push_str(&format!("  {}: {};\n", property(&event.name), event.signature(types)));
    }
    text.push_str("}\n");
}

impl Handled {
    fn about(&self) -> String {
        match &self.on_failure {
            Some(sentence) => format!("Handled by {}. Where that fails: {}.", self.plugin, quoted(sentence)),
            None => format!("Handled by {}.", self.plugin),
        }
    }

    /// The function type for `socket.io-client`. The acknowledgement is optional.
    fn signature(&self, types: &BTreeMap<String, Value>) -> String {
        let done = reference(DONE);
        let reply = union([self.reply.as_ref().unwrap_or(&done), &reference(REFUSED)].map(|reply| expression(reply, 1)));
        format!("({}, ack?: (reply: {reply}) => void) => void", parameter(&self.payload, types))
    }
}

impl Emitted {
    fn signature(&self, types: &BTreeMap<String, Value>) -> String {
        match &self.payloads[..] {
            [payload] => format!("({}) => void", parameter(payload, types)),
            several => format!("(payload: {}) => void", union(several.iter().map(|payload| expression(payload, 1)))),
        }
    }
}

/// A payload that may be null is optional, because an event without an argument has the payload null.
fn parameter(payload: &Value, types: &BTreeMap<String, Value>) -> String {
    let optional = if takes_null(payload, types, 0) { "?" } else { "" };
    format!("payload{optional}: {}", expression(payload, 1))
}

fn takes_null(schema: &Value, types: &BTreeMap<String, Value>, depth: usize) -> bool {
    let Value::Object(keywords) = schema else { return schema == &Value::Bool(true) };
    let any = |parts: &Value| parts.as_array().into_iter().flatten().any(|part| takes_null(part, types, depth + 1));
    let is_null = |name: &Value| name == "null";
    // A type that is only an alternative of itself has no values.
    if depth > MAX_DEPTH {
        return false;
    }
    if let Some(named) = name(keywords).and_then(|name| types.get(name)) {
        return takes_null(named, types, depth + 1);
    }
    match keywords.get("type") {
        Some(Value::Array(names)) => names.iter().any(is_null),
        Some(name) => is_null(name),
        None if keywords.keys().all(|keyword| keyword == "description") => true,
        None => ["anyOf", "oneOf"].iter().filter_map(|keyword| keywords.get(*keyword)).any(any),
    }
}

/// The name of the type that a schema refers to.
fn name(keywords: &Map<String, Value>) -> Option<&str> {
    keywords.get("$ref")?.as_str()?.strip_prefix(PREFIX)
}

/// A schema as a type: the intersection of all its keywords.
fn expression(schema: &Value, depth: usize) -> String {
    let keywords = match schema {
        Value::Object(keywords) if depth <= MAX_DEPTH => keywords,
        Value::Bool(false) => return "never".into(),
        _ => return "unknown".into(),
    };
    if let Some(name) = name(keywords) {
        return name.to_owned();
    }
    if let Some(value) = keywords.get("const") {
        return literal(value, depth);
    }
    if let Some(Value::Array(values)) = keywords.get("enum") {
        return union(values.iter().map(|value| literal(value, depth)));
    }
    let parts = |keyword: &str| {
        let parts = keywords.get(keyword)?.as_array()?;
        Some(parts.iter().map(|part| expression(part, depth)).collect::<Vec<_>>())
    };
    let alternatives = ["anyOf", "oneOf"].iter().filter_map(|keyword| parts(keyword)).map(union);
    let all = parts("allOf").unwrap_or_default();
    let own = of_type(keywords, depth);
    let has_combinations = ["anyOf", "oneOf", "allOf"].iter().any(|keyword| keywords.contains_key(*keyword));
    // Beside alternatives, `type` alone adds nothing.
    let own = own.filter(|_| !has_combinations || keywords.contains_key("properties"));
    intersection(own.into_iter().chain(all).chain(alternatives))
}

/// The type that `type` and its keywords describe.
fn of_type(keywords: &Map<String, Value>, depth: usize) -> Option<String> {
    let one = |name: &str| match name {
        "null" | "boolean" | "string" => name.to_owned(),
        "number" | "integer" => "number".into(),
        "array" => array(keywords, depth),
        "object" => object(keywords, depth),
        _ => "unknown".into(),
    };
    match keywords.get("type") {
        Some(Value::String(name)) => Some(one(name)),
        Some(Value::Array(names)) => Some(union(names.iter().filter_map(Value::as_str).map(one))),
        _ if keywords.contains_key("properties") => Some(object(keywords, depth)),
        _ if keywords.contains_key("items") => Some(array(keywords, depth)),
        _ => None,
    }
}

fn array(keywords: &Map<String, Value>, depth: usize) -> String {
    let of = |schema: &Value| format!("{}[]", grouped(expression(schema, depth + 1)));
    match keywords.get("items") {
        Some(Value::Array(parts)) => {
            let mut parts: Vec<_> = parts.iter().map(|part| expression(part, depth + 1)).collect();
            let rest = keywords.get("additionalItems").unwrap_or(&Value::Bool(true));
            let length = u64::try_from(parts.len()).ok();
            let is_full = length.is_some() && keywords.get("maxItems").and_then(Value::as_u64) == length;
            if rest != &Value::Bool(false) && !is_full {
                parts.push(format!("...{}", of(rest)));
            }
            format!("[{}]", parts.join(", "))
        }
        Some(each) => of(each),
        None => "unknown[]".into(),
    }
}

fn is_plain_object(keywords: &Map<String, Value>) -> bool {
    let is_more = |keyword: &&str| keywords.contains_key(*keyword);
    let is_object = keywords.get("type").is_none_or(|name| name == "object") && keywords.contains_key("properties");
    is_object && !["$ref", "const", "enum", "anyOf", "oneOf", "allOf"].iter().any(is_more)
}

fn object(keywords: &Map<String, Value>, depth: usize) -> String {
    let margin = "  ".repeat(depth + 1);
    let required = keywords.get("required").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut members = String::new();
    for (name, schema) in keywords.get("properties").and_then(Value::as_object).into_iter().flatten() {
        members.push_str(&docs(schema.get("description").and_then(Value::as_str), depth + 1));
        let optional = if required.iter().any(|other| other == name) { "" } else { "?" };
        members.push_str(&format!("{margin}{}{optional}: {};\n", property(name), expression(schema, depth + 1)));
    }
    match keywords.get("additionalProperties") {
        Some(Value::Bool(false)) | None if !members.is_empty() => {}
        Some(Value::Bool(false)) => return "{ [key: string]: never }".into(),
        // An index signature must fit every property beside it.
        Some(_) if !members.is_empty() => members.push_str(&format!("{margin}[key: string]: unknown;\n")),
        values => {
            let values = values.map_or("unknown".into(), |values| expression(values, depth));
            return format!("{{ [key: string]: {values} }}");
        }
    }
    format!("{{\n{members}{}}}", "  ".repeat(depth))
}

fn literal(value: &Value, depth: usize) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(values) if depth < MAX_DEPTH => {
            let values: Vec<_> = values.iter().map(|value| literal(value, depth + 1)).collect();
            format!("[{}]", values.join(", "))
        }
        Value::Object(members) if depth < MAX_DEPTH => {
            let members: Vec<_> =
                members.iter().map(|(name, value)| format!("{}: {}", property(name), literal(value, depth + 1))).collect();
            format!("{{ {} }}", members.join("; "))
        }
        Value::Array(_) | Value::Object(_) => "unknown".into(),
        plain => plain.to_string(),
    }
}

/// Each alternative once, in the order given.
fn union(parts: impl IntoIterator<Item = String>) -> String {
    join(parts, " | ", "unknown")
}

fn intersection(parts: impl IntoIterator<Item = String>) -> String {
    // `unknown` adds nothing to an intersection.
    let mut parts: Vec<_> = parts.into_iter().filter(|part| part != "unknown").collect();
    if parts.len() > 1 {
        parts = parts.into_iter().map(grouped).collect();
    }
    join(parts, " & ", "unknown")
}

fn join(parts: impl IntoIterator<Item = String>, with: &str, none: &str) -> String {
    let mut joined: Vec<String> = Vec::new();
    for part in parts {
        if !joined.contains(&part) {
            joined.push(part);
        }
    }
    if joined.is_empty() { none.into() } else { joined.join(with) }
}

/// Adds parentheses to unions and intersections. Superfluous ones do no harm.
fn grouped(part: String) -> String {
    if part.contains(" | ") || part.contains(" & ") { format!("({part})") } else { part }
}

/// A property's name, quoted if it is no identifier.
fn property(name: &str) -> String {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_' || c == '$';
    let is_plain = name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit());
    if is_plain { name.to_owned() } else { quoted(name) }
}

/// A string literal: JSON's syntax is valid TypeScript.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// Text that cannot end its comment.
fn comment(text: &str) -> String {
    text.replace("*/", "*\\/").replace(['\r', '\u{2028}', '\u{2029}'], "\n")
}

fn docs(text: Option<&str>, depth: usize) -> String {
    let Some(text) = text.filter(|text| !text.trim().is_empty()) else { return String::new() };
    let (text, margin) = (comment(text), "  ".repeat(depth));
    let lines: Vec<_> = text.trim().lines().map(str::trim_end).collect();
    match lines[..] {
        [line] => format!("{margin}/** {line} */\n"),
        _ => {
            let body: String = lines.iter().map(|line| format!("{margin} * {line}").trim_end().to_owned() + "\n").collect();
            format!("{margin}/**\n{body}{margin} */\n")
        }
    }
}

#[cfg(test)]
mod tests;

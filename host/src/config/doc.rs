//! The configuration's documentation: every key with its kind, default and meaning, as a JSON schema, as pages and as a file. All of
//! it must come from the doc comments and `Default`s of the sections' types, so that no page differs from the code.

mod fixed;
mod limits;
mod pages;
mod sample;
#[cfg(test)]
mod tests;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::Config;
use super::keys::{self, CHOSEN};
use crate::duration;

pub use limits::page as limits;
pub use pages::{configuration, metrics};
pub use sample::file as default_file;

/// One section, such as `[gateway]`, with its keys in the order of the code.
#[derive(Debug, Clone)]
struct Section {
    /// The header in a file: `[gateway]`, `[[auth.keys]]`.
    title: String,
    about: String,
    keys: Vec<Key>,
}

/// One key of a section.
#[derive(Debug, Clone)]
struct Key {
    /// Such as `gateway.max_payload`.
    path: String,
    name: String,
    about: String,
    /// The kind of its value, in words.
    kind: String,
    default: Option<Value>,
}

/// The JSON schema of `hubbub.toml`, for editors.
///
/// # Errors
/// If it cannot be written as JSON.
pub fn schema() -> Result<String, serde_json::Error> {
    let mut root = raw();
    tidy(&mut root);
    serde_json::to_string_pretty(&root).map(|text| text + "\n")
}

/// The schema as generated from the types, with durations as text.
fn raw() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut root = settings.into_generator().into_root_schema_for::<Config>().to_value();
    root["title"] = "hubbub.toml".into();
    write_durations(&mut root);
    root
}

/// Replaces defaults that are durations with their text.
fn write_durations(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if let Some(default) = object.get_mut("default")
                && let Some(Value::Number(secs)) = default.get("secs")
                && let Some(Value::Number(nanos)) = default.get("nanos")
            {
                let (secs, nanos) = (secs.as_u64().unwrap_or_default(), nanos.as_u64().unwrap_or_default());
                let time = std::time::Duration::from_secs(secs) + std::time::Duration::from_nanos(nanos);
                *default = duration::text(time).into();
            }
            object.values_mut().for_each(write_durations);
        }
        Value::Array(list) => list.iter_mut().for_each(write_durations),
        _ => {}
    }
}

/// Removes `null`, which TOML lacks, and joins the lines of descriptions.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if object.get("default").is_some_and(Value::is_null) {
                object.remove("default");
            }
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|one| one != "null");
                if let [one] = types.as_slice() {
                    let one = one.clone();
                    object.insert("type".into(), one);
                }
            }
            if let Some(Value::Array(values)) = object.get_mut("enum") {
                values.retain(|one| !one.is_null());
            }
            if let Some(Value::Array(cases)) = object.get_mut("anyOf") {
                cases.retain(|one| one["type"] != "null");
            }
            if let Some(Value::String(text)) = object.get_mut("description") {
                *text = one_line(text);
            }
            object.values_mut().for_each(tidy);
        }
        Value::Array(list) => list.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// All sections, in the order of the code.
fn sections() -> Vec<Section> {
    let mut found = Vec::new();
    let root = raw();
    for (name, section) in in_order("", &root["properties"]) {
        if name == "plugins" {
            collect("plugins.NAME", &section["additionalProperties"], &mut found);
        } else {
            collect(name, section, &mut found);
        }
    }
    found
}

/// Adds the section at `path`, then those within it.
fn collect(path: &str, schema: &Value, found: &mut Vec<Section>) {
    let (title, about) = titled(path, &described(schema));
    let (mut keys, mut within) = (Vec::new(), Vec::new());
    for (name, property) in in_order(path, &schema["properties"]) {
        let below = format!("{path}.{name}");
        match (&property["properties"], items(property)) {
            (Value::Object(_), _) => {
                within.push((below, property));
                continue;
            }
            (_, Some(items)) => within.push((below, items)),
            _ => {}
        }
        keys.push(key(path, name, property));
    }
    if !keys.is_empty() {
        found.push(Section { title, about, keys });
    }
    within.into_iter().for_each(|(path, schema)| collect(&path, schema, found));
}

/// The schema of a key's sections, in a list or under names that the operator chooses.
fn items(property: &Value) -> Option<&Value> {
    ["items", "additionalProperties"].iter().map(|key| &property[*key]).find(|schema| schema["properties"].is_object())
}

/// The properties of an object, in the order of the code.
fn in_order<'a>(path: &str, properties: &'a Value) -> Vec<(&'a str, &'a Value)> {
    let mut all: Vec<_> = properties.as_object().into_iter().flatten().map(|(name, schema)| (name.as_str(), schema)).collect();
    let place = |name: &str| {
        let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        let is_at = |key: &&String| **key == path || key.strip_prefix(&path).is_some_and(|rest| rest.starts_with('.'));
        keys::all().iter().position(|key| is_at(&key)).unwrap_or(usize::MAX)
    };
    all.sort_by_key(|(name, _)| place(name));
    all
}

fn key(path: &str, name: &str, property: &Value) -> Key {
    let default = match property.get("default") {
        None if property["type"] == "array" => Some(Value::Array(Vec::new())),
        None if property["type"] == "object" => Some(Value::Object(Map::new())),
        other => other.cloned(),
    };
    let is_set = |value: &Value| !value.is_null() && *value != "";
    Key {
        path: format!("{path}.{name}"),
        name: name.to_owned(),
        about: described(property),
        kind: kind(property),
        default: default.filter(is_set),
    }
}

fn described(schema: &Value) -> String {
    one_line(schema["description"].as_str().unwrap_or_default())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A section's comment begins with its header: `` `[gateway]`: connections of clients. ``
fn titled(path: &str, about: &str) -> (String, String) {
    let split = about.strip_prefix('`').and_then(|rest| rest.split_once("`: "));
    match split {
        Some((title, about)) => (title.to_owned(), capitalized(about)),
        None => (format!("[{path}]"), about.to_owned()),
    }
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// The kind of a value, in words.
fn kind(schema: &Value) -> String {
    let constants: Vec<_> = schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !constants.is_empty() {
        return constants.iter().map(|one| format!("`{one}`")).collect::<Vec<_>>().join(", ");
    }
    let cases = ["oneOf", "anyOf"].iter().find_map(|key| schema[*key].as_array());
    if let Some(cases) = cases {
        let one = |case: &Value| case["const"].as_str().map_or_else(|| kind(case), |text| format!("`{text}`"));
        let kinds: Vec<_> = cases.iter().filter(|case| case["type"] != "null").map(one).collect();
        return kinds.join(", ");
    }
    let of = match &schema["type"] {
        Value::Array(types) => types.iter().find_map(|one| one.as_str().filter(|one| *one != "null")),
        one => one.as_str(),
    };
    match of {
        Some("string") if schema["pattern"].is_string() => "duration".into(),
        Some("string") => "text".into(),
        Some("integer") => "whole number".into(),
        Some("number") => "number".into(),
        Some("boolean") => "`true`, `false`".into(),
        Some("array") if schema["items"]["enum"].is_array() => format!("list of {}", kind(&schema["items"])),
        Some("array") if schema["items"]["type"] == "string" => "list of texts".into(),
        Some("array") => "list".into(),
        Some("object") => "table".into(),
        _ => "any value".into(),
    }
}

/// Whether the operator chooses the section's name, or a file may hold several of it.
fn is_chosen(section: &Section) -> bool {
    section.title.contains(CHOSEN) || section.title.starts_with("[[")
}

/// The sentences of a description.
fn sentences(about: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut from = 0;
    for (at, _) in about.match_indices(". ") {
        let begins = about[at + 2..].starts_with(|c: char| c.is_uppercase() || c == '`');
        if begins {
            found.push(&about[from..=at]);
            from = at + 2;
        }
    }
    found.push(&about[from..]);
    found
}

/// Loads a file as `hubbub dev` does, to test printed files.
#[cfg(test)]
fn read(text: &str) -> Result<Config, super::ConfigError> {
    let table = text.parse().map_err(|error: toml::de::Error| super::ConfigError::Syntax {
        file: "default".into(),
        line: 0,
        column: 0,
        why: error.to_string(),
    })?;
    super::assemble(super::Mode::Dev, table, &std::collections::BTreeMap::new())
}

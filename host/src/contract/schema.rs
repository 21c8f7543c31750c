//! Converts the JSON Schemas of descriptions into one set of named types: cleaned, deduplicated, with unique names. The result must be
//! valid in AsyncAPI's dialect, draft 7 of JSON Schema, so keywords that are not understood are dropped.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{pascal, unique};

/// The place of named types in the document.
pub(crate) const PREFIX: &str = "#/components/schemas/";

/// The most definitions of one schema. A schema with more becomes `true`, which allows anything.
const MAX_DEFINITIONS: usize = 256;

/// The place of a schema, which distinguishes types of the same name.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    /// The namespace's name.
    pub(crate) namespace: &'a str,
    pub(crate) plugin: &'a str,
    /// `Sent` or `Received` by clients: types of the same name may differ in their optional fields.
    pub(crate) ending: &'a str,
}

/// Collects schemas.
#[derive(Default)]
pub(crate) struct SchemaCollector {
    definitions: Vec<Definition>,
    /// By the type's own name, and the digest of its schema and all definitions that it uses.
    known: BTreeMap<(String, [u8; 32]), usize>,
}

/// A collected type. Its references are numbers of definitions until all are collected.
struct Definition {
    /// Candidate names, from short to precise.
    names: [String; 4],
    schema: Value,
}

/// All types, under their final names.
pub(crate) struct NamedTypes {
    pub(crate) types: BTreeMap<String, Value>,
    /// By the number of the definition.
    names: Vec<String>,
}

/// The definitions of one schema, by their names in it.
type Local = BTreeMap<String, Value>;

impl SchemaCollector {
    /// Adds one schema. The result refers to definitions by number; [`NamedTypes::resolve`] replaces the numbers later.
    pub(crate) fn lift(&mut self, place: Place<'_>, text: &str) -> Value {
        let Ok(root) = serde_json::from_str::<Value>(text) else { return Value::Bool(true) };
        let title = root.get("title").and_then(Value::as_str).unwrap_or_default().to_owned();
        let of = |key: &str| root.get(key).and_then(Value::as_object).into_iter().flatten();
        let raw: Vec<_> = of("$defs").chain(of("definitions")).collect();
        if raw.len() > MAX_DEFINITIONS {
            return Value::Bool(true);
        }
        let known: BTreeSet<&str> = raw.iter().map(|(key, _)| key.as_str()).collect();
        let mut local: Local = raw.iter().map(|(key, schema)| ((*key).clone(), clean(schema, &known))).collect();
        let mut root = clean(&root, &known);
        let recursive = local.values_mut().chain([&mut root]).any(refers_to_root);
        if recursive || (!title.is_empty() && needs_definition(&root)) {
            let title = if title.is_empty() { "Recursive".into() } else { title };
            // A definition within the schema may have the same name.
            let key = if local.get(&title).is_some_and(|other| *other != root) { format!("{title}\0") } else { title };
            for schema in local.values_mut().chain([&mut root]) {
                visit(schema, &mut |reference| {
                    if reference == ROOT {
                        *reference = Value::from(key.clone());
                    }
                });
            }
            local.insert(key.clone(), root);
            root = Value::Object(Map::from_iter([("$ref".into(), Value::from(key))]));
        }
        self.intern(place, local, &mut root);
        root
    }

    /// Assigns a number to every definition that the root uses, and writes the numbers into all references.
    fn intern(&mut self, place: Place<'_>, mut local: Local, root: &mut Value) {
        let parts: BTreeMap<String, Vec<String>> =
            local.iter_mut().map(|(key, schema)| (key.clone(), references(schema))).collect();
        let mut numbers = BTreeMap::new();
        let mut new = Vec::new();
        for key in reachable(references(root), &parts) {
            let identity = (pascal(&key), digest(&local, reachable(vec![key.clone()], &parts)));
            let number = *self.known.entry(identity).or_insert_with(|| {
                new.push(key.clone());
                self.definitions.push(Definition { names: names(place, &key), schema: Value::Null });
                self.definitions.len() - 1
            });
            numbers.insert(key, number);
        }
        let mut number = |reference: &mut Value| {
            if let Some(number) = reference.as_str().and_then(|key| numbers.get(key)) {
                *reference = Value::from(*number);
            }
        };
        visit(root, &mut number);
        for key in new {
            if let (Some(mut schema), Some(at)) = (local.remove(&key), numbers.get(&key)) {
                visit(&mut schema, &mut number);
                self.definitions[*at].schema = schema;
            }
        }
    }

    /// Names every type: by its own name if that is unique, else with the namespace added, and so on.
    pub(crate) fn finish(self, mut taken: BTreeSet<String>) -> NamedTypes {
        let mut names: Vec<Option<String>> = vec![None; self.definitions.len()];
        for precision in 0..4 {
            let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
            for (at, definition) in self.definitions.iter().enumerate().filter(|(at, _)| names[*at].is_none()) {
                by_name.entry(&definition.names[precision]).or_default().push(at);
            }
            for (name, definitions) in by_name {
                if definitions.len() == 1 && taken.insert(name.to_owned()) {
                    names[definitions[0]] = Some(name.to_owned());
                }
            }
        }
        let mut lifted = NamedTypes { types: BTreeMap::new(), names: Vec::new() };
        for (name, definition) in names.into_iter().zip(&self.definitions) {
            lifted.names.push(name.unwrap_or_else(|| unique(&definition.names[3], &mut taken)));
        }
        for (at, mut definition) in self.definitions.into_iter().enumerate() {
            lifted.resolve(&mut definition.schema);
            lifted.types.insert(lifted.names[at].clone(), definition.schema);
        }
        lifted
    }
}

impl NamedTypes {
    /// Writes the final names into a schema that [`SchemaCollector::lift`] returned.
    pub(crate) fn resolve(&self, schema: &mut Value) {
        visit(schema, &mut |reference| {
            let at = reference.as_u64().and_then(|at| usize::try_from(at).ok());
            if let Some(name) = at.and_then(|at| self.names.get(at)) {
                *reference = Value::from(format!("{PREFIX}{name}"));
            }
        });
    }
}

/// A reference to the whole schema, until that has a name. No definition has this name, because it is empty.
const ROOT: &str = "";

fn names(place: Place<'_>, key: &str) -> [String; 4] {
    let own = match pascal(key) {
        name if name.is_empty() => "Type".into(),
        name => name,
    };
    let (namespace, plugin) = (place.namespace, pascal(place.plugin));
    let plugin = if plugin == namespace { "" } else { &plugin };
    let precise = format!("{namespace}{plugin}{own}");
    [own.clone(), format!("{namespace}{own}"), precise.clone(), format!("{precise}{}", place.ending)]
}

/// Whether a schema gets a name. Short ones are written inline.
fn needs_definition(schema: &Value) -> bool {
    ["properties", "anyOf", "oneOf", "allOf", "enum"].iter().any(|keyword| schema.get(keyword).is_some())
}

fn refers_to_root(schema: &mut Value) -> bool {
    references(schema).iter().any(|key| key == ROOT)
}

fn references(schema: &mut Value) -> Vec<String> {
    let mut found = Vec::new();
    visit(schema, &mut |reference| found.extend(reference.as_str().map(str::to_owned)));
    found
}

fn reachable(from: Vec<String>, parts: &BTreeMap<String, Vec<String>>) -> BTreeSet<String> {
    let (mut seen, mut left) = (BTreeSet::new(), from);
    while let Some(key) = left.pop() {
        if seen.insert(key.clone()) {
            left.extend(parts.get(&key).into_iter().flatten().cloned());
        }
    }
    seen
}

fn digest(local: &Local, keys: BTreeSet<String>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for (key, schema) in keys.iter().filter_map(|key| Some((key, local.get(key)?))) {
        hash.update(format!("{key}\0{schema}\0"));
    }
    hash.finalize().into()
}

/// Visits every reference in a cleaned schema.
fn visit(schema: &mut Value, visitor: &mut dyn FnMut(&mut Value)) {
    let Value::Object(keywords) = schema else { return };
    for (keyword, value) in keywords {
        match (keyword.as_str(), value) {
            ("$ref", reference) => visitor(reference),
            ("properties", Value::Object(parts)) => parts.values_mut().for_each(|part| visit(part, visitor)),
            (_, Value::Array(parts)) => parts.iter_mut().for_each(|part| visit(part, visitor)),
            (_, part) => visit(part, visitor),
        }
    }
}

/// Reduces a schema to the supported keywords. References become names of `known` definitions; others are dropped.
fn clean(schema: &Value, known: &BTreeSet<&str>) -> Value {
    let Value::Object(keywords) = schema else { return Value::Bool(schema.as_bool().unwrap_or(true)) };
    let mut cleaned = Map::new();
    for (keyword, value) in keywords {
        if let Some(value) = clean_keyword(keyword, value, known) {
            cleaned.insert(keyword.clone(), value);
        }
    }
    // Draft 7 writes `prefixItems` as an array in `items`, and `items` as `additionalItems`.
    if let Some(first) = cleaned.remove("prefixItems") {
        let rest = cleaned.insert("items".into(), first);
        cleaned.extend(rest.map(|rest| ("additionalItems".into(), rest)));
    }
    // Patterns of keys are no part of a type, and a validator must not compile a plugin's regular expression.
    if let Some(Value::Object(patterns)) = cleaned.remove("patternProperties")
        && cleaned.get("additionalProperties") == Some(&Value::Bool(false))
        && !patterns.is_empty()
    {
        let values: Vec<Value> = patterns.into_iter().map(|(_, value)| value).collect();
        cleaned.insert("additionalProperties".into(), json!({ "anyOf": values }));
    }
    // Draft 7 ignores keywords beside a reference.
    if cleaned.len() > 1
        && let Some(reference) = cleaned.remove("$ref")
    {
        let alone = Value::Object(Map::from_iter([("$ref".into(), reference)]));
        match cleaned.entry("allOf").or_insert_with(|| Value::Array(Vec::new())) {
            Value::Array(all) => all.insert(0, alone),
            other => *other = Value::Array(vec![alone]),
        }
    }
    Value::Object(cleaned)
}

fn clean_keyword(keyword: &str, value: &Value, known: &BTreeSet<&str>) -> Option<Value> {
    let is_kept = match keyword {
        "$ref" => {
            let name = value.as_str()?.strip_prefix('#')?;
            let name = name.strip_prefix("/$defs/").or_else(|| name.strip_prefix("/definitions/")).unwrap_or(name);
            let name = name.replace("~1", "/").replace("~0", "~");
            return (name == ROOT || known.contains(name.as_str())).then(|| Value::from(name));
        }
        "items" | "additionalProperties" | "additionalItems" | "not" if !value.is_array() => return Some(clean(value, known)),
        "anyOf" | "oneOf" | "allOf" | "prefixItems" | "items" => {
            let parts = value.as_array().filter(|parts| !parts.is_empty())?;
            return Some(parts.iter().map(|part| clean(part, known)).collect());
        }
        "properties" | "patternProperties" => {
            // Tools misread a property of this name as a reference.
            let parts = value.as_object()?.iter().filter(|(name, _)| *name != "$ref");
            return Some(Value::Object(parts.map(|(name, part)| (name.clone(), clean(part, known))).collect()));
        }
        "type" => is_type(value),
        "required" => value.as_array().is_some_and(|names| !names.is_empty() && are_texts(names)),
        "enum" => value.as_array().is_some_and(|values| are_unique(values) && !values.is_empty()) && is_plain(value),
        "const" | "default" => is_plain(value),
        "examples" => value.is_array() && is_plain(value),
        "description" | "format" => value.is_string(),
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => value.is_number(),
        "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties" => value.is_u64(),
        "uniqueItems" | "readOnly" | "writeOnly" | "deprecated" => value.is_boolean(),
        _ => false,
    };
    is_kept.then(|| value.clone())
}

/// Whether nothing in a value looks like a reference, which tools would follow.
fn is_plain(value: &Value) -> bool {
    match value {
        Value::Array(values) => values.iter().all(is_plain),
        Value::Object(members) => !members.contains_key("$ref") && members.values().all(is_plain),
        _ => true,
    }
}

fn are_unique(values: &[Value]) -> bool {
    let texts: BTreeSet<String> = values.iter().map(Value::to_string).collect();
    texts.len() == values.len()
}

fn is_type(value: &Value) -> bool {
    const TYPES: [&str; 7] = ["null", "boolean", "object", "array", "number", "integer", "string"];
    let is_one = |value: &Value| value.as_str().is_some_and(|name| TYPES.contains(&name));
    match value {
        Value::Array(names) => !names.is_empty() && names.iter().all(is_one) && are_texts(names),
        value => is_one(value),
    }
}

fn are_texts(values: &[Value]) -> bool {
    values.iter().all(Value::is_string) && are_unique(values)
}

#[cfg(test)]
mod tests;

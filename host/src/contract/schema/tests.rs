//! Named types, references, and schemas that are not understood.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;

const CHAT: Place<'_> = Place { namespace: "Chat", plugin: "chat", ending: "Sent" };
const ROOT_VIDEO: Place<'_> = Place { namespace: "Root", plugin: "video", ending: "Received" };

fn lift(schemas: &[(Place<'_>, Value)]) -> (Vec<Value>, BTreeMap<String, Value>) {
    let mut collector = SchemaCollector::default();
    let mut lifted: Vec<_> = schemas.iter().map(|(place, schema)| collector.lift(*place, &schema.to_string())).collect();
    let all = collector.finish(BTreeSet::from(["Refused".to_owned()]));
    lifted.iter_mut().for_each(|schema| all.resolve(schema));
    (lifted, all.types)
}

fn named(name: &str) -> Value {
    json!({ "$ref": format!("{PREFIX}{name}") })
}

/// An object with one property.
fn object(title: &str, property: &str, schema: &Value) -> Value {
    json!({ "title": title, "type": "object", "properties": { property: schema } })
}

#[test]
fn one_type_found_twice_has_one_name() {
    let author = json!({"type": "object", "properties": {"name": {"type": "string"}}});
    let mut message = object("Message", "by", &json!({"$ref": "#/$defs/Author"}));
    message["$defs"] = json!({ "Author": author });
    let mut alone = author;
    alone["title"] = "Author".into();
    let (lifted, types) = lift(&[(CHAT, message.clone()), (ROOT_VIDEO, message), (CHAT, alone)]);
    assert_eq!(lifted, [named("Message"), named("Message"), named("Author")]);
    assert_eq!(types.keys().collect::<Vec<_>>(), ["Author", "Message"]);
    assert_eq!(types["Message"]["properties"]["by"], named("Author"));
}

#[test]
fn types_of_one_name_are_named_by_their_places() {
    let text = object("Message", "text", &json!({"type": "string"}));
    let (lifted, _) = lift(&[(CHAT, text.clone()), (ROOT_VIDEO, object("Message", "count", &json!({"type": "integer"})))]);
    assert_eq!(lifted, [named("ChatMessage"), named("RootMessage")]);

    let sent = object("Message", "id", &json!(true));
    let (lifted, _) = lift(&[(CHAT, text.clone()), (Place { ending: "Received", ..CHAT }, sent)]);
    assert_eq!(lifted, [named("ChatMessageSent"), named("ChatMessageReceived")]);

    let (lifted, _) = lift(&[(CHAT, object("Refused", "why", &json!(true))), (CHAT, text)]);
    assert_eq!(lifted, [named("ChatRefused"), named("Message")], "the host's names are reserved");
}

#[test]
fn a_recursive_type_has_a_name() {
    let tree = object("Tree", "children", &json!({"type": "array", "items": {"$ref": "#"}}));
    let (lifted, types) = lift(&[(CHAT, tree)]);
    assert_eq!(lifted, [named("Tree")]);
    assert_eq!(types["Tree"]["properties"]["children"]["items"], named("Tree"));

    let list = json!({"title": "Node", "type": ["object", "null"], "items": {"$ref": "#/$defs/Next"},
        "$defs": {"Next": {"anyOf": [{"$ref": "#"}, {"$ref": "#/$defs/Next"}]}}});
    let (_, types) = lift(&[(CHAT, list)]);
    assert_eq!(types["Next"]["anyOf"], json!([named("Node"), named("Next")]));
}

#[test]
fn short_schemas_stay_inline() {
    let (lifted, types) = lift(&[(CHAT, json!({"title": "string", "type": "string", "maxLength": 128}))]);
    assert_eq!(lifted, [json!({"type": "string", "maxLength": 128})]);
    assert!(types.is_empty());
}

#[test]
fn schemas_that_are_not_understood_allow_anything() {
    let collector = || SchemaCollector::default();
    assert_eq!(collector().lift(CHAT, "not JSON"), json!(true));
    let odd = json!({"type": "colour", "required": "a", "enum": [], "pattern": "(", "$ref": "https://elsewhere/x", "items": 3,
        "anyOf": {}, "x-own": 1, "minLength": -1, "properties": {"a": {"$ref": "#/$defs/Missing"}, "b": 7}});
    assert_eq!(collector().lift(CHAT, &odd.to_string()), json!({"items": true, "properties": {"a": {}, "b": true}}));
    let many: Map<String, Value> = (0..=MAX_DEFINITIONS).map(|n| (format!("T{n}"), json!({}))).collect();
    assert_eq!(collector().lift(CHAT, &json!({"type": "object", "$defs": many}).to_string()), json!(true));
}

#[test]
fn values_that_look_like_a_reference_are_dropped() {
    let looks = json!([{"$ref": "#/$defs/A"}]);
    let schema = json!({"const": looks, "default": looks, "enum": looks, "examples": [1], "properties": {"$ref": true}});
    assert_eq!(SchemaCollector::default().lift(CHAT, &schema.to_string()), json!({"examples": [1], "properties": {}}));
}

#[test]
fn newer_keywords_are_converted_to_draft_7() {
    let tuple = json!({"prefixItems": [{"type": "string"}], "items": false, "description": "one"});
    assert_eq!(
        SchemaCollector::default().lift(CHAT, &tuple.to_string()),
        json!({
            "items": [{"type": "string"}], "additionalItems": false, "description": "one",
        })
    );
    let beside = json!({"title": "Who", "description": "who", "$ref": "#/$defs/Id", "$defs": {"Id": {"type": "string"}}});
    let (lifted, types) = lift(&[(CHAT, beside)]);
    assert_eq!((&lifted[0], &types["Who"]), (&named("Who"), &json!({"description": "who", "allOf": [named("Id")]})));
    let keys = json!({"type": "object", "patternProperties": {"^\\d+$": {"type": "string"}}, "additionalProperties": false});
    let (lifted, _) = lift(&[(CHAT, keys)]);
    assert_eq!(lifted, [json!({"type": "object", "additionalProperties": {"anyOf": [{"type": "string"}]}})]);
}

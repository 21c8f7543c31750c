//! Schemas and their TypeScript types.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;

fn types(of: &[(Value, &str)]) {
    for (schema, expected) in of {
        assert_eq!(inline(schema), *expected, "{schema}");
    }
}

#[test]
fn plain_types_and_values() {
    types(&[
        (json!(true), "unknown"),
        (json!(false), "never"),
        (json!({}), "unknown"),
        (json!({"type": "integer", "format": "uint64", "minimum": 0}), "number"),
        (json!({"type": ["string", "null"]}), "string | null"),
        (json!({"const": "a\"b"}), r#""a\"b""#),
        (json!({"type": "string", "enum": ["a", "b", "a"]}), r#""a" | "b""#),
        (json!({"enum": [1, -2.5, true, null, [1], {"a": "b"}]}), r#"1 | -2.5 | true | null | [1] | { a: "b" }"#),
        (json!({"$ref": "#/components/schemas/Message"}), "Message"),
        (json!({"type": "colour"}), "unknown"),
    ]);
}

#[test]
fn arrays_and_tuples() {
    types(&[
        (json!({"type": "array"}), "unknown[]"),
        (json!({"type": "array", "items": {"type": ["string", "null"]}}), "(string | null)[]"),
        (json!({"items": [{"type": "string"}, {"type": "number"}], "maxItems": 2}), "[string, number]"),
        (json!({"items": [{"type": "string"}], "additionalItems": {"type": "number"}}), "[string, ...number[]]"),
        (json!({"type": "array", "items": [{"type": "string"}], "additionalItems": false}), "[string]"),
    ]);
}

#[test]
fn objects_and_records() {
    types(&[
        (json!({"type": "object"}), "{ [key: string]: unknown }"),
        (json!({"type": "object", "additionalProperties": {"type": "number"}}), "{ [key: string]: number }"),
        (json!({"type": "object", "additionalProperties": false}), "{ [key: string]: never }"),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}, "b-c": {}}, "required": ["a"]}),
            "{\n  a: string;\n  \"b-c\"?: unknown;\n}",
        ),
        (
            json!({"properties": {"a": {"properties": {"b": {"type": "null"}}}}, "additionalProperties": true}),
            "{\n  a?: {\n    b?: null;\n  };\n  [key: string]: unknown;\n}",
        ),
    ]);
}

#[test]
fn several_keywords_become_an_intersection() {
    let a = json!({"$ref": "#/components/schemas/A"});
    let b = json!({"$ref": "#/components/schemas/B"});
    types(&[
        (json!({"anyOf": [a, {"type": "null"}]}), "A | null"),
        (json!({"allOf": [a], "description": "one"}), "A"),
        (json!({"allOf": [a, {"anyOf": [b, {"type": "null"}]}]}), "A & (B | null)"),
        (json!({"type": "object", "oneOf": [a, b]}), "A | B"),
        (json!({"type": "object", "properties": {"x": true}, "oneOf": [a, b]}), "{\n  x?: unknown;\n} & (A | B)"),
    ]);
}

#[test]
fn a_type_that_is_too_deep_is_cut() {
    let mut schema = json!({"type": "string"});
    for _ in 0..200 {
        schema = json!({"type": "array", "items": schema});
    }
    assert!(inline(&schema).starts_with("unknown[]"));
    assert!(!takes_null(&json!({"$ref": "#/components/schemas/A"}), &recursive(), 0));
}

fn recursive() -> BTreeMap<String, Value> {
    BTreeMap::from([("A".to_owned(), json!({"anyOf": [{"$ref": "#/components/schemas/A"}]}))])
}

#[test]
fn a_description_cannot_end_its_comment() {
    let schema = json!({"description": "One */ evil(); /*", "properties": {"a": {"description": "Two\nlines", "type": "null"}}});
    let expected = "/** One *\\/ evil(); /* */\nexport interface A {\n  /**\n   * Two\n   * lines\n   */\n  a?: null;\n}\n";
    assert_eq!(declaration("A", &schema), expected);
    assert_eq!(declaration("B", &json!({"type": "string"})), "export type B = string;\n");
}

#[test]
fn a_payload_that_may_be_null_is_optional() {
    let types = BTreeMap::from([("MaybeA".to_owned(), json!({"anyOf": [{"type": "string"}, {"type": "null"}]}))]);
    assert_eq!(parameter(&json!(true), &types), "payload?: unknown");
    assert_eq!(parameter(&json!({"type": ["string", "null"]}), &types), "payload?: string | null");
    assert_eq!(parameter(&json!({"$ref": "#/components/schemas/MaybeA"}), &types), "payload?: MaybeA");
    assert_eq!(parameter(&json!({"type": "string"}), &types), "payload: string");
}

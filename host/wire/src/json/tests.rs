//! The scanner against serde_json, and the parts of events.

use super::*;

fn taken(text: &str) -> Option<(String, String)> {
    event(text).map(|event| (event.name.into_owned(), event.args.to_owned()))
}

#[test]
fn an_event_is_its_name_and_the_text_of_its_arguments() {
    for (text, name, args) in [
        (r#"["a"]"#, "a", ""),
        (r#"["a",1, {"b":[2]} ]"#, "a", r#"1, {"b":[2]}"#),
        (r#" [ "a" , "b" ] "#, "a", r#""b""#),
        (r#"["ol\u00e1 \"x\"\n",null]"#, "olá \"x\"\n", "null"),
        (r#"["\ud83d\ude00🦀",1]"#, "😀🦀", "1"),
        (r#"["\ud83d",1]"#, "\u{fffd}", "1"),
        (r#"["\ud83d\u0041"]"#, "\u{fffd}A", ""),
        (r#"[12.5,"x"]"#, "12.5", r#""x""#),
        (r#"["",""]"#, "", r#""""#),
        ("[\"a\",\"\u{c}x\"]".replace('\u{c}', "\\f").as_str(), "a", r#""\fx""#),
    ] {
        assert_eq!(taken(text), Some((name.to_owned(), args.to_owned())), "{text}");
    }
}

#[test]
fn what_is_no_event_is_refused() {
    for text in [
        "",
        "[",
        "[]",
        "{}",
        r#"["a""#,
        r#"["a",]"#,
        r#"["a"]x"#,
        r#"["a" 1]"#,
        "[true]",
        "[null]",
        "[[\"a\"]]",
        r#"["\x"]"#,
        r#"["\u12g4"]"#,
        "[\"a\nb\"]",
        r#"["a",01]"#,
        r#"["a",1.]"#,
        r#"["a",{"b"}]"#,
        r#"["a",{b:1}]"#,
        r#"["a",[1}]"#,
        "[\"a\",\u{c}1]",
    ] {
        assert_eq!(taken(text), None, "{text}");
    }
}

#[test]
fn arrays_and_objects_of_any_depth_are_scanned_without_recursion() {
    let deep = |open: &str, close: &str| format!("[1,{}0{}]", open.repeat(100_000), close.repeat(100_000));
    assert!(array(&deep("[", "]")).is_some());
    assert!(array(&deep(r#"{"a":"#, "}")).is_some());
    assert!(array(&deep("[{\"a\":", "}]")).is_some());
    assert!(array(&deep("[", "}")).is_none());
    assert_eq!(array(" [ ] "), Some(""));
    assert_eq!(array("[1, [2] ]"), Some("1, [2]"));
}

#[test]
fn the_scanner_agrees_with_serde_json() {
    const PARTS: [&str; 31] = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\\u00e9",
        "\\n",
        "a",
        "é",
        "🦀",
        "0",
        "1",
        "-",
        ".",
        "e",
        "E5",
        "+",
        "true",
        "false",
        "null",
        " ",
        "\t",
        "\u{c}",
        "\u{1}",
        "\"k\":",
        "\"long enough for eight\"",
        "12",
        "\"\"",
    ];
    let mut seed = 7u64;
    let mut next = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let (mut valid, mut tried) = (0, 0);
    while tried < 200_000 {
        let mut text = "[".to_owned();
        for _ in 0..next(12) {
            text.push_str(PARTS[next(PARTS.len())]);
        }
        text.push(']');
        let expected = serde_json::from_str::<Vec<serde::de::IgnoredAny>>(&text).is_ok();
        assert_eq!(array(&text).is_some(), expected, "{text}");
        valid += usize::from(expected);
        tried += 1;
    }
    assert!(valid > 1000, "{valid} valid texts");
}

#[test]
fn a_quoted_text_is_the_same_after_unquoting() {
    for text in ["", "a", "\"\\/", "\u{0}\u{1f}\u{7f}", "olá 🦀\n\t"] {
        let mut quoted = Vec::new();
        quote(text, &mut quoted);
        let quoted = String::from_utf8(quoted).unwrap();
        assert_eq!(serde_json::from_str::<String>(&quoted).unwrap(), text);
        assert_eq!(unquoted(&quoted), text);
    }
}

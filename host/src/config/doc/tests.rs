//! The printed documentation is complete, and `hubbub config default` prints the defaults.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::config::{Mode, load};

#[test]
fn every_key_has_a_description_and_a_kind() {
    for section in sections() {
        assert!(!section.about.is_empty(), "{}", section.title);
        for key in section.keys {
            assert!(key.about.ends_with('.') && !key.kind.contains("any"), "{}: {} ({})", key.path, key.about, key.kind);
        }
    }
}

#[test]
fn every_key_is_described() {
    let described: Vec<String> = sections().into_iter().flat_map(|section| section.keys).map(|key| key.path).collect();
    for key in keys::all() {
        let is_under = |one: &String| key == one || key.strip_prefix(one).is_some_and(|rest| rest == ".NAME");
        let is_chosen = key.starts_with("plugins.NAME.doors.NAME.") || key == "plugins";
        assert!(is_chosen || described.iter().any(is_under), "{key}");
    }
}

#[test]
fn the_default_file_is_the_default_configuration() {
    let printed = read(&default_file()).unwrap();
    let empty = load(Mode::Dev, None, &std::collections::BTreeMap::new()).unwrap();
    assert_eq!(format!("{printed:#?}"), format!("{empty:#?}"));
}

#[test]
fn the_default_file_without_comments_has_only_known_keys() {
    let key = |line: &str| line.split_once(" = ").is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
    let mut text = String::new();
    for line in default_file().lines() {
        match line.strip_prefix("# ") {
            Some(rest) if key(rest) && !rest.ends_with("\"\"") => text.push_str(rest),
            Some(rest) if rest.starts_with('[') => text.push_str(&rest.replace("NAME", "chat")),
            Some(_) | None if line.starts_with('#') => {}
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    let error = read(&text).err().map(|error| error.to_string());
    assert!(!error.as_deref().unwrap_or_default().contains("no such setting"), "{error:?}\n{text}");
}

#[test]
fn the_schema_has_no_null_and_durations_as_text() {
    let text = schema().unwrap();
    assert!(!text.contains(": null") && !text.contains("\"null\"") && !text.contains("nanos"), "{text}");
    assert!(text.contains(r#""default": "25s""#), "{text}");
}

#[test]
fn a_limit_names_its_key_its_default_and_its_metric() {
    let page = limits();
    let row = page.lines().find(|line| line.starts_with("| `gateway.client_queue`")).unwrap();
    assert!(
        row.contains("| `512` |") && row.contains("the client is disconnected") && row.ends_with("| `slow_consumers` |"),
        "{row}"
    );
}

//! `hubbub config default`: a `hubbub.toml` with every key, its meaning and its default. A key without a default is commented out.

use serde_json::Value;

use super::{Key, Section, is_chosen, sections};

/// The width of a comment, in columns.
const WIDTH: usize = 110;

/// The file.
pub fn file() -> String {
    let mut out = String::from(
        "# Every key of hubbub.toml with its default. A key without a default is commented out.\n\
         # Durations are written 500ms, 90s, 15m, 1h or 7d; sizes are bytes.\n",
    );
    for section in sections() {
        out.push('\n');
        write(&mut out, &section);
    }
    out
}

fn write(out: &mut String, section: &Section) {
    comment(out, &section.about);
    let off = if is_chosen(section) { "# " } else { "" };
    out.push_str(&format!("{off}{}\n", section.title));
    for key in &section.keys {
        comment(out, &key.about);
        match key.default.as_ref().and_then(toml) {
            Some(value) => out.push_str(&format!("{off}{} = {value}\n", key.name)),
            None => out.push_str(&format!("# {} = {}\n", key.name, placeholder(key))),
        }
    }
}

fn comment(out: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        if line.len() + word.len() >= WIDTH {
            out.push_str(&line);
            out.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    out.push_str(&line);
    out.push('\n');
}

/// A value in TOML's syntax.
pub(super) fn toml(value: &Value) -> Option<String> {
    toml::Value::try_from(value).ok().map(|value| value.to_string())
}

/// A value of the right kind, for a key without a default.
fn placeholder(key: &Key) -> &'static str {
    match key.kind.as_str() {
        "whole number" => "0",
        "number" => "0.0",
        "duration" => "\"0s\"",
        "table" => "{}",
        kind if kind.starts_with("list") => "[]",
        kind if kind.contains("`true`") => "false",
        _ => "\"\"",
    }
}

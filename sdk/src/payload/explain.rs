//! Turns an error of serde into a sentence for the client: `chatId: missing`. It costs nothing while payloads fit, and never names a
//! Rust type.

/// The wrong field of a payload, and the reason. `text` is an event's arguments, or one value.
pub(crate) fn explain(text: &str, error: &serde_json::Error) -> String {
    let full = error.to_string();
    let what = full.rsplit_once(" at line ").map_or(full.as_str(), |(what, _)| what);
    let mut path = path_at(text, offset(text, error.line(), error.column()));
    if let Some(field) = quoted(what, "missing field ") {
        path.push(field.to_owned());
        return format!("{}: missing", path.join("."));
    }
    if let Some(field) = quoted(what, "unknown field ") {
        if path.last().map(String::as_str) != Some(field) {
            path.push(field.to_owned());
        }
        return format!("{}: unknown", path.join("."));
    }
    let place = if path.is_empty() { "payload".to_owned() } else { path.join(".") };
    format!("{place}: {}", complaint(what))
}

fn complaint(what: &str) -> String {
    // A missing field reads as null, and a client that sends null means the same.
    if what.starts_with("invalid type: null") {
        return "missing".to_owned();
    }
    if what == "number out of range" {
        return "too large a number".to_owned();
    }
    if let Some((_, known)) = what.strip_prefix("unknown variant ").and_then(|rest| rest.split_once(", expected ")) {
        return format!("must be {}", known.replace('`', "\""));
    }
    if let Some((_, expected)) = what.split_once(", expected ") {
        return format!("must be {}", wanted(expected));
    }
    // Other sentences come from the plugin's types, except those of serde about Rust types.
    if what.contains("variant") || what.contains("struct ") { "wrong".to_owned() } else { what.to_owned() }
}

/// The name of a type for a client's author, from the one that serde uses.
fn wanted(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "an array",
        "a map" => "an object",
        _ if expected.starts_with("struct ") => "an object",
        _ if expected.starts_with("tuple ") || expected.starts_with("an array of length") => "an array",
        _ if expected.starts_with("enum ") || expected.contains("::") => "one of the known values",
        other => other,
    }
}

fn quoted<'a>(what: &'a str, before: &str) -> Option<&'a str> {
    what.strip_prefix(before)?.strip_prefix('`')?.split('`').next()
}

/// The byte offset of a line and a column (both from 1, in bytes).
fn offset(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    start + column
}

/// The fields that lead to the value that ends at this byte, or holds it. Without the array of arguments.
fn path_at(text: &str, end: usize) -> Vec<String> {
    let bytes = text.as_bytes();
    let mut open: Vec<Level> = Vec::new();
    let mut at = 0;
    while at < bytes.len().min(end) {
        match bytes[at] {
            b'{' => open.push(Level { key: Some(String::new()), index: 0 }),
            b'[' => open.push(Level { key: None, index: 0 }),
            b'}' | b']' => drop(open.pop()),
            b',' => {
                if let Some(level) = open.last_mut() {
                    level.index += 1;
                }
            }
            b'"' => {
                let from = at + 1;
                at = end_of_string(bytes, from);
                if bytes[(at + 1).min(bytes.len())..].trim_ascii_start().first() == Some(&b':')
                    && let Some(Level { key: Some(key), .. }) = open.last_mut()
                {
                    *key = text.get(from..at).unwrap_or_default().to_owned();
                }
            }
            _ => {}
        }
        at += 1;
    }
    let skip = usize::from(bytes.first() == Some(&b'['));
    let names = open.into_iter().skip(skip).map(|level| level.key.unwrap_or_else(|| level.index.to_string()));
    names.filter(|name| !name.is_empty()).collect()
}

struct Level {
    /// The last key; absent in an array.
    key: Option<String>,
    index: usize,
}

/// The offset of a string's closing quote.
fn end_of_string(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::super::{Id, read};

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    #[expect(dead_code, reason = "only ever read into")]
    struct Message {
        chat_id: Id,
        content: Option<String>,
        limit: Option<u32>,
        kind: Option<Kind>,
        author: Option<Author>,
        tags: Option<Vec<String>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        Plain,
        Rich,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only ever read into")]
    struct Author {
        name: String,
    }

    #[track_caller]
    fn says(args: &str, sentence: &str) {
        let error = read::<(Message,)>(args).expect_err("it does not fit");
        assert_eq!(super::explain(args, &error), sentence, "for {args}: {error}");
    }

    #[test]
    fn a_payload_that_does_not_fit_is_explained_by_its_field() {
        says("[]", "payload: missing");
        says("[null]", "payload: missing");
        says("[5]", "payload: must be an object");
        says(r#"["c1"]"#, "payload: must be an object");
        says("[{}]", "chatId: missing");
        says(r#"[{"chatId":null}]"#, "chatId: missing");
        says(r#"[{"chatId":5}]"#, "chatId: must be a string");
        says(r#"[{"chatId":5,"content":"x"}]"#, "chatId: must be a string");
        says(r#"[{"content":"\"},{","chatId":""}]"#, "chatId: must be an id of 1 to 128 bytes");
        says(r#"[{"chatId":"c","limit":-1}]"#, "limit: must be a whole number, 0 or more");
        says("[{\"chatId\":\"c\",\n \"limit\":\"many\"}]", "limit: must be a whole number, 0 or more");
        says(r#"[{"chatId":"c","kind":"loud"}]"#, "kind: must be \"plain\" or \"rich\"");
        says(r#"[{"chatId":"c","author":{}}]"#, "author.name: missing");
        says(r#"[{"chatId":"c","author":{"name":[]}}]"#, "author.name: must be a string");
        says(r#"[{"chatId":"c","tags":["a",7]}]"#, "tags.1: must be a string");
        says(r#"[{"chatId":"c","colour":1}]"#, "colour: unknown");
        says(r#"[{"chatId":"c","limit":1e999}]"#, "limit: too large a number");
        says(r#"[{"chatId":"c","limit":12345678901234567890123}]"#, "limit: must be a whole number, 0 or more");
    }

    #[test]
    fn further_arguments_are_ignored_and_optional_ones_may_be_missing() {
        let (id, limit): (Id, Option<u32>) = read(r#"["c1"]"#).expect("it fits");
        assert_eq!((&*id, limit), ("c1", None));
        let (id,): (Id,) = read(r#"["c1", {"more": [1]}]"#).expect("it fits");
        assert_eq!(&*id, "c1");
    }
}

//! Parses Redis's answers to XREADGROUP and XAUTOCLAIM, in both protocol versions. Values of another shape are ignored.

use std::collections::HashMap;

use fred::types::Value;

/// One entry of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: String,
    pub(crate) fields: HashMap<String, Vec<u8>>,
}

/// The answer to XAUTOCLAIM.
pub(crate) struct Claimed {
    /// The id to continue at; none at the end.
    pub(crate) next: Option<String>,
    pub(crate) entries: Vec<Entry>,
    /// Entries that are no longer in the stream.
    pub(crate) trimmed: u64,
}

/// Streams with their entries in order.
pub(crate) fn streams(answer: Value) -> Vec<(String, Vec<Entry>)> {
    pairs(answer).into_iter().map(|(name, list)| (name, entries(list))).collect()
}

pub(crate) fn claimed(answer: Value) -> Claimed {
    let mut parts = array(answer).into_iter();
    let next = parts.next().and_then(|next| next.as_string()).filter(|next| next != "0-0");
    let entries = parts.next().map(entries).unwrap_or_default();
    Claimed { next, entries, trimmed: parts.next().map_or(0, |trimmed| array(trimmed).len() as u64) }
}

fn entries(list: Value) -> Vec<Entry> {
    array(list).into_iter().filter_map(entry).collect()
}

fn entry(value: Value) -> Option<Entry> {
    let mut parts = array(value).into_iter();
    let id = parts.next()?.as_string()?;
    let fields =
        pairs(parts.next()?).into_iter().filter_map(|(name, value)| Some((name, value.into_bytes()?.to_vec()))).collect();
    Some(Entry { id, fields })
}

fn array(value: Value) -> Vec<Value> {
    match value {
        Value::Array(values) => values,
        _ => Vec::new(),
    }
}

/// A map; or an array of pairs, or of alternating names and values.
fn pairs(value: Value) -> Vec<(String, Value)> {
    match value {
        Value::Map(map) => map.inner().into_iter().filter_map(|(key, value)| Some((key.into_string()?, value))).collect(),
        Value::Array(values) => {
            let flat: Vec<Value> = match values.first() {
                Some(Value::Array(_)) => values.into_iter().flat_map(array).collect(),
                _ => values,
            };
            let mut flat = flat.into_iter();
            std::iter::from_fn(|| Some((flat.next()?, flat.next()?)))
                .filter_map(|(key, value)| Some((key.as_string()?, value)))
                .collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::from(text)
    }

    #[test]
    fn answers_of_both_protocols_and_pending_entries_are_parsed() {
        let entry = || Value::Array(vec![text("1-0"), Value::Array(vec![text("data"), text("{}")])]);
        let read = [Entry { id: "1-0".to_owned(), fields: HashMap::from([("data".to_owned(), b"{}".to_vec())]) }];
        let answer = Value::Array(vec![Value::Array(vec![text("s"), Value::Array(vec![entry()])])]);
        let found = streams(answer);
        assert_eq!((found.len(), found[0].0.as_str(), &found[0].1[..]), (1, "s", &read[..]));
        assert!(streams(Value::Null).is_empty());
        let trimmed = Value::Array(vec![text("2-0"), text("3-0")]);
        let found = claimed(Value::Array(vec![text("4-0"), Value::Array(vec![entry()]), trimmed]));
        assert_eq!((found.next.as_deref(), &found.entries[..], found.trimmed), (Some("4-0"), &read[..], 2));
        assert_eq!(claimed(Value::Array(vec![text("0-0"), Value::Array(vec![]), Value::Array(vec![])])).next, None);
    }
}

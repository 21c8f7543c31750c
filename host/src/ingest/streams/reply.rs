//! What Redis answers to XREADGROUP, in either of its protocols. Reads only; what has another shape is not there.

use std::collections::HashMap;

use fred::types::Value;

/// One entry of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: String,
    /// None where it was pending, and is no longer in the stream.
    pub(super) fields: Option<HashMap<String, Vec<u8>>>,
}

/// Streams, each with its entries in order.
pub(super) fn streams(answer: Value) -> Vec<(String, Vec<Entry>)> {
    pairs(answer).into_iter().map(|(name, list)| (name, array(list).into_iter().filter_map(entry).collect())).collect()
}

fn entry(value: Value) -> Option<Entry> {
    let mut parts = array(value).into_iter();
    let id = parts.next()?.as_string()?;
    let fields = match parts.next()? {
        Value::Null => None,
        fields => {
            Some(pairs(fields).into_iter().filter_map(|(name, value)| Some((name, value.into_bytes()?.to_vec()))).collect())
        }
    };
    Some(Entry { id, fields })
}

fn array(value: Value) -> Vec<Value> {
    match value {
        Value::Array(values) => values,
        _ => Vec::new(),
    }
}

/// A map; or an array of pairs, or of names and values in turn.
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
    fn either_protocol_is_read_and_an_entry_that_has_gone_is_known() {
        let there = Value::Array(vec![text("1-0"), Value::Array(vec![text("data"), text("{}")])]);
        let gone = Value::Array(vec![text("2-0"), Value::Null]);
        let answer = Value::Array(vec![Value::Array(vec![text("s"), Value::Array(vec![there, gone])])]);
        let read = streams(answer);
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].0, "s");
        let fields = HashMap::from([("data".to_owned(), b"{}".to_vec())]);
        assert_eq!(read[0].1[0], Entry { id: "1-0".to_owned(), fields: Some(fields) });
        assert_eq!(read[0].1[1], Entry { id: "2-0".to_owned(), fields: None });
        assert!(streams(Value::Null).is_empty());
    }
}

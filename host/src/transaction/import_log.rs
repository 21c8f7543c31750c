//! The import log of a call: its imports with their answers, recorded while it runs, or replayed to another run of it. Holds only
//! JSON values, and never changes live state.

mod alike;

use std::collections::HashMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::sandbox::imports::{budget, emitter, presence, rooms, store, timers, types};

pub use alike::{is_alike, remove_split_lists};

/// One import call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportCall {
    /// `store.get`
    pub import: String,
    pub kind: Kind,
    pub args: Vec<Value>,
    /// `null` if the call ended in it.
    #[serde(default)]
    pub answer: Value,
}

/// How an import behaves in a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Reads: the same call gets the same answer again.
    Read,
    /// Draws: each answer is used once, such as random bytes or points of a budget.
    Draw,
    /// Collects an effect.
    Effect,
}

/// The import log of one call.
#[derive(Debug)]
pub enum ImportLog {
    Recording(Recorded),
    Replaying(Script),
}

/// The recorded imports.
#[derive(Debug)]
pub struct Recorded {
    pub calls: Vec<ImportCall>,
    /// Bytes that still fit. None: the calls did not fit, and are no longer recorded.
    room: Option<usize>,
}

/// The answers of a recorded call, and the imports of another run of it.
#[derive(Debug, Default)]
pub struct Script {
    lines: HashMap<String, Line>,
    /// Effects, in order.
    pub effects: Vec<ImportCall>,
    /// Imports without a recorded answer.
    pub missing: Vec<ImportCall>,
    /// Texts are stand-ins, so a key derived from one, such as a hash, differs from the recording.
    is_hidden: bool,
}

#[derive(Debug)]
struct Line {
    call: ImportCall,
    /// In reverse order.
    answers: Vec<Value>,
    used: bool,
}

impl ImportLog {
    /// Records imports, up to a size.
    pub fn recording(bytes: usize) -> Box<Self> {
        Box::new(Self::Recording(Recorded { calls: Vec::new(), room: Some(bytes) }))
    }

    /// `is_hidden`: texts of the recording are stand-ins.
    pub fn replaying(calls: &[ImportCall], is_hidden: bool) -> Box<Self> {
        let mut lines: HashMap<String, Line> = HashMap::new();
        for one in calls.iter().rev() {
            let line = lines.entry(one.key()).or_insert_with(|| Line { call: one.clone(), answers: Vec::new(), used: false });
            line.answers.push(one.answer.clone());
        }
        Box::new(Self::Replaying(Script { lines, is_hidden, ..Script::default() }))
    }
}

impl Recorded {
    /// The recorded imports; none if they did not fit.
    pub fn complete(self) -> Option<Vec<ImportCall>> {
        self.room.map(|_| self.calls)
    }

    pub(crate) fn record(&mut self, call: ImportCall) {
        let bytes = weight(&call.answer) + call.args.iter().map(weight).sum::<usize>();
        self.room = self.room.and_then(|room| room.checked_sub(bytes));
        match self.room {
            Some(_) => self.calls.push(call),
            None => self.calls = Vec::new(),
        }
    }
}

impl Script {
    /// Recorded imports that this run did not call.
    pub fn unasked(&self) -> impl Iterator<Item = &ImportCall> {
        self.lines.values().filter(|line| !line.used).map(|line| &line.call)
    }

    pub(crate) fn answer(&mut self, call: &ImportCall) -> Option<Value> {
        let mut key = call.key();
        if self.is_hidden && call.kind == Kind::Read && !self.lines.contains_key(&key) {
            let alike = |line: &&Line| !line.used && is_alike((&line.call.import, &line.call.args), (&call.import, &call.args));
            key = self.lines.values().find(alike)?.call.key();
        }
        let line = self.lines.get_mut(&key)?;
        line.used = true;
        match call.kind {
            Kind::Read if line.answers.len() == 1 => line.answers.last().cloned(),
            _ => line.answers.pop(),
        }
    }
}

impl ImportCall {
    pub(crate) fn new(import: &str, kind: Kind, args: Vec<Value>) -> Self {
        Self { import: import.to_owned(), kind, args, answer: Value::Null }
    }

    /// The identity of an import call, with JSON texts in a normal form.
    fn key(&self) -> String {
        format!("{}{}", self.import, Value::Array(self.args.iter().map(normal).collect()))
    }

    /// Whether an effect was refused.
    pub fn is_refused(&self) -> bool {
        self.answer.get("err").is_some()
    }
}

/// Replaces texts that are JSON by their values, so that equal JSON compares as equal.
pub fn normal(value: &Value) -> Value {
    match value {
        Value::String(text) => nested(text).map_or_else(|| value.clone(), |inner| normal(&inner)),
        Value::Array(items) => items.iter().map(normal).collect(),
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), normal(value))).collect(),
        _ => value.clone(),
    }
}

/// The object or array in a text.
pub fn nested(text: &str) -> Option<Value> {
    if !text.trim_start().starts_with(['{', '[']) {
        return None;
    }
    serde_json::from_str(text).ok()
}

fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 8,
        Value::Array(items) => 8 + items.iter().map(weight).sum::<usize>(),
        Value::Object(fields) => 8 + fields.iter().map(|(key, value)| key.len() + weight(value)).sum::<usize>(),
        _ => 8,
    }
}

/// A value in an import log.
pub(crate) trait Logged: Sized {
    fn to_log(&self) -> Value;
    fn from_log(value: &Value) -> Option<Self>;
}

macro_rules! logged_by_serde {
    ($($of:ty),* $(,)?) => {
        $(impl Logged for $of {
            fn to_log(&self) -> Value {
                serde_json::to_value(self).unwrap_or_default()
            }
            fn from_log(value: &Value) -> Option<Self> {
                serde_json::from_value(value.clone()).ok()
            }
        })*
    };
}
logged_by_serde!(
    (),
    bool,
    u32,
    u64,
    i64,
    String,
    Vec<String>,
    budget::Answer,
    presence::Status,
    Vec<presence::Member>,
    rooms::RoomSize,
    store::Error,
    timers::Durability,
    types::EffectError,
);

impl Logged for Vec<u8> {
    fn to_log(&self) -> Value {
        match std::str::from_utf8(self) {
            Ok(text) => json!({ "utf8": text }),
            Err(_) => json!({ "base64": BASE64_STANDARD.encode(self) }),
        }
    }

    fn from_log(value: &Value) -> Option<Self> {
        match (value.get("utf8"), value.get("base64")) {
            (Some(text), _) => Some(text.as_str()?.as_bytes().to_vec()),
            (_, Some(text)) => BASE64_STANDARD.decode(text.as_str()?).ok(),
            _ => None,
        }
    }
}

impl Logged for Vec<store::Entry> {
    fn to_log(&self) -> Value {
        self.iter().map(|entry| json!([entry.key, entry.value.to_log()])).collect()
    }

    fn from_log(value: &Value) -> Option<Self> {
        let entry = |pair: &Value| Some(store::Entry { key: pair[0].as_str()?.to_owned(), value: Vec::from_log(&pair[1])? });
        value.as_array()?.iter().map(entry).collect()
    }
}

impl Logged for emitter::Delivery {
    fn to_log(&self) -> Value {
        let named = [(Self::EXCEPT_CALLER, "except-caller"), (Self::VOLATILE, "volatile")];
        named.into_iter().filter(|(flag, _)| self.contains(*flag)).map(|(_, name)| name).collect()
    }

    fn from_log(value: &Value) -> Option<Self> {
        let names = value.as_array()?;
        let has = |name: &str, flag: Self| if names.iter().any(|one| one == name) { flag } else { Self::empty() };
        Some(has("except-caller", Self::EXCEPT_CALLER) | has("volatile", Self::VOLATILE))
    }
}

impl<T: Logged> Logged for Option<T> {
    fn to_log(&self) -> Value {
        self.as_ref().map_or(Value::Null, Logged::to_log)
    }

    fn from_log(value: &Value) -> Option<Self> {
        if value.is_null() { Some(None) } else { T::from_log(value).map(Some) }
    }
}

impl<T: Logged, E: Logged> Logged for Result<T, E> {
    fn to_log(&self) -> Value {
        match self {
            Ok(value) => json!({ "ok": value.to_log() }),
            Err(error) => json!({ "err": error.to_log() }),
        }
    }

    fn from_log(value: &Value) -> Option<Self> {
        match (value.get("ok"), value.get("err")) {
            (Some(value), _) => T::from_log(value).map(Ok),
            (_, Some(error)) => E::from_log(error).map(Err),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn call(import: &str, kind: Kind, arg: &str, answer: Value) -> ImportCall {
        ImportCall { answer, ..ImportCall::new(import, kind, vec![json!(arg)]) }
    }

    #[test]
    fn logged_values_are_read_back() {
        type Got = Result<Option<Vec<u8>>, store::Error>;
        for got in [Ok(None), Ok(Some(b"text".to_vec())), Ok(Some(vec![0xff, 0])), Err(store::Error::InvalidKey("k".into()))] {
            assert_eq!(Got::from_log(&got.to_log()), Some(got));
        }
        let entries = vec![store::Entry { key: "k".into(), value: vec![1, 200] }];
        assert_eq!(Vec::<store::Entry>::from_log(&entries.to_log()), Some(entries));
        let how = emitter::Delivery::VOLATILE;
        assert!(emitter::Delivery::from_log(&how.to_log()) == Some(how));
    }

    #[test]
    fn a_read_is_answered_again_and_a_draw_once() {
        let mut import_log = ImportLog::replaying(
            &[call("store.get", Kind::Read, "k", json!(1)), call("random.bytes", Kind::Draw, "4", json!(2))],
            false,
        );
        let ImportLog::Replaying(script) = import_log.as_mut() else { panic!("not a replay") };
        let (read, draw) = (call("store.get", Kind::Read, "k", Value::Null), call("random.bytes", Kind::Draw, "4", Value::Null));
        assert_eq!(script.answer(&read), Some(json!(1)));
        assert_eq!(script.answer(&read), Some(json!(1)));
        assert_eq!(script.unasked().count(), 1);
        assert_eq!(script.answer(&draw), Some(json!(2)));
        assert_eq!(script.answer(&draw), None);
        assert_eq!(script.answer(&call("store.get", Kind::Read, "other", Value::Null)), None);
    }

    #[test]
    fn the_format_of_json_does_not_matter() {
        let mut import_log = ImportLog::replaying(&[call("bus.publish", Kind::Effect, r#"{"a":1,"b":2}"#, json!(1))], false);
        let ImportLog::Replaying(script) = import_log.as_mut() else { panic!("not a replay") };
        assert!(script.answer(&call("bus.publish", Kind::Effect, r#"{ "b": 2, "a": 1 }"#, Value::Null)).is_some());
    }

    #[test]
    fn calls_past_the_size_are_not_recorded() {
        let fits = |bytes| {
            let mut recorded = Recorded { calls: Vec::new(), room: Some(bytes) };
            recorded.record(call("store.get", Kind::Read, "0123456789", Value::Null));
            recorded.complete().is_some()
        };
        assert!(fits(26) && !fits(25));
    }
}

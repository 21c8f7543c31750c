//! What a call asked of the host and was answered: kept while it runs, or given again to another run of it. It holds words of
//! JSON only, and never touches what is live.

mod alike;

use std::collections::HashMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::sandbox::imports::{budget, emitter, presence, rooms, store, timers, types};

pub use alike::{is_alike, remove_split_lists};

/// One import that was called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportCall {
    /// `store.get`
    pub import: String,
    pub kind: Kind,
    pub args: Vec<Value>,
    /// `null` where the call ended in it.
    #[serde(default)]
    pub answer: Value,
}

/// What an import is to the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Reads: asked again, the answer is the same.
    Read,
    /// Each answer is used up: random bytes, points of a budget.
    Draw,
    /// Collects an effect.
    Effect,
}

/// The tape of one call.
#[derive(Debug)]
pub enum ImportLog {
    Recording(Recorded),
    Replaying(Script),
}

/// What has been recorded.
#[derive(Debug)]
pub struct Recorded {
    pub asked: Vec<ImportCall>,
    /// Bytes that still fit. None: they did not, and nothing is kept any more.
    room: Option<usize>,
}

/// The answers of a recorded call, and what another run of it has asked.
#[derive(Debug, Default)]
pub struct Script {
    lines: HashMap<String, Line>,
    /// Effects, in the order made.
    pub effects: Vec<ImportCall>,
    /// What the record has no answer for.
    pub missing: Vec<ImportCall>,
    /// Texts are stand-ins: a key with what the plugin has made of one, such as a hash, is another than in the record.
    is_hidden: bool,
}

#[derive(Debug)]
struct Line {
    asked: ImportCall,
    /// The last first.
    answers: Vec<Value>,
    used: bool,
}

impl ImportLog {
    /// Keeps what is asked, up to so many bytes.
    pub fn recording(bytes: usize) -> Box<Self> {
        Box::new(Self::Recording(Recorded { asked: Vec::new(), room: Some(bytes) }))
    }

    /// `is_hidden`: texts of the record are stand-ins.
    pub fn replaying(asked: &[ImportCall], is_hidden: bool) -> Box<Self> {
        let mut lines: HashMap<String, Line> = HashMap::new();
        for one in asked.iter().rev() {
            let line = lines.entry(one.key()).or_insert_with(|| Line { asked: one.clone(), answers: Vec::new(), used: false });
            line.answers.push(one.answer.clone());
        }
        Box::new(Self::Replaying(Script { lines, is_hidden, ..Script::default() }))
    }
}

impl Recorded {
    /// What was asked; none where it was too much to keep.
    pub fn complete(self) -> Option<Vec<ImportCall>> {
        self.room.map(|_| self.asked)
    }

    pub(crate) fn keep(&mut self, asked: ImportCall) {
        let bytes = weight(&asked.answer) + asked.args.iter().map(weight).sum::<usize>();
        self.room = self.room.and_then(|room| room.checked_sub(bytes));
        match self.room {
            Some(_) => self.asked.push(asked),
            None => self.asked = Vec::new(),
        }
    }
}

impl Script {
    /// Reads of the record that this run did without.
    pub fn unasked(&self) -> impl Iterator<Item = &ImportCall> {
        self.lines.values().filter(|line| !line.used).map(|line| &line.asked)
    }

    pub(crate) fn answer(&mut self, asked: &ImportCall) -> Option<Value> {
        let mut key = asked.key();
        if self.is_hidden && asked.kind == Kind::Read && !self.lines.contains_key(&key) {
            let alike =
                |line: &&Line| !line.used && is_alike((&line.asked.import, &line.asked.args), (&asked.import, &asked.args));
            key = self.lines.values().find(alike)?.asked.key();
        }
        let line = self.lines.get_mut(&key)?;
        line.used = true;
        match asked.kind {
            Kind::Read if line.answers.len() == 1 => line.answers.last().cloned(),
            _ => line.answers.pop(),
        }
    }
}

impl ImportCall {
    pub(crate) fn new(import: &str, kind: Kind, args: Vec<Value>) -> Self {
        Self { import: import.to_owned(), kind, args, answer: Value::Null }
    }

    /// What tells two questions apart: not how a JSON text is written.
    fn key(&self) -> String {
        format!("{}{}", self.import, Value::Array(self.args.iter().map(normal).collect()))
    }

    /// Whether an effect was refused, and so is none.
    pub fn is_refused(&self) -> bool {
        self.answer.get("err").is_some()
    }
}

/// A value in which texts that are JSON are what they say: two that mean the same are equal.
pub fn normal(value: &Value) -> Value {
    match value {
        Value::String(text) => nested(text).map_or_else(|| value.clone(), |inner| normal(&inner)),
        Value::Array(items) => items.iter().map(normal).collect(),
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), normal(value))).collect(),
        _ => value.clone(),
    }
}

/// The object or array that a text is.
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

/// What can be on a tape.
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

    fn asked(import: &str, kind: Kind, arg: &str, answer: Value) -> ImportCall {
        ImportCall { answer, ..ImportCall::new(import, kind, vec![json!(arg)]) }
    }

    #[test]
    fn what_goes_on_the_tape_comes_off_it() {
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
    fn a_read_is_answered_again_and_a_draw_is_used_up() {
        let mut import_log = ImportLog::replaying(
            &[asked("store.get", Kind::Read, "k", json!(1)), asked("random.bytes", Kind::Draw, "4", json!(2))],
            false,
        );
        let ImportLog::Replaying(script) = import_log.as_mut() else { panic!("it was made to replay") };
        let (read, draw) =
            (asked("store.get", Kind::Read, "k", Value::Null), asked("random.bytes", Kind::Draw, "4", Value::Null));
        assert_eq!(script.answer(&read), Some(json!(1)));
        assert_eq!(script.answer(&read), Some(json!(1)));
        assert_eq!(script.unasked().count(), 1);
        assert_eq!(script.answer(&draw), Some(json!(2)));
        assert_eq!(script.answer(&draw), None);
        assert_eq!(script.answer(&asked("store.get", Kind::Read, "other", Value::Null)), None);
    }

    #[test]
    fn how_json_is_written_makes_no_other_question() {
        let mut import_log = ImportLog::replaying(&[asked("bus.publish", Kind::Effect, r#"{"a":1,"b":2}"#, json!(1))], false);
        let ImportLog::Replaying(script) = import_log.as_mut() else { panic!("it was made to replay") };
        assert!(script.answer(&asked("bus.publish", Kind::Effect, r#"{ "b": 2, "a": 1 }"#, Value::Null)).is_some());
    }

    #[test]
    fn a_call_past_its_bytes_is_not_kept() {
        let fits = |bytes| {
            let mut recorded = Recorded { asked: Vec::new(), room: Some(bytes) };
            recorded.keep(asked("store.get", Kind::Read, "0123456789", Value::Null));
            recorded.complete().is_some()
        };
        assert!(fits(26) && !fits(25));
    }
}

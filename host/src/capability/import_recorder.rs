//! The wrapper of all imports, which records their answers or replays them from an import log. Capabilities do not depend on it,
//! and a call without a log pays one branch an import.

use serde_json::Value;
use wasmtime::component::HasData;

use crate::sandbox::imports::types::EffectError;
use crate::sandbox::imports::{budget, bus, clock, config, emitter, log, metrics, presence, random, rooms, store, timers, types};
use crate::storage::Write;
use crate::transaction::import_log::{ImportCall, ImportLog, Kind, Logged};
use crate::transaction::state::State;

/// The wrapper on which imports are called.
pub(crate) struct ImportRecorder<'a>(pub(crate) &'a mut State);

/// The type that selects the wrapper in the linker.
pub(crate) struct HasImportRecorder;

impl HasData for HasImportRecorder {
    type Data<'a> = ImportRecorder<'a>;
}

/// An import that is recorded and replayed, with its kind. The recording part of an async import is boxed, so that calls without
/// a log have no larger futures.
macro_rules! logged {
    ($interface:ident: $kind:ident $name:ident($($arg:ident: $of:ty),*) -> $answer:ty) => {
        fn $name(&mut self $(, $arg: $of)*) -> wasmtime::Result<$answer> {
            let state = &mut *self.0;
            if state.call.import_log.is_none() {
                return $interface::Host::$name(state $(, $arg)*);
            }
            let asked = ImportCall::new(concat!(stringify!($interface), ".", stringify!($name)), Kind::$kind, vec![$($arg.to_log()),*]);
            if let Some(answer) = state.answer_from_log(&asked)? {
                return Ok(answer);
            }
            let answer = $interface::Host::$name(state $(, $arg)*)?;
            Ok(state.record_answer(asked, answer))
        }
    };
    ($interface:ident: $kind:ident async $name:ident($($arg:ident: $of:ty),*) -> $answer:ty) => {
        async fn $name(&mut self $(, $arg: $of)*) -> wasmtime::Result<$answer> {
            let state = &mut *self.0;
            if state.call.import_log.is_none() {
                return $interface::Host::$name(&mut *state $(, $arg)*).await;
            }
            let logged = async move {
                let asked = ImportCall::new(concat!(stringify!($interface), ".", stringify!($name)), Kind::$kind, vec![$($arg.to_log()),*]);
                if let Some(answer) = state.answer_from_log(&asked)? {
                    return Ok(answer);
                }
                let answer = $interface::Host::$name(&mut *state $(, $arg)*).await?;
                Ok(state.record_answer(asked, answer))
            };
            Box::pin(logged).await
        }
    };
}

/// An import without an answer or an effect on the call: it is not recorded, and not repeated in a replay.
macro_rules! noted {
    ($interface:ident: $name:ident($($arg:ident: $of:ty),*)) => {
        fn $name(&mut self $(, $arg: $of)*) -> wasmtime::Result<()> {
            if self.0.is_replayed() {
                return Ok(self.0.import()?);
            }
            $interface::Host::$name(&mut *self.0 $(, $arg)*)
        }
    };
}

type Effected = Result<(), EffectError>;
type Stored<T> = Result<T, store::Error>;

impl store::Host for ImportRecorder<'_> {
    logged!(store: Read async get(key: String) -> Stored<Option<Vec<u8>>>);

    /// Recorded as a `get` of each key, so that recordings of older plugins that read keys one by one can be replayed.
    async fn get_many(&mut self, keys: Vec<String>) -> wasmtime::Result<Stored<Vec<Option<Vec<u8>>>>> {
        if self.0.call.import_log.is_none() {
            return store::Host::get_many(&mut *self.0, keys).await;
        }
        let logged = async move {
            if self.0.is_replayed() {
                let mut values = Vec::with_capacity(keys.len());
                for key in keys {
                    match self.get(key).await? {
                        Ok(value) => values.push(value),
                        Err(error) => return Ok(Err(error)),
                    }
                }
                return Ok(Ok(values));
            }
            let answer = store::Host::get_many(&mut *self.0, keys.clone()).await?;
            for (key, value) in keys.into_iter().zip(answer.iter().flatten()) {
                let asked = ImportCall::new("store.get", Kind::Read, vec![key.to_log()]);
                let _ = self.0.record_answer(asked, Stored::Ok(value.clone()));
            }
            Ok(answer)
        };
        Box::pin(logged).await
    }

    logged!(store: Effect put(key: String, value: Vec<u8>) -> Stored<()>);
    logged!(store: Effect append(prefix: String, value: Vec<u8>) -> Stored<()>);
    logged!(store: Effect delete(key: String) -> Stored<()>);
    logged!(store: Read async scan(start: String, end: String, limit: u32, reverse: bool) -> Stored<Vec<store::Entry>>);
    logged!(store: Effect add(key: String, delta: i64) -> Stored<()>);
    logged!(store: Read async counter(key: String) -> Stored<i64>);
}

impl rooms::Host for ImportRecorder<'_> {
    logged!(rooms: Effect join(room: String) -> Effected);
    logged!(rooms: Effect leave(room: String) -> Effected);
    logged!(rooms: Effect join_user(namespace: String, user: String, room: String) -> Effected);
    logged!(rooms: Effect leave_user(namespace: String, user: String, room: String) -> Effected);
    logged!(rooms: Read joined(room: String) -> Result<bool, EffectError>);
    logged!(rooms: Read list() -> Result<Vec<String>, EffectError>);
    logged!(rooms: Read async size(namespace: String, room: String) -> Result<rooms::RoomSize, EffectError>);
}

impl emitter::Host for ImportRecorder<'_> {
    logged!(emitter: Effect to_caller(event: String, args: String) -> Effected);
    logged!(emitter: Effect to_room(namespace: String, room: String, event: String, args: String, how: emitter::Delivery) -> Effected);
    logged!(emitter: Effect to_rooms(
        namespace: String,
        rooms: Vec<String>,
        except: Vec<String>,
        event: String,
        args: String,
        how: emitter::Delivery
    ) -> Effected);
    logged!(emitter: Effect to_users(
        namespace: String,
        users: Vec<String>,
        event: String,
        args: String,
        how: emitter::Delivery
    ) -> Effected);
    logged!(emitter: Effect to_tenant(
        namespace: String,
        tenant: String,
        event: String,
        args: String,
        how: emitter::Delivery
    ) -> Effected);
    logged!(emitter: Effect to_namespace(namespace: String, event: String, args: String, how: emitter::Delivery) -> Effected);
}

impl presence::Host for ImportRecorder<'_> {
    logged!(presence: Effect track(group: String, key: String, status: presence::Status, meta: String) -> Effected);
    logged!(presence: Effect heartbeat() -> Effected);
    logged!(presence: Effect untrack(group: String, key: String) -> Effected);
    logged!(presence: Read async list(group: String, after: String, limit: u32) -> Result<Vec<presence::Member>, EffectError>);
    logged!(presence: Read async count(group: String) -> Result<u64, EffectError>);
}

impl budget::Host for ImportRecorder<'_> {
    logged!(budget: Draw async take(
        name: String,
        key: String,
        points: u32,
        capacity: u32,
        period_ms: u64
    ) -> Result<budget::Answer, EffectError>);
}

impl timers::Host for ImportRecorder<'_> {
    logged!(timers: Effect async after(key: String, delay_ms: u64, payload: String, kind: timers::Durability) -> Effected);
    logged!(timers: Effect async cancel(key: String) -> Effected);
}

impl bus::Host for ImportRecorder<'_> {
    logged!(bus: Effect publish(topic: String, key: Option<String>, data: String) -> Effected);
}

impl random::Host for ImportRecorder<'_> {
    logged!(random: Draw bytes(len: u32) -> Vec<u8>);
}

impl log::Host for ImportRecorder<'_> {
    noted!(log: write(level: log::Level, message: String, fields: String));
}

impl metrics::Host for ImportRecorder<'_> {
    noted!(metrics: count(name: String, by: u64));
    noted!(metrics: observe(name: String, value: f64));
    noted!(metrics: gauge(name: String, value: f64));
}

/// The time is the call's and the configuration the release's: neither is recorded.
impl clock::Host for ImportRecorder<'_> {
    fn now(&mut self) -> wasmtime::Result<u64> {
        clock::Host::now(&mut *self.0)
    }
}

impl config::Host for ImportRecorder<'_> {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        config::Host::get(&mut *self.0, key)
    }
}

impl types::Host for ImportRecorder<'_> {}

impl State {
    pub(crate) fn is_replayed(&self) -> bool {
        matches!(self.call.import_log.as_deref(), Some(ImportLog::Replaying(_)))
    }

    /// The recorded answer. None: the import itself must answer, without any state.
    pub(crate) fn answer_from_log<A: Logged>(&mut self, asked: &ImportCall) -> wasmtime::Result<Option<A>> {
        let is_own = self.has_written(asked);
        let Some(ImportLog::Replaying(script)) = self.call.import_log.as_deref_mut() else { return Ok(None) };
        if asked.kind == Kind::Effect {
            return Ok(None);
        }
        let found = script.answer(asked).filter(|_| !is_own).and_then(|answer| A::from_log(&answer));
        if found.is_none() && !is_own {
            script.missing.push(asked.clone());
        }
        if found.is_some() {
            self.import()?;
        }
        Ok(found)
    }

    /// Records an answer, or replaces it by the recorded one if the host itself refused in the recorded call.
    pub(crate) fn record_answer<A: Logged>(&mut self, mut asked: ImportCall, answer: A) -> A {
        asked.answer = answer.to_log();
        match self.call.import_log.as_deref_mut() {
            Some(ImportLog::Recording(recorded)) => recorded.record(asked),
            Some(ImportLog::Replaying(script)) if asked.kind == Kind::Effect => {
                let then = script.answer(&asked).filter(|_| !asked.is_refused());
                let then = then.and_then(|then| A::from_log(&then));
                asked.answer = then.as_ref().map_or(asked.answer, Logged::to_log);
                script.effects.push(asked);
                return then.unwrap_or(answer);
            }
            _ => {}
        }
        answer
    }

    /// Whether this call has written the key, so that the recorded value no longer applies.
    fn has_written(&self, asked: &ImportCall) -> bool {
        if !matches!(asked.import.as_str(), "store.get" | "store.counter") {
            return false;
        }
        let key = asked.args.first().and_then(Value::as_str);
        let mut writes = self.call.effects.writes.iter();
        writes.any(|write| matches!(write, Write::Put { .. } | Write::Delete { .. }) && write.key() == key)
    }
}

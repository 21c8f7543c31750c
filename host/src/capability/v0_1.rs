//! The imports of contract version 0.1.0: each calls the newest version's import of the same name and converts its types. If the
//! newest version changes an import, the old behaviour belongs here.

use super::import_recorder::ImportRecorder;
use crate::sandbox::imports as newest;
use crate::sandbox::imports::types::EffectError;
use crate::sandbox::v0_1::imports::{budget, bus, clock, config, emitter, log, metrics, presence, random, rooms, store, timers};

/// Converts an answer of the newest version to 0.1.0.
trait Older<T> {
    fn older(self) -> T;
}

macro_rules! unchanged {
    ($($type:ty),*) => {
        $(impl Older<$type> for $type {
            fn older(self) -> $type {
                self
            }
        })*
    };
}

macro_rules! converted {
    ($($newest:ty => $older:ty),*) => {
        $(impl Older<$older> for $newest {
            fn older(self) -> $older {
                self.into()
            }
        })*
    };
}

unchanged!((), bool, u64, i64, EffectError, Vec<u8>, Vec<String>, Option<String>, Option<Vec<u8>>);
converted!(
    newest::rooms::RoomSize => rooms::RoomSize,
    newest::store::Error => store::Error,
    newest::budget::Answer => budget::Answer
);

impl<A: Older<T>, B: Older<E>, T, E> Older<Result<T, E>> for Result<A, B> {
    fn older(self) -> Result<T, E> {
        self.map(A::older).map_err(B::older)
    }
}

impl Older<Vec<store::Entry>> for Vec<newest::store::Entry> {
    fn older(self) -> Vec<store::Entry> {
        self.into_iter().map(Into::into).collect()
    }
}

impl Older<Vec<presence::Member>> for Vec<newest::presence::Member> {
    fn older(self) -> Vec<presence::Member> {
        self.into_iter().map(Into::into).collect()
    }
}

/// An import that the newest version also has.
macro_rules! same {
    ($interface:ident: $name:ident($($arg:ident: $of:ty),*) -> $answer:ty) => {
        fn $name(&mut self $(, $arg: $of)*) -> wasmtime::Result<$answer> {
            Ok(newest::$interface::Host::$name(self $(, $arg.into())*)?.older())
        }
    };
    ($interface:ident: async $name:ident($($arg:ident: $of:ty),*) -> $answer:ty) => {
        async fn $name(&mut self $(, $arg: $of)*) -> wasmtime::Result<$answer> {
            Ok(newest::$interface::Host::$name(self $(, $arg.into())*).await?.older())
        }
    };
}

type Effected = Result<(), EffectError>;
type Stored<T> = Result<T, store::Error>;

impl store::Host for ImportRecorder<'_> {
    same!(store: async get(key: String) -> Stored<Option<Vec<u8>>>);
    same!(store: put(key: String, value: Vec<u8>) -> Stored<()>);
    same!(store: append(prefix: String, value: Vec<u8>) -> Stored<()>);
    same!(store: delete(key: String) -> Stored<()>);
    same!(store: async scan(start: String, end: String, limit: u32, reverse: bool) -> Stored<Vec<store::Entry>>);
    same!(store: add(key: String, delta: i64) -> Stored<()>);
    same!(store: async counter(key: String) -> Stored<i64>);
}

impl rooms::Host for ImportRecorder<'_> {
    same!(rooms: join(room: String) -> Effected);
    same!(rooms: leave(room: String) -> Effected);
    same!(rooms: join_user(namespace: String, user: String, room: String) -> Effected);
    same!(rooms: leave_user(namespace: String, user: String, room: String) -> Effected);
    same!(rooms: joined(room: String) -> Result<bool, EffectError>);
    same!(rooms: list() -> Result<Vec<String>, EffectError>);
    same!(rooms: async size(namespace: String, room: String) -> Result<rooms::RoomSize, EffectError>);
}

impl emitter::Host for ImportRecorder<'_> {
    same!(emitter: to_caller(event: String, args: String) -> Effected);
    same!(emitter: to_room(namespace: String, room: String, event: String, args: String, how: emitter::Delivery) -> Effected);
    same!(emitter: to_rooms(
        namespace: String,
        rooms: Vec<String>,
        except: Vec<String>,
        event: String,
        args: String,
        how: emitter::Delivery
    ) -> Effected);
    same!(emitter: to_users(
        namespace: String,
        users: Vec<String>,
        event: String,
        args: String,
        how: emitter::Delivery
    ) -> Effected);
    same!(emitter: to_tenant(
        namespace: String,
        tenant: String,
        event: String,
        args: String,
        how: emitter::Delivery
    ) -> Effected);
    same!(emitter: to_namespace(namespace: String, event: String, args: String, how: emitter::Delivery) -> Effected);
}

impl presence::Host for ImportRecorder<'_> {
    same!(presence: track(group: String, key: String, status: presence::Status, meta: String) -> Effected);
    same!(presence: heartbeat() -> Effected);
    same!(presence: untrack(group: String, key: String) -> Effected);
    same!(presence: async list(group: String, after: String, limit: u32) -> Result<Vec<presence::Member>, EffectError>);
    same!(presence: async count(group: String) -> Result<u64, EffectError>);
}

impl budget::Host for ImportRecorder<'_> {
    same!(budget: async take(
        name: String,
        key: String,
        points: u32,
        capacity: u32,
        period_ms: u64
    ) -> Result<budget::Answer, EffectError>);
}

impl timers::Host for ImportRecorder<'_> {
    same!(timers: async after(key: String, delay_ms: u64, payload: String, kind: timers::Durability) -> Effected);
    same!(timers: async cancel(key: String) -> Effected);
}

impl bus::Host for ImportRecorder<'_> {
    same!(bus: publish(topic: String, key: Option<String>, data: String) -> Effected);
}

impl random::Host for ImportRecorder<'_> {
    same!(random: bytes(len: u32) -> Vec<u8>);
}

impl log::Host for ImportRecorder<'_> {
    same!(log: write(level: log::Level, message: String, fields: String) -> ());
}

impl metrics::Host for ImportRecorder<'_> {
    same!(metrics: count(name: String, by: u64) -> ());
    same!(metrics: observe(name: String, value: f64) -> ());
    same!(metrics: gauge(name: String, value: f64) -> ());
}

impl clock::Host for ImportRecorder<'_> {
    same!(clock: now() -> u64);
}

impl config::Host for ImportRecorder<'_> {
    same!(config: get(key: String) -> Option<String>);
}

//! Version 0.1.0 of the contract, generated from `wit/0.1.0`, and the conversions between its types and the newest version's.
//! Components of 0.1.0 behave as before; the rest of the host handles only the newest version.
#![allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, clippy::unwrap_used)]

wasmtime::component::bindgen!({
    path: "../wit/0.1.0",
    world: "plugin",
    imports: {
        "hubbub:plugin/store@0.1.0.get": async | trappable,
        "hubbub:plugin/store@0.1.0.scan": async | trappable,
        "hubbub:plugin/store@0.1.0.counter": async | trappable,
        "hubbub:plugin/timers@0.1.0.after": async | trappable,
        "hubbub:plugin/timers@0.1.0.cancel": async | trappable,
        "hubbub:plugin/rooms@0.1.0.size": async | trappable,
        "hubbub:plugin/presence@0.1.0.list": async | trappable,
        "hubbub:plugin/presence@0.1.0.count": async | trappable,
        "hubbub:plugin/budget@0.1.0.take": async | trappable,
        default: trappable,
    },
    exports: { default: async },
    // These types have not changed since.
    with: { "hubbub:plugin/types@0.1.0": super::bindings::hubbub::plugin::types },
});

use self::exports::hubbub::plugin::handler as old;
use super::bindings::exports::hubbub::plugin::handler as new;

pub use self::hubbub::plugin as imports;

/// Implements conversions, from the left version to the right, of types that are equal field by field or case by case.
macro_rules! equal {
    ($from:ident => $to:ident: $(record $record:ident { $($field:ident),* })* $(enum $enum:ident { $($case:ident),* })*) => {
        $(impl From<$from::$record> for $to::$record {
            fn from(value: $from::$record) -> Self {
                Self { $($field: value.$field),* }
            }
        })*
        $(impl From<$from::$enum> for $to::$enum {
            fn from(value: $from::$enum) -> Self {
                match value {
                    $($from::$enum::$case => Self::$case),*
                }
            }
        })*
    };
}

equal! { new => old:
    record Event { id, name, args }
    record Message { id, topic, tenant, data, at }
    record DueTimer { key, tenant, payload, due }
    enum DisconnectReason { Client, Transport, Server }
}

equal! { old => new:
    record Failure { message }
    record EmittedEvent { namespace, name, payload }
    record RoomPattern { namespace, pattern }
    enum TokenPolicy { Optional, Required }
    enum Tenancy { None, Required }
    enum ScheduleScope { EachNode, Once }
}

impl From<old::Door> for new::Door {
    fn from(door: old::Door) -> Self {
        let old::Door { token, claims, roles, missing, invalid, forbidden, authorize } = door;
        Self { token: token.into(), claims, roles, missing, invalid, forbidden, authorize }
    }
}

impl From<old::Namespace> for new::Namespace {
    fn from(namespace: old::Namespace) -> Self {
        Self { path: namespace.path, door: namespace.door.map(Into::into) }
    }
}

impl From<old::HandledEvent> for new::HandledEvent {
    fn from(event: old::HandledEvent) -> Self {
        let old::HandledEvent { namespace, name, payload, reply, on_failure } = event;
        Self { namespace, name, payload, reply, on_failure, once: None }
    }
}

impl From<old::Schedule> for new::Schedule {
    fn from(schedule: old::Schedule) -> Self {
        Self { key: schedule.key, every_ms: schedule.every_ms, scope: schedule.scope.into() }
    }
}

impl From<old::Hooks> for new::Hooks {
    fn from(hooks: old::Hooks) -> Self {
        let given = |asked: old::Hooks, flag: Self| if hooks.contains(asked) { flag } else { Self::empty() };
        given(old::Hooks::CONNECT, Self::CONNECT) | given(old::Hooks::DISCONNECT, Self::DISCONNECT)
    }
}

impl From<old::Description> for new::Description {
    fn from(old: old::Description) -> Self {
        fn all<A: Into<B>, B>(list: Vec<A>) -> Vec<B> {
            list.into_iter().map(Into::into).collect()
        }
        Self {
            name: old.name,
            version: old.version,
            data_version: old.data_version,
            reads_data_versions: old.reads_data_versions,
            tenancy: old.tenancy.into(),
            namespaces: all(old.namespaces),
            rooms: all(old.rooms),
            events: all(old.events),
            emits: all(old.emits),
            topics: old.topics,
            schedules: all(old.schedules),
            hooks: old.hooks.into(),
            takes: Vec::new(),
            tenant_keys: Vec::new(),
        }
    }
}

/// The types of the imports.
mod types {
    use super::super::bindings::hubbub::plugin as new;
    use super::imports as old;

    use new::{budget as new_budget, log as new_log, presence as new_presence, rooms as new_rooms, store as new_store};
    use new::{emitter as new_emitter, timers as new_timers};
    use old::{budget as old_budget, log as old_log, presence as old_presence, rooms as old_rooms, store as old_store};
    use old::{emitter as old_emitter, timers as old_timers};

    equal! { new_rooms => old_rooms: record RoomSize { sockets, users, visitors } }
    equal! { new_store => old_store: record Entry { key, value } }
    equal! { new_presence => old_presence: enum Status { Online, Away } }
    equal! { old_presence => new_presence: enum Status { Online, Away } }
    equal! { old_timers => new_timers: enum Durability { Soft, Durable } }
    equal! { old_log => new_log: enum Level { Trace, Debug, Info, Warn, Error } }

    impl From<new_presence::Member> for old_presence::Member {
        fn from(member: new_presence::Member) -> Self {
            Self { key: member.key, status: member.status.into(), meta: member.meta, since: member.since }
        }
    }

    impl From<new_store::Error> for old_store::Error {
        fn from(error: new_store::Error) -> Self {
            match error {
                new_store::Error::InvalidKey(why) => Self::InvalidKey(why),
                new_store::Error::ValueTooLarge => Self::ValueTooLarge,
                new_store::Error::NotACounter => Self::NotACounter,
                new_store::Error::Unavailable => Self::Unavailable,
            }
        }
    }

    impl From<new_budget::Answer> for old_budget::Answer {
        fn from(answer: new_budget::Answer) -> Self {
            match answer {
                new_budget::Answer::Taken(left) => Self::Taken(left),
                new_budget::Answer::RetryAfter(wait) => Self::RetryAfter(wait),
            }
        }
    }

    impl From<old_emitter::Delivery> for new_emitter::Delivery {
        fn from(how: old_emitter::Delivery) -> Self {
            let given = |asked, flag| if how.contains(asked) { flag } else { Self::empty() };
            given(old_emitter::Delivery::EXCEPT_CALLER, Self::EXCEPT_CALLER)
                | given(old_emitter::Delivery::VOLATILE, Self::VOLATILE)
        }
    }
}

//! Functions for the code that `#[plugin]` generates. Plugins do not use them: they may change with the attribute at any time.

use std::borrow::Cow;
use std::sync::OnceLock;

use schemars::{JsonSchema, generate::SchemaSettings};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use crate::bindings::exports::hubbub::plugin::handler;
pub use crate::bindings::hubbub::plugin::types;
pub use crate::caller::Place;
use crate::{
    Caller, Refusal, RefusalCode, Result,
    emitter::Emits,
    host, json, log,
    payload::{self, Args},
    rooms::Room,
    timers::Timer,
};

/// The handlers of one `impl` block of the plugin `P`. `#[plugin]` implements it for every block of a plugin.
pub trait Part<P> {
    /// Adds the block's rooms, events, emits, topics, schedules and hooks.
    fn describe(description: &mut handler::Description);

    /// Ok where the block authorizes nothing in the namespace, as with the other calls about a namespace.
    fn authorize(plugin: &P, caller: &Caller, path: &str, auth: &str) -> Result<()>;

    /// A socket connects.
    fn on_connect(plugin: &P, caller: &Caller, path: &str) -> Result<()>;

    /// An event. None where the block does not handle it, as with messages and timers.
    fn on_event(plugin: &P, caller: &Caller, path: &str, event: &handler::Event) -> Option<Result<Option<String>>>;

    /// A socket has disconnected.
    fn on_disconnect(plugin: &P, caller: &Caller, path: &str, reason: handler::DisconnectReason) -> Result<()>;

    /// A message.
    fn on_message(plugin: &P, message: &handler::Message) -> Option<Result<()>>;

    /// A timer or a schedule.
    fn on_timer(plugin: &P, due: &handler::DueTimer) -> Option<Result<()>>;
}

impl Place {
    fn matches(&self, namespace: &str) -> bool {
        match self.path.split_once('{') {
            None => self.path == namespace,
            Some((literal, _)) => namespace.strip_prefix(literal).is_some_and(|param| !param.is_empty() && !param.contains('/')),
        }
    }
}

/// The caller and its namespace.
pub fn caller(places: &[Place], caller: types::Caller) -> Result<(Caller, Place)> {
    let place = places.iter().find(|place| place.matches(&caller.namespace)).copied().ok_or_else(unknown_event)?;
    Ok((Caller::new(caller, place), place))
}

/// The refusal of an event that the description does not list. The host never sends one.
#[cold]
pub fn unknown_event() -> Refusal {
    Refusal::not_found("Unknown event")
}

/// The failure of a message or timer without a handler.
#[cold]
pub fn unknown(kind: &str, name: &str) -> Refusal {
    Refusal::internal(format_args!("no handler for the {kind} {name}"))
}

/// The prefix of a failure that blames the data (`failure` in `wit/plugin.wit`).
const INVALID_DATA: &str = "invalid data: ";

/// The failure of a call that has no data.
pub fn failure(refusal: Refusal) -> handler::Failure {
    handler::Failure { message: refusal.message }
}

/// The failure of a message or a timer. A refusal as `invalid`, by the handler or because the data does not fit its type, blames the
/// data.
pub fn failure_on_data(refusal: Refusal) -> handler::Failure {
    match refusal.code {
        RefusalCode::Invalid => handler::Failure { message: format!("{INVALID_DATA}{}", refusal.message) },
        _ => failure(refusal),
    }
}

/// Replaces the sentence of a failed import by the event's own, as the host does after a trap or a failed commit.
pub fn on_failure(sentence: &str, answer: Result<Option<String>>) -> Result<Option<String>> {
    answer.map_err(|refusal| if refusal.is_failure() { Refusal { message: sentence.to_owned(), ..refusal } } else { refusal })
}

/// Logs a refusal by `on_disconnect`, which has no client to answer.
#[cold]
pub fn failed_disconnect(refusal: &Refusal) {
    log::error(&format!("on_disconnect: {}", refusal.message));
}

/// An event's arguments, or a refusal that names the wrong field.
pub fn args<'de, T: Args<'de>>(text: &'de str) -> Result<T> {
    payload::read(text).map_err(|error| Refusal::invalid(payload::explain(text, &error)))
}

/// An event's arguments, or a refusal with the handler's own sentence.
pub fn args_or<'de, T: Args<'de>>(text: &'de str, sentence: &str) -> Result<T> {
    payload::read(text).map_err(|_| Refusal::invalid(sentence))
}

/// One value: a message's data, a timer's payload, a client's `auth`.
pub fn value<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Refusal::invalid(payload::explain(text, &error)))
}

/// The plugin's configuration, or a sentence for the operator.
pub fn config<T: DeserializeOwned>(text: &str) -> std::result::Result<T, String> {
    serde_json::from_str(text).map_err(|error| {
        let wrong = payload::explain(text, &error);
        match wrong.strip_suffix(": unknown") {
            Some(key) => format!("unknown configuration key {key}"),
            None => format!("configuration key {wrong}"),
        }
    })
}

/// The configuration of a plugin without any.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}

/// A reply as the acknowledgement only.
pub fn ack<T: Serialize>(reply: &T) -> Result<Option<String>> {
    Ok(Some(json::text(reply)?))
}

/// A reply as an event to the caller and as the acknowledgement, serialized once.
pub fn reply<T: Serialize>(event: &str, reply: &T) -> Result<Option<String>> {
    let mut args = json::args(reply)?;
    host::emitter::to_caller(event, &args)?;
    args.pop();
    args.remove(0);
    Ok(Some(args))
}

/// The timer and its payload. `pattern` is the handler's.
pub fn timer<'a>(due: &'a handler::DueTimer, pattern: &str) -> (Timer, &'a str) {
    let literal = pattern.find('{').unwrap_or(pattern.len());
    let timer = Timer { key: due.key.clone(), tenant: due.tenant.clone(), due: due.due, literal };
    (timer, due.payload.as_deref().unwrap_or("null"))
}

/// The JSON Schema of a type that is read.
pub fn payload_schema<T: JsonSchema + ?Sized>() -> String {
    schema::<T>(SchemaSettings::draft2020_12().for_deserialize())
}

/// The JSON Schema of a type that is written.
pub fn reply_schema<T: JsonSchema + ?Sized>() -> String {
    schema::<T>(SchemaSettings::draft2020_12().for_serialize())
}

fn schema<T: JsonSchema + ?Sized>(mut settings: SchemaSettings) -> String {
    settings.meta_schema = None;
    serde_json::to_string(&settings.into_generator().into_root_schema_for::<T>()).unwrap_or_else(|_| "true".to_owned())
}

/// Adds an event that is emitted, in each of its namespaces.
pub fn emits<T: JsonSchema + ?Sized>(description: &mut handler::Description, event: Emits<T>) {
    for namespace in event.namespaces() {
        description.emits.push(handler::EmittedEvent {
            namespace: namespace.to_owned(),
            name: event.event().to_owned(),
            payload: reply_schema::<T>(),
        });
    }
}

/// Adds the pattern of rooms, in each of their namespaces.
pub fn rooms(description: &mut handler::Description, rooms: &Room) {
    for namespace in rooms.namespaces() {
        let pattern = rooms.pattern().to_owned();
        description.rooms.push(handler::RoomPattern { namespace: namespace.to_owned(), pattern });
    }
}

/// Adds a topic. Several parts may handle it.
pub fn topic(description: &mut handler::Description, topic: &str) {
    if !description.topics.iter().any(|known| known == topic) {
        description.topics.push(topic.to_owned());
    }
}

/// Makes `authorize` the last check of a namespace's door.
pub fn authorizes(description: &mut handler::Description, path: &str) {
    let namespace = description.namespaces.iter_mut().find(|namespace| namespace.path == path);
    if let Some(door) = namespace.and_then(|namespace| namespace.door.as_mut()) {
        door.authorize = true;
    }
}

/// Owned strings for the description.
pub fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

/// Logs panics. In a component a panic aborts, so the hook is the last code to run.
pub fn log_panics() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        std::panic::set_hook(Box::new(|panic| {
            let message = with_replacement(panic.payload_as_str().unwrap_or("no message"));
            match panic.location() {
                Some(place) => log::error(&format!("panicked at {place}: {message}")),
                None => log::error(&format!("panicked: {message}")),
            }
        }));
    });
}

/// Names the SDK's replacement in a panic about a part of the standard library that components lack.
fn with_replacement(message: &str) -> Cow<'_, str> {
    match message {
        "time not implemented on this platform" => {
            format!("{message}: `SystemTime::now` and `Instant::now` do not work in a component; take `hubbub_sdk::clock::now`")
                .into()
        }
        "can't sleep" => format!("{message}: a handler does not wait; take `hubbub_sdk::timers`").into(),
        _ => message.into(),
    }
}

/// Makes a component of the plugin. Instances are single-threaded, so one thread-local cell is the instance's state.
#[doc(hidden)]
#[macro_export]
macro_rules! export_plugin {
    ($plugin:ty) => {
        const _: () = {
            use $crate::glue::{handler, types};
            use $crate::{Plugin, Refusal};

            struct Component;

            ::std::thread_local! {
                static PLUGIN: ::std::cell::OnceCell<$plugin> = const { ::std::cell::OnceCell::new() };
            }

            fn with<T>(call: impl FnOnce(&$plugin) -> ::core::result::Result<T, Refusal>) -> ::core::result::Result<T, Refusal> {
                PLUGIN.with(|plugin| match plugin.get() {
                    ::core::option::Option::Some(plugin) => call(plugin),
                    ::core::option::Option::None => ::core::result::Result::Err(Refusal::internal("the host called before init")),
                })
            }

            impl handler::Guest for Component {
                fn describe() -> handler::Description {
                    $crate::glue::log_panics();
                    <$plugin as Plugin>::describe()
                }

                fn init(config: ::std::string::String) -> ::core::result::Result<(), ::std::string::String> {
                    $crate::glue::log_panics();
                    let plugin = <$plugin as Plugin>::init(&config)?;
                    PLUGIN.with(|cell| cell.set(plugin)).map_err(|_| ::std::string::String::from("init was called twice"))
                }

                fn authorize(caller: types::Caller, auth: ::std::string::String) -> ::core::result::Result<(), Refusal> {
                    with(|plugin| plugin.authorize(caller, auth))
                }

                fn on_connect(caller: types::Caller) -> ::core::result::Result<(), handler::Failure> {
                    with(|plugin| plugin.on_connect(caller)).map_err($crate::glue::failure)
                }

                fn on_event(
                    caller: types::Caller,
                    event: handler::Event,
                ) -> ::core::result::Result<::core::option::Option<::std::string::String>, Refusal> {
                    with(|plugin| plugin.on_event(caller, event))
                }

                fn on_disconnect(caller: types::Caller, reason: handler::DisconnectReason) {
                    // A refusal was logged already, and has no client to go to.
                    let _ = with(|plugin| ::core::result::Result::Ok(plugin.on_disconnect(caller, reason)));
                }

                fn on_message(message: handler::Message) -> ::core::result::Result<(), handler::Failure> {
                    with(|plugin| plugin.on_message(message)).map_err($crate::glue::failure_on_data)
                }

                fn on_timer(timer: handler::DueTimer) -> ::core::result::Result<(), handler::Failure> {
                    with(|plugin| plugin.on_timer(timer)).map_err($crate::glue::failure_on_data)
                }
            }

    $crate::bindings::export_handler!(Component with_types_in $crate::bindings);
        };
    };
}

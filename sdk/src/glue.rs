//! What the code written by `#[plugin]` calls. Not for plugins: it may change with the attribute at any time.

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
    timers::Timer,
};

impl Place {
    fn matches(&self, namespace: &str) -> bool {
        match self.path.split_once('{') {
            None => self.path == namespace,
            Some((literal, _)) => namespace.strip_prefix(literal).is_some_and(|param| !param.is_empty() && !param.contains('/')),
        }
    }
}

/// The caller with the place it is in.
pub fn caller(places: &[Place], caller: types::Caller) -> Result<(Caller, Place)> {
    let place = places.iter().find(|place| place.matches(&caller.namespace)).copied().ok_or_else(unknown_event)?;
    Ok((Caller::new(caller, place), place))
}

/// The refusal of what the description does not name; the host lets none of it through.
#[cold]
pub fn unknown_event() -> Refusal {
    Refusal::not_found("Unknown event")
}

/// The failure of a message or timer that the description does not name.
#[cold]
pub fn unknown(kind: &str, name: &str) -> Refusal {
    Refusal::internal(format_args!("no handler for the {kind} {name}"))
}

/// How a failure begins that says that the data is at fault (`failure` in `wit/plugin.wit`).
const INVALID_DATA: &str = "invalid data: ";

/// The failure of a call that has no data.
pub fn failure(refusal: Refusal) -> handler::Failure {
    handler::Failure { message: refusal.message }
}

/// The failure of a message or a timer. A refusal as `invalid`, by the handler or because the data does not fit its type, says that the
/// data is at fault.
pub fn failure_on_data(refusal: Refusal) -> handler::Failure {
    match refusal.code {
        RefusalCode::Invalid => handler::Failure { message: format!("{INVALID_DATA}{}", refusal.message) },
        _ => failure(refusal),
    }
}

/// A handler that could not reach storage, or failed by its own fault, says the event's own sentence, as the host does where a
/// call traps or cannot commit.
pub fn on_failure(sentence: &str, answer: Result<Option<String>>) -> Result<Option<String>> {
    answer.map_err(|refusal| if refusal.is_failure() { Refusal { message: sentence.to_owned(), ..refusal } } else { refusal })
}

/// A disconnect answers nobody, so what went wrong in it goes to the log.
#[cold]
pub fn failed_disconnect(refusal: &Refusal) {
    log::error(&format!("on_disconnect: {}", refusal.message));
}

/// An event's arguments, or the refusal that names the wrong field.
pub fn args<'de, T: Args<'de>>(text: &'de str) -> Result<T> {
    payload::read(text).map_err(|error| Refusal::invalid(payload::explain(text, &error)))
}

/// An event's arguments, or the refusal with the handler's own sentence.
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

/// A reply as the acknowledgement alone.
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

/// The timer without its payload; `pattern` is the handler's.
pub fn timer(due: handler::DueTimer, pattern: &str) -> (Timer, String) {
    let literal = pattern.find('{').unwrap_or(pattern.len());
    let payload = due.payload.unwrap_or_else(|| "null".to_owned());
    (Timer { key: due.key, tenant: due.tenant, due: due.due, literal }, payload)
}

/// The JSON Schema of what is read.
pub fn payload_schema<T: JsonSchema + ?Sized>() -> String {
    schema::<T>(SchemaSettings::draft2020_12().for_deserialize())
}

/// The JSON Schema of what is written.
pub fn reply_schema<T: JsonSchema + ?Sized>() -> String {
    schema::<T>(SchemaSettings::draft2020_12().for_serialize())
}

fn schema<T: JsonSchema + ?Sized>(mut settings: SchemaSettings) -> String {
    settings.meta_schema = None;
    serde_json::to_string(&settings.into_generator().into_root_schema_for::<T>()).unwrap_or_else(|_| "true".to_owned())
}

/// The description of an event that is emitted.
pub fn emitted<T: JsonSchema + ?Sized>(event: Emits<T>) -> handler::EmittedEvent {
    handler::EmittedEvent {
        namespace: event.namespace().to_owned(),
        name: event.event().to_owned(),
        payload: reply_schema::<T>(),
    }
}

/// Owned strings for the description.
pub fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

/// An abort says nothing of why: the log must know before.
pub fn log_panics() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        std::panic::set_hook(Box::new(|panic| {
            let message = with_our_way(panic.payload_as_str().unwrap_or("no message"));
            match panic.location() {
                Some(place) => log::error(&format!("panicked at {place}: {message}")),
                None => log::error(&format!("panicked: {message}")),
            }
        }));
    });
}

/// Adds what to take instead to a panic of the standard library for what no component has.
fn with_our_way(message: &str) -> Cow<'_, str> {
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
                    // A refusal was logged where it was made, and there is nobody to tell.
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

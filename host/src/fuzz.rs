//! Properties that must hold for any bytes of an event, component, description, configuration, token or operator's request. libFuzzer
//! (`make fuzz`) and the tests call it. It panics if a property does not hold, so the server must never call it.

#![expect(clippy::expect_used, reason = "a failed expectation is a finding")]

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::call::manifest::Manifest;
use crate::capability::emitter::packet_text;
use crate::config::{self, Mode};
use crate::contract::{Contract, Reading, asyncapi, page, typescript};
use crate::deploy::checks::signature::Signers;
use crate::error::{Code, Refusal};
use crate::json;
use crate::names::{self, PluginName};
use crate::sandbox::exports::{
    Description, Door, EmittedEvent, HandledEvent, Hooks, Namespace, RoomPattern, Schedule, ScheduleScope, Tenancy, TokenPolicy,
};
use crate::server::hosts::Hosts;
use crate::server::origin::Origins;
use crate::socket::admission::Limits;
use crate::toolchain::inspect;

/// An event's array. From another server it is split as serde_json parses it, or refused; from a client the wire has split it.
pub fn packet(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let array = &text[text.find('[').unwrap_or_default()..];
    let whole: Result<Vec<&RawValue>, _> = serde_json::from_str(array);
    if whole.is_ok() {
        client_args(array);
    }
    let (name, inside) = match json::split_event(array) {
        Ok(event) => event,
        Err(json::InvalidJson::Depth) => return,
        Err(why) => {
            let named = whole.ok().and_then(|args| serde_json::from_str::<String>(args.first()?.get()).ok());
            assert_eq!(named, None, "an event, but it was refused: {why}");
            return;
        }
    };
    let whole = whole.expect("invalid JSON was accepted as an event");
    assert_eq!(serde_json::from_str::<String>(whole[0].get()).ok().as_deref(), Some(&*name), "the name differs");
    let inner = format!("[{inside}]");
    let args: Vec<&RawValue> = serde_json::from_str(&inner).expect("the arguments are no JSON");
    let texts = |args: &[&RawValue]| args.iter().map(|arg| arg.get().to_owned()).collect::<Vec<_>>();
    assert_eq!(texts(&args), texts(&whole[1..]), "the arguments differ");
    let refusal = Refusal::new(Code::Invalid, "no").as_event_args(&name);
    json::check(&refusal).expect("a refusal is JSON");
    if names::check_event(&name).is_ok() {
        let sent = packet_text(&name, inside);
        assert_eq!(json::split_event(&sent).map(|(name, _)| name), Ok(name), "the sent event has another name");
    }
}

/// The arguments of a client's event, which the wire accepts at any depth and with unpaired surrogates.
fn client_args(array: &str) {
    let text = json::well_formed(array);
    assert_eq!(json::depth(&text), json::depth(array), "the depth differs");
    let args: Vec<&RawValue> = serde_json::from_str(&text).expect("well-formed arguments are no JSON");
    for arg in args.iter().filter(|arg| arg.get().starts_with('"')) {
        serde_json::from_str::<String>(arg.get()).expect("an argument is no text");
    }
}

/// A deployed file: it is parsed and validated without a crash and in bounded time.
pub fn component(bytes: &[u8]) {
    let accepted = crate::sandbox::Config::default().check(bytes).is_ok();
    let Ok(inspection) = inspect::read(bytes) else { return };
    assert!(accepted || wasmparser::Parser::is_core_wasm(bytes), "a valid component was refused");
    assert_eq!(inspection.size, bytes.len() as u64);
    assert!(inspection.to_string().contains(&inspection.digest));
}

/// A plugin's description, one item a line: refused with a reason, or all of it is in the contract.
pub fn manifest(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let description = describe(text);
    let Ok(name) = PluginName::parse(&description.name) else { return };
    let manifest = match Manifest::check(description, &name) {
        Ok(manifest) => manifest,
        Err(why) => return assert!(!why.to_string().is_empty()),
    };
    assert!(manifest.reads_data_of(&manifest), "a release cannot follow itself");
    let contract = Contract::of([&manifest]);
    for namespace in &manifest.namespaces {
        assert!(contract.namespaces.iter().any(|described| *described.path == *namespace.pattern.text), "a namespace is missing");
    }
    let document = asyncapi::render(&contract, "localhost", &Reading::default());
    serde_json::from_str::<serde_json::Value>(&document).expect("the document is JSON");
    assert!(page::render(&contract, &Reading::default()).ends_with("</html>\n"));
    assert!(!typescript::render(&contract).is_empty());
}

/// `KIND<tab>FIELD<tab>FIELD…`. Missing fields are empty; an event without a reply has three fields, and one with an idempotency key has five.
fn describe(text: &str) -> Description {
    let mut description = Description {
        name: "fuzzed".into(),
        version: "1.0.0".into(),
        data_version: 1,
        reads_data_versions: Vec::new(),
        tenancy: Tenancy::None,
        namespaces: Vec::new(),
        rooms: Vec::new(),
        events: Vec::new(),
        emits: Vec::new(),
        topics: Vec::new(),
        schedules: Vec::new(),
        hooks: Hooks::empty(),
        takes: Vec::new(),
        tenant_keys: Vec::new(),
    };
    for line in text.split('\n') {
        let mut fields = line.split('\t').map(str::to_owned);
        let mut next = || fields.next();
        let kind = next().unwrap_or_default();
        let (first, second, third, fourth) = (next().unwrap_or_default(), next(), next(), next());
        let (namespace, name) = (first.clone(), second.clone().unwrap_or_default());
        match kind.as_str() {
            "name" => description.name = first,
            "version" => description.version = first,
            "data" => description.data_version = first.parse().unwrap_or_default(),
            "reads" => description.reads_data_versions.extend(first.parse::<u32>()),
            "tenancy" => description.tenancy = Tenancy::Required,
            "optional-tenancy" => description.tenancy = Tenancy::Optional,
            "namespace" => description.namespaces.push(Namespace { path: first, door: second.map(door) }),
            "room" => description.rooms.push(RoomPattern { namespace, pattern: name }),
            "event" => {
                let payload = third.unwrap_or_default();
                description.events.push(HandledEvent { namespace, name, payload, reply: fourth, on_failure: None, once: next() });
            }
            "emit" => description.emits.push(EmittedEvent { namespace, name, payload: third.unwrap_or_default() }),
            "topic" => description.topics.push(first),
            "schedule" => {
                let every_ms = name.parse().unwrap_or_default();
                description.schedules.push(Schedule { key: first, every_ms, scope: ScheduleScope::Once });
            }
            "hooks" => description.hooks = Hooks::all(),
            _ => {}
        }
    }
    description
}

fn door(sentence: String) -> Door {
    Door {
        token: TokenPolicy::Required,
        claims: vec![sentence.clone()],
        roles: vec![sentence.clone()],
        missing: sentence.clone(),
        invalid: sentence.clone(),
        forbidden: sentence,
        authorize: false,
    }
}

/// A configuration file and, after a line of three dashes, the environment, `NAME=VALUE` a line. An accepted configuration must pass the
/// checks of a start or be refused by them, without a panic.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (file, variables) = text.split_once("\n---\n").unwrap_or((text, ""));
    let pairs = variables.lines().filter_map(|line| line.split_once('='));
    let environment: BTreeMap<String, String> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let Ok(table) = file.parse::<toml::Table>() else { return };
    for mode in [Mode::Dev, Mode::Exposed, Mode::Serve] {
        match config::assemble(mode, table.clone(), &environment) {
            Err(why) => assert!(!why.to_string().is_empty()),
            Ok(config) => {
                let _ = config.limits.check();
                let _ = config.shutdown.check();
                let _ = Origins::load(&config.cors);
                let _ = Hosts::load("admin.hosts", &config.admin.hosts);
                let _ = Signers::load(&config.signature);
                Limits::new(&config.admission);
            }
        }
    }
}

mod admin;
mod tokens;

pub use admin::admin;
pub use tokens::tokens;

#[cfg(test)]
mod tests;

//! The environment overrides the file: `HUBBUB_<SECTION>__<KEY>` sets a key. A variable of that form for no key is an error. One without
//! `__` must never be an error, because other programs set such names; if it is near a key, a warning is logged. An empty variable
//! counts as not set.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::tree::{Node, Place, text};
use super::{ConfigError, keys};

const PREFIX: &str = "HUBBUB_";

/// Variables without the prefix that configure the server.
pub(super) const OTHERS: [&str; 4] = ["JWT_SECRET", "REDIS_URL", "DATABASE_URL", "KAFKA_BROKERS"];

/// Variables of other commands, of builds and of tests.
const COMMANDS: [&str; 4] = ["ADMIN_URL", "ADMIN_TOKEN", "WASM_TOOLCHAIN", "BIN"];

/// The process's environment, without variables that are not UTF-8.
///
/// # Errors
/// If a variable that configures the server is not UTF-8.
pub fn environment() -> Result<BTreeMap<String, String>, ConfigError> {
    let mut all = BTreeMap::new();
    for (name, value) in std::env::vars_os() {
        let Ok(name) = name.into_string() else { continue };
        match value.into_string() {
            Ok(value) => drop(all.insert(name, value)),
            Err(_) if OTHERS.contains(&name.as_str()) || sets_a_key(&name) => {
                return Err(ConfigError::Environment { variable: name, why: "it is not UTF-8".into() });
            }
            Err(_) => {}
        }
    }
    Ok(all)
}

/// Whether a name has the form of a key's variable.
fn sets_a_key(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|rest| rest.contains("__") && !is_injected(rest))
}

/// Sets every key that a variable names. Returns a warning for each variable that sets nothing and is near a key.
pub(super) fn overlay(root: &mut Place, environment: &BTreeMap<String, String>) -> Result<Vec<String>, ConfigError> {
    let mut set_by: BTreeMap<String, &str> = BTreeMap::new();
    let mut notes = Vec::new();
    for (variable, value) in environment.iter().filter(|(_, value)| !value.trim().is_empty()) {
        if !sets_a_key(variable) {
            notes.extend(variable.strip_prefix(PREFIX).and_then(note));
            continue;
        }
        let wrong = |why: String| ConfigError::Environment { variable: variable.clone(), why };
        let path = path(variable);
        if let Some(other) = set_by.insert(path.join("."), variable) {
            return Err(wrong(format!("{other} sets the same key")));
        }
        let name: Arc<str> = variable.as_str().into();
        put(root, &path, Place { node: Node::Text(value.clone()), variable: Some(name) }).map_err(wrong)?;
    }
    Ok(notes)
}

/// The key that a variable sets. A plugin's name has `-` where a variable can only have `_`.
fn path(variable: &str) -> Vec<String> {
    let name = variable.strip_prefix(PREFIX).unwrap_or(variable).to_ascii_lowercase();
    let mut parts: Vec<String> = name.split("__").map(str::to_owned).collect();
    if let [section, plugin, ..] = parts.as_mut_slice()
        && section == "plugins"
    {
        *plugin = plugin.replace('_', "-");
    }
    parts
}

fn put(at: &mut Place, path: &[String], value: Place) -> Result<(), String> {
    let Some((key, rest)) = path.split_first() else {
        *at = value;
        return Ok(());
    };
    if key.is_empty() {
        return Err("a part of the name is empty".into());
    }
    // Another variable has set the whole table.
    if let Node::Text(raw) = &at.node
        && let Some(table) = text::table(raw, at)
    {
        at.node = Node::Table(table);
    }
    let Node::Table(table) = &mut at.node else { return Err("the key before it is a value, not a section".into()) };
    let inner = table.entry(key.clone()).or_insert_with(|| Place::table(value.variable.clone()));
    put(inner, rest, value)
}

/// Whether it is a variable that Kubernetes sets for a service named `hubbub` or `hubbub-…`.
fn is_injected(rest: &str) -> bool {
    let section = rest.split("__").next().unwrap_or_default().to_ascii_lowercase();
    if rest.contains("__") && keys::is_section(&section) {
        return false;
    }
    let is_port = |tail: &str| {
        let number = tail.split('_').next().unwrap_or_default();
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    rest.ends_with("SERVICE_HOST")
        || rest.contains("SERVICE_PORT")
        || rest.ends_with("PORT")
        || rest.split("PORT_").skip(1).any(is_port)
}

/// The warning for a variable without `__`, with the key that was probably meant.
fn note(rest: &str) -> Option<String> {
    if is_injected(rest) || COMMANDS.contains(&rest) || rest.contains("__") {
        return None;
    }
    let word = rest.to_ascii_lowercase();
    let ours = keys::all().iter().map(|key| (key.replace('.', "_"), keys::variable(key)));
    let others = OTHERS.iter().map(|name| (name.to_ascii_lowercase(), (*name).to_owned()));
    let candidates: BTreeMap<String, String> = ours.chain(others).collect();
    let near = keys::nearest(&word, candidates.keys().map(String::as_str))?;
    Some(format!("{PREFIX}{rest} configures nothing; did you mean {}?", candidates[near]))
}

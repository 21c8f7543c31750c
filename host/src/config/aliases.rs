//! Keys that were renamed or removed. The old name works for one more version, with a line in the log that names the new one; a
//! removed key is ignored for one more version, with a line in the log.

use super::ConfigError;
use super::tree::{Node, Place};

/// The old and the new name of each section or key.
const RENAMED: [(&str, &str); 3] =
    [("door", "admission"), ("redis.beat", "redis.heartbeat"), ("redis.ledger", "redis.room_counts")];

/// Keys without an effect.
const REMOVED: [&str; 2] = ["gateway.namespace_idle", "gateway.max_namespaces"];

/// Moves values from old names to new ones, and drops those of removed keys. Returns a warning for each.
///
/// # Errors
/// If both names are set.
pub(super) fn rename(root: &mut Place) -> Result<Vec<String>, ConfigError> {
    let mut notes = Vec::new();
    for (old, new) in RENAMED {
        let Some(value) = take(root, old) else { continue };
        let set = named(old, &value);
        if let Some(other) = take(root, new) {
            return Err(ConfigError::BothNames { old: set, new: named(new, &other) });
        }
        notes.push(format!("{set}: `{old}` was renamed to `{new}`, and its old name works for this version only"));
        put(root, new, value);
    }
    for key in REMOVED {
        if let Some(value) = take(root, key) {
            notes.push(format!("{}: `{key}` has no effect any more, and is an error in the next version", named(key, &value)));
        }
    }
    Ok(notes)
}

/// A setting as the operator wrote it: its variable, or its key in the file.
fn named(key: &str, value: &Place) -> String {
    let inside = match &value.node {
        Node::Table(table) => table.values().find_map(|value| value.variable.as_deref()),
        _ => None,
    };
    value.variable.as_deref().or(inside).unwrap_or(key).to_owned()
}

fn take(root: &mut Place, key: &str) -> Option<Place> {
    let Node::Table(table) = &mut root.node else { return None };
    match key.split_once('.') {
        None => table.remove(key),
        Some((section, key)) => take(table.get_mut(section)?, key),
    }
}

fn put(root: &mut Place, key: &str, value: Place) {
    let Node::Table(table) = &mut root.node else { return };
    match key.split_once('.') {
        None => drop(table.insert(key.to_owned(), value)),
        Some((section, key)) => put(table.entry(section.to_owned()).or_insert_with(|| Place::table(None)), key, value),
    }
}

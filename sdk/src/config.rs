//! The plugin's own section of the host's configuration, one key at a time. `init` gets all of it at once; this is for what is
//! read rarely.

use serde::de::DeserializeOwned;

use crate::{host, log};

/// The value of a key. Absent if the operator did not set it, or set it to something that does not fit (which is logged).
pub fn get<T: DeserializeOwned>(key: &str) -> Option<T> {
    let text = host::config::get(key)?;
    serde_json::from_str(&text).map_err(|error| log::error(&format!("config key {key}: {error}"))).ok()
}

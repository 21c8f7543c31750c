//! Single keys of the plugin's configuration (`[plugins.NAME.config]`). `init` gets all keys at once; this is for keys that are
//! read rarely.

use serde::de::DeserializeOwned;

use crate::{host, log};

/// The value of a key. Absent if the operator has not set it, or if its value does not fit the type, which is logged.
pub fn get<T: DeserializeOwned>(key: &str) -> Option<T> {
    let text = host::config::get(key)?;
    serde_json::from_str(&text).map_err(|error| log::error(&format!("config key {key}: {error}"))).ok()
}

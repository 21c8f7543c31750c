//! The plugin's configuration, one key at a time.

use serde_json::Value;

use crate::harness::call;

pub(crate) fn get(key: &str) -> Option<String> {
    call::import(|_, world| {
        let config: Value = serde_json::from_str(&world.config).unwrap_or_default();
        config.get(key).map(Value::to_string)
    })
}

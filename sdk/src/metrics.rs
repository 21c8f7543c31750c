//! A plugin's own figures, served by the host as `hubbub_plugin_custom_*`. Never the place for labels with unbounded values:
//! at most 64 names.

use crate::host;

/// Adds to a counter.
pub fn count(name: &str, by: u64) {
    host::metrics::count(name, by);
}

/// Observes a value in a histogram.
pub fn observe(name: &str, value: f64) {
    host::metrics::observe(name, value);
}

/// Sets a gauge.
pub fn gauge(name: &str, value: f64) {
    host::metrics::gauge(name, value);
}

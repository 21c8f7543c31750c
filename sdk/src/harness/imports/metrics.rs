//! Metrics, collected for the test.

use crate::harness::call;

pub(crate) fn count(name: &str, by: u64) {
    call::import(|call, _| call.metrics.push((name.to_owned(), by as f64, true)));
}

pub(crate) fn observe(name: &str, value: f64) {
    call::import(|call, _| call.metrics.push((name.to_owned(), value, false)));
}

pub(crate) fn gauge(name: &str, value: f64) {
    observe(name, value);
}

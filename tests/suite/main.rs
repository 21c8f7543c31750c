//! The server from outside: one module a subject, one test a promise. Must never depend on another test's order or leftovers.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

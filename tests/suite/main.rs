//! The server from outside: one module a subject, one test a promise. Must never depend on another test's order or leftovers.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, the helpers of tests included"
)]

mod scene;

mod conversations;
mod crm;
mod lms;
mod lms_chat;
mod support_desk;
mod video;
mod video_chat;

mod catalogue;
mod ephemeral;

mod doors;
mod expiry;
mod tokens;

mod course;
mod input;
mod load;
mod stock;
mod timers;

mod author;
mod boot;
mod bridge;
mod bus;
mod cluster;
mod contract;
mod crash;
mod deployment;
mod environment;
mod health;
mod limits;
mod metrics;
mod outages;
mod ports;
mod postgres;
mod proxies;
mod quotas;
mod record;
mod releases;
mod shutdown;
mod stalled;
mod storms;
mod traces;

mod layers;

mod abi;

mod cluster_ingest;
mod cluster_releases;
mod dead;
mod egress;
mod ingest;
mod ingest_waits;

mod hostile;

mod dashboard;
mod dashboard_crowd;
mod demo;
mod figures;

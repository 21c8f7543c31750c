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
mod presence;
mod support_desk;
mod support_queue;
mod video;
mod video_chat;
mod video_notices;

mod catalogue;
mod ephemeral;

mod door_config;
mod doors;
mod expiry;
mod tokens;
mod upgrade;

mod course;
mod ids;
mod input;
mod links;
mod load;
mod stock;
mod tenants;
mod texts;
mod timers;

mod author;
mod bad_messages;
mod boot;
mod bridge;
mod bus;
mod clocks;
mod cluster;
mod contract;
mod crash;
mod deployment;
mod descriptors;
mod dev_exposed;
mod disk;
mod environment;
mod escapes;
mod health;
mod hosts;
mod limits;
mod log;
mod logins;
mod metrics;
mod outages;
mod ports;
mod postgres;
mod proxies;
mod quarantine;
mod quotas;
mod record;
mod releases;
mod schemas;
mod secrets;
mod shares;
mod shutdown;
mod signals;
mod signed;
mod slow_http;
mod stalled;
mod storms;
mod traces;

mod largest;
mod layers;
mod pages;

mod abi;
mod contract_versions;
mod sets;
mod split;

mod cluster_ingest;
mod cluster_releases;
mod dead;
mod egress;
mod ingest;
mod ingest_waits;

mod hostile;
mod hostile_member;

mod dashboard;
mod dashboard_crowd;
mod demo;
mod figures;

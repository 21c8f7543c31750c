//! Tests of the server from outside: one module for each subject, one test for each promise. A test must never depend on another
//! test's order or leftovers.

#![expect(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "tests and their helpers fail by panicking")]

mod helpers;

mod conversations;
mod crm;
mod lms;
mod lms_chat;
mod presence;
mod support_desk;
mod support_queue;
mod video;
mod video_chat;
mod video_notifications;

mod catalogue;
mod ephemeral;

mod door_policies;
mod door_policy_config;
mod expiry;
mod tokens;
mod upgrade;

mod ids;
mod invalid_input;
mod json_edge_cases;
mod links;
mod load;
mod namespace_parameters;
mod stock_clients;
mod tenants;
mod timers;

mod bad_messages;
mod bridge;
mod bus;
mod clocks;
mod cluster;
mod contract;
mod crash;
mod deploy_stress;
mod deployment;
mod dev_exposed;
mod disk;
mod environment;
mod escaping;
mod failed_logins;
mod file_descriptors;
mod health;
mod histories;
mod hosts;
mod limits;
mod log;
mod metrics;
mod once;
mod outages;
mod plugin_author;
mod ports;
mod postgres;
mod proxies;
mod quarantine;
mod quotas;
mod recording;
mod recovery;
mod recovery_cluster;
mod recovery_jitter;
mod recovery_storm;
mod releases;
mod retries;
mod schemas;
mod secrets;
mod shares;
mod shutdown;
mod signals;
mod signatures;
mod slow_consumers;
mod slow_http;
mod startup;
mod traces;

mod largest_payloads;
mod layers;
mod pages;

mod abi;
mod contract_versions;
mod plugin_sets;
mod plugin_split;

mod cluster_ingest;
mod cluster_releases;
mod dead_letters;
mod egress;
mod ingest;
mod ingest_backpressure;

mod hostile_client;
mod hostile_plugin;

mod dashboard;
mod dashboard_load;
mod demo;
mod live_metrics;

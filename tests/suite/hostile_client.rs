//! One hostile client with ordinary rights sends every event in all sizes, as fast as the limits allow, for ten seconds (`make
//! soak`: a minute). No other client is refused or waits long, and no release is blamed for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::{join, join_all};
use serde_json::json;
use tests::{Client, Postgres, Server, Token, machine, token};
use tokio::time::{Instant, sleep_until};

use crate::helpers::{join as join_chat, open_chat, user};
use crate::schemas::Schemas;

/// Duration of the attack in seconds. The environment variable overrides it.
const SECONDS: u64 = 10;
const SOAK: &str = "HUBBUB_TEST_SOAK_SECONDS";

/// How long the undisturbed latency is measured.
const QUIET: Duration = Duration::from_secs(3);

/// The number of measured clients and the interval between their events.
const OTHERS: usize = 8;
const EVERY: Duration = Duration::from_millis(40);

/// Events in flight on each of the attacker's sockets.
const AHEAD: usize = 32;

/// How long the attacker waits for an answer before it reconnects.
const PATIENCE: Duration = Duration::from_secs(1);

/// Lengths of texts and lists in the attacker's payloads.
const SIZES: [usize; 4] = [1, 200, 1000, 20_000];

/// The other clients' p99 may double. An increase up to this is noise.
const NOISE: Duration = Duration::from_millis(15);

/// How much the server's memory may grow, in bytes: queues and pools are filled for the first time.
const MEMORY: u64 = 96 << 20;

fn seconds() -> u64 {
    std::env::var(SOAK).ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS)
}

/// A token that every namespace accepts.
fn mallory() -> Token {
    token("mallory").claim("userId", "mallory").claim("companyId", "acme").claim("role", json!(["ADMIN", "ATTENDANT"]))
}

/// Sends every event of a namespace in every size until `stop` is set. Waits for as long as a refusal asks.
async fn attack(server: &Server, schemas: &Schemas, namespace: &str, stop: &AtomicBool) -> usize {
    let events: Vec<_> = schemas.events().into_iter().filter(|(at, ..)| *at == namespace).collect();
    let mut payloads = Vec::new();
    for (_, event, schema) in &events {
        payloads.extend(SIZES.map(|size| json!([event, schemas.sized(schema, size)])));
        payloads.push(json!([event]));
    }
    payloads.push(json!(["auth:refresh", {"token": mallory().sign()}]));
    payloads.push(json!(["nobody:takes:this", "x".repeat(90_000)]));
    let mut client = server.connect(namespace, mallory()).await;
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut asked = Vec::new();
        for payload in payloads.iter().cycle().skip(sent % payloads.len()).take(AHEAD) {
            asked.push(client.emit_for_ack(payload).await);
            sent += 1;
        }
        let mut wait = 0;
        for ack in asked {
            // A packet that is too large ends the connection. One that does not fit into the client's full queue is lost.
            let answer = tokio::time::timeout(PATIENCE, client.acked_or_ended(ack)).await;
            let Ok(Some(answer)) = answer else {
                client = server.connect(namespace, mallory()).await;
                break;
            };
            wait = wait.max(answer["error"]["retryAfterMs"].as_u64().unwrap_or(0));
            assert_ne!(answer["error"]["code"], "internal", "{answer}");
        }
        // Stay at the limit: the attacker sends again at the first allowed moment.
        sleep_until(Instant::now() + Duration::from_millis(wait.min(1000))).await;
    }
    sent
}

/// Sends ordinary events of one other client and returns the latencies.
async fn ordinary(clients: &mut [Client; 2], until: Instant) -> Vec<Duration> {
    let mut took = Vec::new();
    let mut next = Instant::now();
    for turn in 0.. {
        next += EVERY;
        sleep_until(next).await;
        if Instant::now() >= until {
            return took;
        }
        let (client, event, payload) = match turn % 4 {
            0 => (&mut clients[0], "chat:typing", json!({"chatId": "c1"})),
            1 => (&mut clients[0], "chat:history", json!({"chatId": "c1", "limit": 10})),
            2 => (&mut clients[1], "video:progress", json!({"videoId": "v1", "timestamp": turn})),
            _ => (&mut clients[1], "lesson:progress", json!({"lessonId": "l1", "watchedDuration": 1, "totalDuration": 2})),
        };
        let began = Instant::now();
        let answer = client.ask(event, payload).await;
        took.push(began.elapsed());
        assert!(answer["error"].is_null(), "{event} of another client: {answer}");
    }
    took
}

async fn p99_of(others: &mut [[Client; 2]], time: Duration) -> Duration {
    let until = Instant::now() + time;
    let mut took: Vec<_> = join_all(others.iter_mut().map(|clients| ordinary(clients, until))).await.concat();
    took.sort_unstable();
    took[took.len() * 99 / 100]
}

#[expect(clippy::print_stdout, reason = "results, shown with --nocapture")]
async fn others_are_undisturbed(server: Server) {
    let names: Vec<_> = (0..OTHERS).map(|n| format!("u{n}")).collect();
    let mut listed: Vec<&str> = names.iter().map(String::as_str).collect();
    listed.push("mallory");
    open_chat(&server, "c1", &listed).await;
    let mut others = Vec::new();
    for name in &names {
        let mut chat = server.connect("/chat", user(name)).await;
        join_chat(&mut chat, "c1").await;
        others.push([chat, server.connect("/", user(name)).await]);
    }
    let time = Duration::from_secs(seconds());
    p99_of(&mut others, Duration::from_secs(1)).await;
    let quiet = p99_of(&mut others, QUIET).await;

    let (_, document) = server.get("/asyncapi.json").await;
    let (schemas, stop) = (Schemas(document), AtomicBool::new(false));
    let memory: u64 = server.nodes().map(Server::resident_bytes).sum();
    let namespaces: std::collections::BTreeSet<_> = schemas.events().into_iter().map(|(namespace, ..)| namespace).collect();
    let attacks = join_all(namespaces.iter().filter(|at| !at.contains('{')).map(|at| attack(&server, &schemas, at, &stop)));
    let measured = async {
        let p99 = p99_of(&mut others, time).await;
        stop.store(true, Ordering::Relaxed);
        p99
    };
    let (sent, p99) = join(attacks, measured).await;
    let sent: usize = sent.iter().sum();
    let grown = server.nodes().map(Server::resident_bytes).sum::<u64>().saturating_sub(memory);
    println!(
        "the attacker sent {sent} events; p99 of the others {quiet:?} without it, {p99:?} with it; memory grew by {} KiB",
        grown >> 10
    );
    assert!(sent > 500, "only {sent} events sent");
    assert!(p99 <= (quiet * 2).max(quiet + NOISE), "p99 was {quiet:?} and became {p99:?}");
    assert!(grown <= MEMORY, "memory grew by {grown} bytes");
    let metrics = server.metrics().await;
    for never in ["hubbub_plugin_faults_total", "hubbub_breaker_openings_total", "hubbub_bus_dead_letters_total"] {
        assert_eq!(metrics.get(never, &[]).unwrap_or(0.0), 0.0, "{never}\n{}", server.log());
    }
    let page = others[0][0].ask("chat:history", json!({"chatId": "c1", "limit": 100})).await;
    assert!(page["messages"].as_array().is_some_and(|messages| messages.len() <= 100), "{page}");
}

#[tokio::test]
async fn a_hostile_client_disturbs_no_other_on_the_embedded_database() {
    machine::exclusive();
    others_are_undisturbed(Server::dev().single_node().start().await).await;
}

#[tokio::test]
async fn a_hostile_client_disturbs_no_other_on_postgres() {
    machine::exclusive();
    let url = Postgres::shared().await.empty().await;
    others_are_undisturbed(Server::dev().database(&url).start().await).await;
}

#[tokio::test]
async fn a_hostile_client_disturbs_no_other_on_two_nodes() {
    machine::exclusive();
    others_are_undisturbed(Server::dev().spread_over(2).start().await).await;
}

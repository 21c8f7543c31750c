//! Clients that are cut at random moments while others send: each gets everything once and in order. Runs for some seconds, or as long
//! as the environment variable says, and prints its seed.

use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::{join_all, join3};
use reqwest::Method;
use serde_json::{Value, json};
use tests::{Client, Returning, Server, fixture};
use tokio::time::{Instant, sleep};

use crate::helpers::{join as join_chat, open_chat, user};

const CLIENTS: usize = 30;
const SENDERS: usize = 3;
const SECONDS: u64 = 6;
const RELOADS: usize = 100;
const SOAK: &str = "HUBBUB_TEST_STORM_SECONDS";
pub(crate) const SEED: &str = "HUBBUB_TEST_SEED";

/// The time between two messages of a sender.
pub(crate) const PACE: Duration = Duration::from_millis(2);

/// How long the clients may take to read what is left when the senders have ended.
const READING: Duration = Duration::from_secs(20);

/// The seed of a random test.
pub(crate) fn seed() -> u64 {
    number(SEED).unwrap_or_else(|| RandomState::new().hash_one(0))
}

/// How long a random test runs.
pub(crate) fn seconds(default: u64) -> u64 {
    number(SOAK).unwrap_or(default)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Random numbers from a seed (SplitMix64).
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    pub(crate) fn millis(&mut self, end: u64) -> Duration {
        Duration::from_millis(self.below(end))
    }
}

/// Sends numbered messages one after the other until it is over. Returns how many were acked.
async fn send(mut client: Client, sender: usize, is_over: &AtomicBool) -> usize {
    for number in 0.. {
        if is_over.load(Ordering::Relaxed) {
            return number;
        }
        let said = json!({"chatId": "c1", "content": format!("{sender} {number}")});
        assert_eq!(client.ask("chat:message", said).await, json!({}));
        // Its own messages are of no interest.
        while client.event_until(Instant::now() + PACE).await.is_some() {}
    }
    unreachable!("the numbers do not end")
}

/// A client that loses its connection and comes back, with the messages that it has got.
pub(crate) struct Wanderer {
    pub client: Returning,
    pub got: Vec<(usize, usize)>,
}

impl Wanderer {
    pub(crate) async fn new(at: SocketAddr, name: &str) -> Self {
        let mut client = Returning::new("/chat", user(name));
        client.connect(at).await.expect("accepted");
        join_chat(client.client(), "c1").await;
        Self { client, got: Vec::new() }
    }

    pub(crate) async fn read(&mut self, until: Instant) {
        self.client.read(until).await;
        self.got.extend(self.client.received.drain(..).filter_map(|args| number_of(&args)));
    }

    /// Sometimes its old connection still counts as open when it comes back.
    pub(crate) async fn lose_connection(&mut self, random: &mut Random) {
        if random.below(4) > 0 {
            self.client.cut();
            sleep(random.millis(300)).await;
        }
    }
}

/// Loses its connection and comes back until it is over.
async fn wander(server: &Server, mut wanderer: Wanderer, mut random: Random, is_over: &AtomicBool) -> Wanderer {
    while !is_over.load(Ordering::Relaxed) {
        wanderer.read(Instant::now() + random.millis(400)).await;
        wanderer.lose_connection(&mut random).await;
        wanderer.client.connect(server.address()).await.expect("the server is there");
    }
    wanderer
}

/// The sender and the number of a message, from an event with its arguments.
pub(crate) fn number_of(args: &[Value]) -> Option<(usize, usize)> {
    let (sender, number) = args.get(1)?["content"].as_str().filter(|_| args[0] == "chat:message")?.split_once(' ')?;
    Some((sender.parse().ok()?, number.parse().ok()?))
}

/// Clients are cut and others send until `during` is done.
#[expect(clippy::print_stdout, reason = "results, shown with --nocapture")]
async fn nothing_is_missed(seed: u64, during: impl AsyncFnOnce(&Server)) {
    let server = Server::dev().without_message_limit().single_node().start().await;
    let names: Vec<String> = (0..CLIENTS + SENDERS).map(|number| format!("u{number}")).collect();
    open_chat(&server, "c1", &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut clients = Vec::new();
    for name in &names[..CLIENTS] {
        clients.push(Wanderer::new(server.address(), name).await);
    }
    let mut senders = Vec::new();
    for name in &names[CLIENTS..] {
        senders.push(server.connect("/chat", user(name)).await);
    }
    for sender in &mut senders {
        join_chat(sender, "c1").await;
    }
    let is_over = AtomicBool::new(false);
    let sending = join_all(senders.into_iter().enumerate().map(|(at, client)| send(client, at, &is_over)));
    let random = |at: usize| Random(seed.wrapping_add(at as u64));
    let wandering = clients.into_iter().enumerate().map(|(at, client)| wander(&server, client, random(at), &is_over));
    let during = async {
        during(&server).await;
        is_over.store(true, Ordering::Relaxed);
    };
    let (sent, clients, ()) = join3(sending, join_all(wandering), during).await;
    let (total, reading) = (sent.iter().sum::<usize>(), Instant::now() + READING);
    let mut recovered = 0;
    for (at, mut wanderer) in clients.into_iter().enumerate() {
        while wanderer.got.len() < total && Instant::now() < reading {
            wanderer.read(Instant::now() + Duration::from_millis(20)).await;
        }
        let Wanderer { client, got } = wanderer;
        assert_eq!(client.renewed, 0, "client {at} got a new socket");
        recovered += client.recovered;
        for (sender, count) in sent.iter().enumerate() {
            let of_sender: Vec<_> = got.iter().filter(|(of, _)| *of == sender).map(|(_, number)| *number).collect();
            assert_eq!(of_sender, (0..*count).collect::<Vec<_>>(), "client {at}, sender {sender}");
        }
    }
    println!("{total} messages, {recovered} recoveries");
    assert!(total > 100 && recovered > CLIENTS);
}

#[tokio::test]
async fn clients_that_are_cut_at_random_miss_nothing() {
    let seed = seed();
    println!("{SEED}={seed}");
    nothing_is_missed(seed, async |_: &Server| sleep(Duration::from_secs(seconds(SECONDS))).await).await;
}

#[tokio::test]
async fn clients_that_are_cut_during_100_reloads_of_a_plugin_miss_nothing() {
    let seed = seed();
    println!("{SEED}={seed}");
    let chat = std::fs::read(&fixture::plugins().await["chat"]).expect("it was built");
    // Both are compiled once.
    let builds = [chat.clone(), fixture::uncached(&chat, std::process::id())];
    nothing_is_missed(seed, async |server: &Server| {
        for number in 1..=RELOADS {
            let (status, answer) = server.admin(Method::POST, "/admin/plugins/chat/deploy", builds[number % 2].clone()).await;
            assert_eq!(status, 200, "{answer}");
        }
    })
    .await;
}

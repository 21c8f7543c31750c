//! Clients that are cut at random moments while others send: each gets everything once and in order. Runs for some seconds, or as long
//! as the environment variable says, and prints its seed.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use tests::{Client, Returning, Server};
use tokio::time::{Instant, sleep};

use crate::helpers::{join as join_chat, open_chat, user};

const CLIENTS: usize = 30;
const SENDERS: usize = 3;
const SECONDS: u64 = 6;
const SOAK: &str = "HUBBUB_TEST_JITTER_SECONDS";
const SEED: &str = "HUBBUB_TEST_SEED";

/// How long the clients may take to read what is left when the senders have ended.
const READING: Duration = Duration::from_secs(20);

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Random numbers from a seed (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn millis(&mut self, end: u64) -> Duration {
        Duration::from_millis(self.below(end))
    }
}

/// Sends numbered messages one after the other until `end`. Returns how many were acked.
async fn send(mut client: Client, sender: usize, end: Instant) -> usize {
    for number in 0.. {
        if Instant::now() >= end {
            return number;
        }
        let said = json!({"chatId": "c1", "content": format!("{sender} {number}")});
        assert_eq!(client.ask("chat:message", said).await, json!({}));
        // Its own messages are of no interest.
        while client.event_until(Instant::now()).await.is_some() {}
    }
    unreachable!("the numbers do not end")
}

/// Loses its connection and comes back until `end`, then reads until it has `wanted` messages.
async fn wander(server: &Server, mut client: Returning, mut random: Random, end: Instant) -> Returning {
    while Instant::now() < end {
        client.read(Instant::now() + random.millis(400)).await;
        // Sometimes its old connection still counts as open when it comes back.
        if random.below(4) > 0 {
            client.cut();
            sleep(random.millis(300)).await;
        }
        client.connect(server.address()).await.expect("the server is there");
    }
    client
}

fn contents(client: &Returning) -> Vec<(usize, usize)> {
    let of = |args: &Vec<Value>| {
        let (sender, number) = args[1]["content"].as_str()?.split_once(' ')?;
        Some((sender.parse().ok()?, number.parse().ok()?))
    };
    client.received.iter().filter(|args| args[0] == "chat:message").filter_map(of).collect()
}

#[tokio::test]
async fn clients_that_are_cut_at_random_miss_nothing() {
    let seed = number(SEED).unwrap_or_else(|| RandomState::new().hash_one(0));
    println!("{SEED}={seed}");
    let server = Server::dev().without_message_limit().single_node().start().await;
    let names: Vec<String> = (0..CLIENTS + SENDERS).map(|number| format!("u{number}")).collect();
    open_chat(&server, "c1", &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut clients = Vec::new();
    for name in &names[..CLIENTS] {
        let mut client = Returning::new("/chat", user(name));
        client.connect(server.address()).await.expect("accepted");
        join_chat(client.client(), "c1").await;
        clients.push(client);
    }
    let mut senders = Vec::new();
    for name in &names[CLIENTS..] {
        senders.push(server.connect("/chat", user(name)).await);
    }
    for sender in &mut senders {
        join_chat(sender, "c1").await;
    }
    let end = Instant::now() + Duration::from_secs(number(SOAK).unwrap_or(SECONDS));
    let sent = join_all(senders.into_iter().enumerate().map(|(at, client)| send(client, at, end)));
    let wandering = clients.into_iter().enumerate();
    let wandering = join_all(wandering.map(|(at, client)| wander(&server, client, Random(seed.wrapping_add(at as u64)), end)));
    let (sent, clients) = join(sent, wandering).await;
    let (total, reading) = (sent.iter().sum::<usize>(), Instant::now() + READING);
    let mut recovered = 0;
    for (at, mut client) in clients.into_iter().enumerate() {
        while contents(&client).len() < total && Instant::now() < reading {
            client.read(Instant::now() + Duration::from_millis(20)).await;
        }
        assert_eq!(client.renewed, 0, "client {at} got a new socket");
        recovered += client.recovered;
        let got = contents(&client);
        for (sender, count) in sent.iter().enumerate() {
            let of_sender: Vec<_> = got.iter().filter(|(of, _)| *of == sender).map(|(_, number)| *number).collect();
            assert_eq!(of_sender, (0..*count).collect::<Vec<_>>(), "client {at}, sender {sender}");
        }
    }
    println!("{total} messages, {recovered} recoveries");
    assert!(total > 100 && recovered > CLIENTS);
}

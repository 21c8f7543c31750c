//! Three nodes that are killed, stopped, started and given new releases at random, with a Redis that stops at times, while clients lose
//! their connections and come back to any node: each gets everything once and in order. Runs for some seconds, or as long as the
//! environment variable says, and prints its seed.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::{join, join_all, join3};
use reqwest::Method;
use serde_json::json;
use tests::cluster::Cluster;
use tests::redis::Redis;
use tests::server::Builder;
use tests::stock::{StockSocket, Transports};
use tests::{Client, Server, Stock, TcpProxy, fixture};
use tokio::sync::RwLock;
use tokio::time::{Instant, sleep};

use crate::helpers::{open_chat, user};
use crate::recovery_jitter::{PACE, Random, SEED, Wanderer, number_of, seconds, seed};

const CLIENTS: usize = 20;
/// Stock clients, each in a process of its own.
const STOCK: [Transports; 3] = [Transports::Polling, Transports::Polling, Transports::Upgrade];
const SENDERS: usize = 3;
const SECONDS: u64 = 10;

/// How long a stock client may need to come back before it is sent to another node.
const BACK: Duration = Duration::from_secs(1);

/// How long the clients may take to read what is left when the senders have ended.
const READING: Duration = Duration::from_secs(20);

/// A message: its sender and its number.
type Message = (usize, usize);

/// The state that all tasks of a test share.
struct Storm {
    /// Where the nodes are; None: it is being restarted.
    places: Mutex<Vec<Option<SocketAddr>>>,
    /// Held by clients that come back, so that none does while Redis does not answer.
    calm: RwLock<()>,
    /// Counts the beginnings and ends of the times without Redis: odd while it does not answer.
    pauses: AtomicU64,
    end: Instant,
}

impl Storm {
    fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }

    fn place(&self, random: &mut Random) -> SocketAddr {
        let all: Vec<_> = self.places().iter().flatten().copied().collect();
        all[random.below(all.len() as u64) as usize]
    }

    fn places(&self) -> std::sync::MutexGuard<'_, Vec<Option<SocketAddr>>> {
        self.places.lock().expect("no test has panicked")
    }

    fn pauses(&self) -> u64 {
        self.pauses.load(Ordering::SeqCst)
    }
}

/// Loses its connection and comes back to any node until the end.
async fn wander(mut wanderer: Wanderer, storm: &Storm, mut random: Random) -> Wanderer {
    while !storm.is_over() {
        wanderer.read(Instant::now() + random.millis(400)).await;
        let _calm = storm.calm.read().await;
        wanderer.lose_connection(&mut random).await;
        while wanderer.client.connect(storm.place(&mut random)).await.is_err() {
            sleep(random.millis(100)).await;
        }
    }
    wanderer
}

/// A stock client behind a proxy.
struct Wandering {
    socket: StockSocket,
    proxy: TcpProxy,
    got: Vec<Message>,
    recovered: usize,
    renewed: usize,
}

impl Wandering {
    async fn read(&mut self, until: Instant) {
        for saw in self.socket.reports_until(until).await {
            match saw["saw"].as_str() {
                Some("event") => self.got.extend(saw["args"].as_array().and_then(|args| number_of(args))),
                Some("connect") if saw["recovered"] == true => self.recovered += 1,
                Some("connect") => self.renewed += 1,
                _ => {}
            }
        }
    }

    async fn wander(mut self, storm: &Storm, mut random: Random) -> Self {
        while !storm.is_over() {
            self.read(Instant::now() + random.millis(1500)).await;
            let _calm = storm.calm.read().await;
            let before = self.recovered + self.renewed;
            while self.recovered + self.renewed == before {
                self.proxy.redirect_to(storm.place(&mut random));
                let give_up = Instant::now() + BACK;
                while self.recovered + self.renewed == before && Instant::now() < give_up {
                    self.read(Instant::now() + Duration::from_millis(20)).await;
                }
            }
        }
        self
    }
}

/// The messages of a sender that every client must get: acked while Redis answered.
type Required = Vec<usize>;

async fn connect_sender(storm: &Storm, name: &str, random: &mut Random) -> Option<Client> {
    let mut client = Client::connect(storm.place(random), "/chat", user(name)).await.ok()?;
    let join = client.emit_for_ack(&json!(["chat:join", {"chatId": "c1"}])).await;
    client.acked_or_ended(join).await.filter(|reply| reply["error"].is_null())?;
    Some(client)
}

/// Sends numbered messages one after the other until the end.
async fn send(storm: &Storm, name: &str, sender: usize, mut random: Random) -> Required {
    let (mut required, mut client) = (Required::new(), None);
    for number in 0.. {
        if storm.is_over() {
            break;
        }
        let pauses = storm.pauses();
        let here = match client.take().filter(|_| random.below(50) > 0) {
            Some(here) => Some(here),
            None => connect_sender(storm, name, &mut random).await,
        };
        let Some(mut here) = here else { continue };
        let said = json!(["chat:message", {"chatId": "c1", "content": format!("{sender} {number}")}]);
        let ack = here.emit_for_ack(&said).await;
        if here.acked_or_ended(ack).await == Some(json!({})) {
            if pauses == storm.pauses() && pauses.is_multiple_of(2) {
                required.push(number);
            }
            while here.event_until(Instant::now() + PACE).await.is_some() {}
            client = Some(here);
        }
    }
    required
}

/// The disturbances of a run.
#[derive(Debug, Default)]
struct Happened {
    kills: usize,
    stops: usize,
    pauses: usize,
    deploys: usize,
}

async fn stop_redis(storm: &Storm, redis: &Redis, nodes: &[Server], time: Duration) {
    let _calm = storm.calm.write().await;
    storm.pauses.fetch_add(1, Ordering::SeqCst);
    redis.pause();
    sleep(time).await;
    redis.resume();
    for node in nodes {
        node.sees_nodes(nodes.len()).await;
    }
    storm.pauses.fetch_add(1, Ordering::SeqCst);
}

/// Disturbs one node or Redis after the other until the end.
async fn disturb(storm: &Storm, redis: &Redis, nodes: &mut [Server], mut random: Random) -> Happened {
    let chat = std::fs::read(&fixture::plugins().await["chat"]).expect("it was built");
    let mut happened = Happened::default();
    while !storm.is_over() {
        sleep(random.millis(1500)).await;
        let at = random.below(nodes.len() as u64) as usize;
        match random.below(8) {
            0 => {
                stop_redis(storm, redis, nodes, random.millis(2000)).await;
                happened.pauses += 1;
            }
            1 => {
                let new = fixture::uncached(&chat, random.below(1 << 32) as u32);
                let (status, answer) = nodes[at].admin(Method::POST, "/admin/plugins/chat/deploy", new).await;
                assert_eq!(status, 200, "{answer}");
                happened.deploys += 1;
            }
            fate => {
                storm.places()[at] = None;
                if fate < 5 {
                    nodes[at].kill9();
                    happened.kills += 1;
                } else {
                    nodes[at].terminate().await;
                    happened.stops += 1;
                }
                nodes[at].start_again().await;
                storm.places()[at] = Some(nodes[at].address());
            }
        }
    }
    happened
}

/// The messages that a client must have got and has not.
fn lost<'a>(sent: &'a [Required], got: &'a [Message]) -> impl Iterator<Item = Message> + 'a {
    let got: HashSet<Message> = got.iter().copied().collect();
    let required = sent.iter().enumerate().flat_map(|(sender, numbers)| numbers.iter().map(move |number| (sender, *number)));
    required.filter(move |message| !got.contains(message))
}

/// Each required message once, and in the order of its sender.
fn check(client: &str, sent: &[Required], got: &[Message]) {
    let lost: Vec<_> = lost(sent, got).collect();
    assert!(lost.is_empty(), "{client} lost {lost:?}");
    let mut seen = HashSet::new();
    let twice: Vec<_> = got.iter().filter(|message| !seen.insert(**message)).collect();
    assert!(twice.is_empty(), "{client} got twice {twice:?}");
    let mut last: HashMap<usize, usize> = HashMap::new();
    let required: Vec<BTreeSet<usize>> = sent.iter().map(|numbers| numbers.iter().copied().collect()).collect();
    // A message without an ack may arrive after the next one, which was sent over another node.
    for (sender, number) in got.iter().filter(|(sender, number)| required[*sender].contains(number)) {
        let before = last.insert(*sender, *number);
        assert!(before < Some(*number), "{client} got {number} of sender {sender} after {before:?}");
    }
}

/// The recoveries that a node has refused since its start, by reason.
async fn refused(node: &Server) -> Vec<(&'static str, f64)> {
    let metrics = node.metrics().await;
    let of = |reason| metrics.get("hubbub_recoveries_refused_total", &[("reason", reason)]).unwrap_or_default();
    let all = ["unknown", "offset", "other_user", "log", "busy", "redis"].map(|reason| (reason, of(reason)));
    all.into_iter().filter(|(_, count)| *count > 0.0).collect()
}

async fn wandering(storm: &Storm, name: &str, transports: Transports, random: &mut Random) -> Wandering {
    let proxy = TcpProxy::to(storm.place(random)).await;
    let url = format!("http://{}", proxy.address());
    let mut socket = Stock::Node.connect_at(&url, "/chat", user(name), transports).await.expect("accepted");
    assert!(socket.ask("chat:join", json!({"chatId": "c1"})).await["error"].is_null());
    Wandering { socket, proxy, got: Vec::new(), recovered: 0, renewed: 0 }
}

#[tokio::test]
async fn clients_that_wander_between_nodes_in_a_storm_miss_nothing() {
    let seed = seed();
    println!("{SEED}={seed}");
    let mut cluster = Cluster::with(3, Builder::without_message_limit).await;
    let names: Vec<String> = (0..CLIENTS + STOCK.len() + SENDERS).map(|number| format!("u{number}")).collect();
    open_chat(&cluster.nodes[0], "c1", &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let places = Mutex::new(cluster.nodes.iter().map(|node| Some(node.address())).collect());
    let mut storm = Storm { places, calm: RwLock::default(), pauses: AtomicU64::new(0), end: Instant::now() };
    let (mut random, mut names) = (Random(seed), names.iter());
    let (mut clients, mut stock) = (Vec::new(), Vec::new());
    for name in names.by_ref().take(CLIENTS) {
        clients.push(Wanderer::new(storm.place(&mut random), name).await);
    }
    for (name, transports) in names.by_ref().zip(STOCK) {
        stock.push(wandering(&storm, name, transports, &mut random).await);
    }
    storm.end = Instant::now() + Duration::from_secs(seconds(SECONDS));
    let random = |at: usize| Random(seed.wrapping_add(at as u64 + 1));
    let sending = join_all(names.enumerate().map(|(at, name)| send(&storm, name, at, random(1000 + at))));
    let ours = join_all(clients.into_iter().enumerate().map(|(at, client)| wander(client, &storm, random(at))));
    let theirs = join_all(stock.into_iter().enumerate().map(|(at, client)| client.wander(&storm, random(2000 + at))));
    let disturbing = disturb(&storm, &cluster.redis, &mut cluster.nodes, random(3000));
    let (sent, mut clients, (mut stock, happened)) = join3(sending, ours, join(theirs, disturbing)).await;
    let total: usize = sent.iter().map(Vec::len).sum();
    let recovered = clients.iter().map(|one| one.client.recovered).chain(stock.iter().map(|one| one.recovered)).sum::<usize>();
    println!("{total} messages, {recovered} recoveries, {happened:?}");
    let refused = join_all(cluster.nodes.iter().map(refused)).await;
    let reading = Instant::now() + READING;
    for (at, one) in clients.iter_mut().enumerate() {
        while lost(&sent, &one.got).next().is_some() && Instant::now() < reading {
            one.read(Instant::now() + Duration::from_millis(50)).await;
        }
        assert_eq!(one.client.renewed, 0, "client {at} got a new socket: {refused:?}");
        check(&format!("client {at}"), &sent, &one.got);
    }
    for (one, transports) in stock.iter_mut().zip(STOCK) {
        while lost(&sent, &one.got).next().is_some() && Instant::now() < reading {
            one.read(Instant::now() + Duration::from_millis(50)).await;
        }
        assert_eq!(one.renewed, 0, "the stock client ({transports:?}) got a new socket: {refused:?}");
        check(&format!("the stock client ({transports:?})"), &sent, &one.got);
    }
    assert!(total > 50 && recovered > CLIENTS);
}

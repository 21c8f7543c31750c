//! Stock clients that send with `retries` while their connections are cut and the nodes are stopped and killed: each message takes effect
//! once, in the order of its sender.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use tests::cluster::Cluster;
use tests::server::Builder;
use tests::stock::{StockSocket, Transports};
use tests::{Server, Stock, TcpProxy};
use tokio::time::sleep;

use crate::helpers::{member, open_chat, user};
use crate::recovery_jitter::{Random, SEED, number_of, seed};

const CLIENTS: usize = 8;
const EACH: usize = 1250;

/// Messages that a client has in its queue.
const QUEUE: usize = 50;

/// The longest time between two disturbances.
const PAUSE_MS: u64 = 700;

/// Sends all messages of a sender.
async fn send(mut client: StockSocket, sender: usize, done: &AtomicUsize) {
    for numbers in (0..EACH).collect::<Vec<_>>().chunks(QUEUE) {
        let mut left = numbers.to_vec();
        while !left.is_empty() {
            let mut acks = Vec::new();
            for number in left {
                let said = json!({"chatId": "c1", "content": format!("{sender} {number}"), "clientId": number.to_string()});
                acks.push((number, client.emit_for_ack("chat:message", said).await));
            }
            left = Vec::new();
            for (number, ack) in acks {
                if client.acked(ack).await != json!({}) {
                    left.push(number);
                }
            }
            if !left.is_empty() {
                // Its socket is a new one.
                assert!(client.ask("chat:join", json!({"chatId": "c1"})).await["error"].is_null());
            }
        }
    }
    done.fetch_add(1, Ordering::SeqCst);
}

/// Cuts connections, and stops and kills nodes, until all senders are done.
async fn disturb(nodes: &mut [Server], proxies: &[TcpProxy], mut random: Random, done: &AtomicUsize) {
    while done.load(Ordering::SeqCst) < CLIENTS {
        sleep(random.millis(PAUSE_MS)).await;
        let (at, fate) = (random.below(nodes.len() as u64) as usize, random.below(6));
        if fate > 1 {
            proxies[random.below(CLIENTS as u64) as usize].redirect_to(nodes[at].address());
            continue;
        }
        let other = nodes[(at + 1) % nodes.len()].address();
        if fate == 0 {
            nodes[at].kill9();
        } else {
            nodes[at].terminate().await;
        }
        proxies.iter().for_each(|proxy| proxy.redirect_to(other));
        nodes[at].start_again().await;
    }
}

/// The senders and numbers of all messages, the oldest first.
async fn stored(server: &Server) -> Vec<(usize, usize)> {
    let mut client = member(server, "u0", "c1").await;
    let (mut all, mut before) = (Vec::new(), Value::Null);
    loop {
        let mut request = json!({"chatId": "c1", "limit": 100});
        if !before.is_null() {
            request["before"] = before;
        }
        let page = client.ask("chat:history", request).await;
        let messages = page["messages"].as_array().expect("messages").clone();
        all.extend(messages.into_iter().filter_map(|message| number_of(&["chat:message".into(), message])));
        before = page["nextBefore"].clone();
        if before.is_null() {
            all.reverse();
            return all;
        }
    }
}

#[tokio::test]
async fn ten_thousand_sends_through_cuts_stops_and_kills_are_ten_thousand_messages() {
    let seed = seed();
    println!("{SEED}={seed}");
    let mut cluster = Cluster::with(2, Builder::without_message_limit).await;
    let names: Vec<String> = (0..CLIENTS).map(|number| format!("u{number}")).collect();
    open_chat(&cluster.nodes[0], "c1", &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let (mut clients, mut proxies) = (Vec::new(), Vec::new());
    for (at, name) in names.iter().enumerate() {
        let proxy = TcpProxy::to(cluster.nodes[at % 2].address()).await;
        let (url, options) = (format!("http://{}", proxy.address()), json!({"retries": 1000, "ackTimeout": 1000}));
        let transports = [Transports::Websocket, Transports::Polling][at / 2 % 2];
        let mut client = Stock::Node.connect_with(&url, "/chat", user(name), transports, options).await.expect("accepted");
        assert!(client.ask("chat:join", json!({"chatId": "c1"})).await["error"].is_null());
        proxies.push(proxy);
        clients.push(client);
    }
    let done = AtomicUsize::new(0);
    let sending = join_all(clients.into_iter().enumerate().map(|(sender, client)| send(client, sender, &done)));
    join(sending, disturb(&mut cluster.nodes, &proxies, Random(seed), &done)).await;
    let all = stored(&cluster.nodes[0]).await;
    assert_eq!(all.len(), CLIENTS * EACH);
    for sender in 0..CLIENTS {
        let numbers: Vec<_> = all.iter().filter(|(of, _)| *of == sender).map(|(_, number)| *number).collect();
        assert_eq!(numbers, (0..EACH).collect::<Vec<_>>(), "sender {sender}");
    }
}

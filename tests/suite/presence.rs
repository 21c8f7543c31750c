//! Clean and broken disconnects in the three namespaces that report them to clients. Must never wait for the default grace
//! period: an event within the deadline did not wait for it.

use serde_json::{Value, json};
use tests::cluster::Cluster;
use tests::server::Builder;
use tests::stock::Transports;
use tests::{Client, Server, Stock, Token, wait};

use crate::helpers::{ask_bare, expect_none_of, user};

/// A namespace with its events for the first device online and the last device offline.
struct Place {
    namespace: &'static str,
    online: &'static str,
    offline: &'static str,
}

const PLACES: [Place; 3] = [
    Place { namespace: "/hub", online: "attendant:online", offline: "attendant:offline" },
    Place { namespace: "/conversations", online: "status:online", offline: "status:offline" },
    Place { namespace: "/", online: "user_online", offline: "user_offline" },
];

/// A token that every namespace here accepts.
pub(crate) fn user_everywhere(id: &str) -> Token {
    user(id).role("ATTENDANT").claim("companyId", "acme")
}

impl Place {
    async fn connect(&self, server: &Server, id: &str) -> Client {
        server.connect(self.namespace, user_everywhere(id)).await
    }

    /// Connects and waits until a watcher has received the online event.
    async fn arrive(&self, server: &Server, id: &str, watcher: &mut Client) -> Client {
        let client = self.connect(server, id).await;
        self.expect(watcher, self.online, id).await;
        client
    }

    async fn watch(&self, server: &Server) -> Client {
        let mut watcher = self.connect(server, "eva").await;
        self.expect(&mut watcher, self.online, "eva").await;
        watcher
    }

    /// Asserts that the next event of this name is about this user.
    async fn expect(&self, watcher: &mut Client, event: &str, id: &str) {
        let change = watcher.next(event).await;
        assert_eq!(who(&change), id, "{event} in {}: {change}", self.namespace);
    }

    async fn expect_no_more(&self, watcher: &mut Client) {
        expect_none_of(watcher, &[self.online, self.offline]).await;
    }
}

fn who(change: &Value) -> &str {
    change["userId"].as_str().or(change["user_id"].as_str()).unwrap_or_default()
}

async fn sockets_are(server: &Server, count: u64) {
    let what = format!("{count} sockets to be left");
    wait::eventually(&what, async || server.get("/socket/health").await.1["connectedSockets"] == count).await;
}

fn grace(builder: Builder, grace: &str) -> Builder {
    builder.env("HUBBUB_PRESENCE__GRACE", grace)
}

#[tokio::test]
async fn a_clean_disconnect_of_the_last_device_is_offline_at_once() {
    let server = Server::dev().start().await;
    for place in &PLACES {
        let mut eva = place.watch(&server).await;
        let phone = place.arrive(&server, "ana", &mut eva).await;
        let laptop = place.connect(&server, "ana").await;
        let other = place.arrive(&server, "bia", &mut eva).await;
        phone.leave().await;
        other.leave().await;
        place.expect(&mut eva, place.offline, "bia").await;
        laptop.leave().await;
        place.expect(&mut eva, place.offline, "ana").await;
        place.expect_no_more(&mut eva).await;
    }
}

#[tokio::test]
async fn a_stock_client_that_disconnects_is_offline_at_once_over_any_transport() {
    let server = Server::dev().start().await;
    let hub = &PLACES[0];
    let mut eva = hub.watch(&server).await;
    // Not python-socketio, which may close the connection before it sends its DISCONNECT.
    for transports in [Transports::Websocket, Transports::Polling, Transports::Upgrade] {
        let mut ana = Stock::Node.connect(&server, hub.namespace, user_everywhere("ana"), transports).await.expect("accepted");
        hub.expect(&mut eva, hub.online, "ana").await;
        ana.disconnect().await;
        hub.expect(&mut eva, hub.offline, "ana").await;
    }
    hub.expect_no_more(&mut eva).await;
}

#[tokio::test]
async fn a_broken_connection_goes_offline_after_the_grace_period() {
    let server = grace(Server::dev(), "2s").start().await;
    for place in &PLACES {
        let mut eva = place.watch(&server).await;
        let ana = place.arrive(&server, "ana", &mut eva).await;
        let bia = place.arrive(&server, "bia", &mut eva).await;
        let carl = place.arrive(&server, "carl", &mut eva).await;
        // The broken connections end before the clean disconnect and are reported after it.
        drop(ana);
        bia.close().await;
        sockets_are(&server, 2).await;
        carl.leave().await;
        place.expect(&mut eva, place.offline, "carl").await;
        let mut others = [eva.next(place.offline).await, eva.next(place.offline).await];
        others.sort_by_key(|change| who(change).to_owned());
        assert_eq!([who(&others[0]), who(&others[1])], ["ana", "bia"]);
        place.expect_no_more(&mut eva).await;
        eva.leave().await;
        sockets_are(&server, 0).await;
    }
}

#[tokio::test]
async fn a_user_who_reconnects_and_then_leaves_is_offline_at_once() {
    let server = Server::dev().start().await;
    for place in &PLACES {
        let mut eva = place.watch(&server).await;
        drop(place.arrive(&server, "ana", &mut eva).await);
        sockets_are(&server, 1).await;
        let back = place.connect(&server, "ana").await;
        let marker = place.arrive(&server, "bia", &mut eva).await;
        back.leave().await;
        place.expect(&mut eva, place.offline, "ana").await;
        marker.leave().await;
        place.expect(&mut eva, place.offline, "bia").await;
        place.expect_no_more(&mut eva).await;
        eva.leave().await;
        sockets_are(&server, 0).await;
    }
}

#[tokio::test]
async fn a_leaving_device_does_not_end_the_grace_period_of_another() {
    let server = grace(Server::dev(), "3s").start().await;
    for place in &PLACES {
        let mut eva = place.watch(&server).await;
        let phone = place.arrive(&server, "ana", &mut eva).await;
        let laptop = place.connect(&server, "ana").await;
        let marker = place.arrive(&server, "bia", &mut eva).await;
        drop(phone);
        sockets_are(&server, 3).await;
        laptop.leave().await;
        sockets_are(&server, 2).await;
        marker.leave().await;
        place.expect(&mut eva, place.offline, "bia").await;
        place.expect(&mut eva, place.offline, "ana").await;
        place.expect_no_more(&mut eva).await;
        eva.leave().await;
        sockets_are(&server, 0).await;
    }
}

#[tokio::test]
async fn a_customers_heartbeat_is_accepted_and_not_broadcast() {
    let server = Server::dev().env("HUBBUB_PRESENCE__AWAY_AFTER", "1s").start().await;
    let mut eva = server.connect("/hub", user_everywhere("eva")).await;
    eva.next("attendant:online").await;
    let mut cal = server.connect("/portal", user("cal")).await;
    assert_eq!(ask_bare(&mut cal, "heartbeat").await, json!({}));
    assert_eq!(cal.ask("heartbeat", Value::Null).await, json!({}));
    // Neither sends a heartbeat; only the attendant's change is sent.
    assert_eq!(who(&eva.next("attendant:away").await), "eva");
    for client in [&mut eva, &mut cal] {
        expect_none_of(client, &["attendant:online", "attendant:away", "attendant:offline", "error"]).await;
    }
}

/// The statuses of an attendant that the nodes have written to Redis.
async fn statuses_of(cluster: &Cluster, id: &str) -> String {
    let keys = cluster.redis.ask("KEYS hubbub:said:presence*attendants*").await;
    let mut statuses = String::new();
    for key in keys.lines().filter(|line| line.ends_with(id)) {
        // Redis accepts control characters in quotes.
        let quoted: String =
            key.chars().map(|c| if c.is_control() { format!("\\x{:02x}", u32::from(c)) } else { c.to_string() }).collect();
        statuses += &cluster.redis.ask(&format!("HVALS \"{quoted}\"")).await;
    }
    statuses
}

#[tokio::test]
async fn devices_on_several_nodes_are_one_user() {
    let cluster = Cluster::of(2).await;
    let [here, there] = &cluster.nodes[..] else { panic!("two nodes") };
    let hub = &PLACES[0];
    let mut eva = hub.watch(here).await;
    let phone = hub.arrive(here, "ana", &mut eva).await;
    let laptop = hub.connect(there, "ana").await;
    wait::eventually("both nodes to report it", async || statuses_of(&cluster, "ana").await.matches("online").count() == 2).await;
    phone.leave().await;
    let marker = hub.arrive(there, "bia", &mut eva).await;
    marker.leave().await;
    hub.expect(&mut eva, hub.offline, "bia").await;
    laptop.leave().await;
    hub.expect(&mut eva, hub.offline, "ana").await;

    // The connection breaks on one node and the user reconnects to the other. A clean disconnect there does not wait for the
    // first node's grace period.
    drop(hub.arrive(here, "ana", &mut eva).await);
    wait::eventually("the node to wait", async || statuses_of(&cluster, "ana").await.contains("online waits")).await;
    let back = hub.connect(there, "ana").await;
    wait::eventually("the other node to report it", async || statuses_of(&cluster, "ana").await.contains("taken")).await;
    back.leave().await;
    hub.expect(&mut eva, hub.offline, "ana").await;
    assert!(!ask_bare(&mut eva, "presence:list").await.to_string().contains("\"ana\""));
    let ana = hub.arrive(here, "ana", &mut eva).await;

    // The grace period of one device continues when the other device leaves on another node.
    let other = hub.connect(there, "ana").await;
    wait::eventually("both nodes to report it", async || statuses_of(&cluster, "ana").await.matches("online").count() == 2).await;
    drop(ana);
    wait::eventually("the node to wait", async || statuses_of(&cluster, "ana").await.contains("online waits")).await;
    other.leave().await;
    wait::eventually("one node to report it", async || statuses_of(&cluster, "ana").await.matches("online").count() == 1).await;
    let marker = hub.arrive(there, "bia", &mut eva).await;
    marker.leave().await;
    hub.expect(&mut eva, hub.offline, "bia").await;
    hub.expect_no_more(&mut eva).await;
    assert!(ask_bare(&mut eva, "presence:list").await.to_string().contains("\"ana\""));
}

//! The shipped configurations of nginx and HAProxy, with the real programs. Must never need more from a client than a stock one
//! does.

use std::net::Ipv4Addr;

use futures_util::future::join_all;
use serde_json::json;
use tests::client::{Auth, Client, ConnectFailure, End};
use tests::packet::Packet;
use tests::polling::Polling;
use tests::proxy::ShippedConfig;
use tests::stock::Transports;
use tests::{Proxy, Server, Stock, StockSocket, wait};
use tokio_tungstenite::tungstenite::http::header::HeaderName;

/// One of two equal nodes.
async fn node() -> Server {
    Server::dev().only(&["chat"]).env("HUBBUB_SHUTDOWN__SPREAD", "300ms").start().await
}

async fn connections(node: &Server) -> u64 {
    node.get("/health").await.1["connections"].as_u64().expect("a number")
}

/// An address of this machine that no other client uses.
fn household(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, n)
}

/// An HTTP client with that address.
fn http_from(address: Ipv4Addr) -> reqwest::Client {
    reqwest::Client::builder().local_address(std::net::IpAddr::from(address)).build().expect("a client")
}

/// Connects a stock client through a proxy and waits for an answer of a node.
async fn stock(stock: Stock, proxy: &Proxy, transports: Transports) -> StockSocket {
    let connected = stock.connect_at(&proxy.url(""), "/", json!({}), transports).await;
    let mut socket = connected.unwrap_or_else(|why| panic!("{stock:?} by {transports:?}: {why}"));
    let answer = socket.ask("nothing:answers:to:this", json!({})).await;
    assert_eq!(answer["error"]["code"], "not_found", "{stock:?} by {transports:?}");
    socket
}

#[test]
fn each_proxy_accepts_its_shipped_configuration() {
    for config in ShippedConfig::ALL {
        let output = config.check();
        let words = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && !words.to_lowercase().contains("warn"), "{config:?}: {words}");
    }
}

#[tokio::test]
async fn stock_clients_open_websockets_through_each_proxy() {
    let (one, two) = (node().await, node().await);
    for config in ShippedConfig::ALL {
        let proxy = config.before(&[&one, &two]).await;
        for client in Stock::ALL {
            stock(client, &proxy, Transports::Websocket).await;
        }
    }
}

#[tokio::test]
async fn stock_clients_poll_and_upgrade_through_sticky_proxies() {
    let (one, two) = (node().await, node().await);
    for config in ShippedConfig::STICKY {
        let proxy = config.before(&[&one, &two]).await;
        for client in Stock::ALL {
            stock(client, &proxy, Transports::Polling).await;
            let mut upgrades = stock(client, &proxy, Transports::Upgrade).await;
            if client == Stock::Node {
                upgrades.upgraded().await;
            }
        }
    }
}

#[tokio::test]
async fn every_request_of_a_polling_client_reaches_the_same_node() {
    for config in ShippedConfig::STICKY {
        let (one, two) = (node().await, node().await);
        let proxy = config.before(&[&one, &two]).await;
        let mut clients = Vec::new();
        while connections(&one).await == 0 || connections(&two).await == 0 {
            let n = u8::try_from(clients.len() + 1).expect("both nodes are chosen for some of 255 addresses");
            let client = Polling::open_at(http_from(household(n)), &proxy.url("")).await;
            assert!(matches!(client.connect("/", None).await, Packet::Connect { .. }));
            clients.push(client);
        }
        for client in &clients {
            assert_eq!(
                client.send("42[\"nothing:answers:to:this\"]".into()).await,
                200,
                "{config:?}: the request reached another node"
            );
        }
    }
}

#[tokio::test]
async fn a_cookie_selects_its_node_from_another_address() {
    let (one, two) = (node().await, node().await);
    let proxy = ShippedConfig::HaproxySticky.before(&[&one, &two]).await;
    let mut cookies = Vec::new();
    for n in 1..=u8::MAX {
        let url = proxy.url("/socket.io/?EIO=4&transport=polling");
        let answer = http_from(household(n)).get(url).send().await.expect("an answer");
        let cookie = answer.headers()["set-cookie"].to_str().expect("text").split(';').next().expect("a pair").to_owned();
        let body = answer.text().await.expect("text");
        let sid = body.split('"').nth(3).expect("a session id").to_owned();
        cookies.push((household(n), cookie, sid));
        if cookies.iter().any(|(_, other, _)| *other != cookies[0].1) {
            break;
        }
    }
    let [(_, cookie, sid), .., (elsewhere, ..)] = &cookies[..] else { panic!("one node has all sessions: {cookies:?}") };
    let url = proxy.url(&format!("/socket.io/?EIO=4&transport=polling&sid={sid}"));
    let post = || http_from(*elsewhere).post(&url).body("40");
    let lost = post().send().await.expect("an answer").status();
    assert_eq!(lost, 400, "that address maps to the other node");
    assert_eq!(post().header("cookie", cookie).send().await.expect("an answer").status(), 200);
}

#[tokio::test]
async fn without_stickiness_polling_is_refused_as_an_unknown_transport() {
    let node = node().await;
    for config in [ShippedConfig::Nginx, ShippedConfig::Haproxy] {
        let proxy = config.before(&[&node]).await;
        let answer = reqwest::get(proxy.url("/socket.io/?EIO=4&transport=polling")).await.expect("an answer");
        assert_eq!(answer.status(), 400);
        assert_eq!(answer.text().await.expect("text"), r#"{"code":0,"message":"Transport unknown"}"#);
    }
}

#[tokio::test]
async fn the_address_limit_sees_the_clients_address() {
    let limited = Server::dev().only(&["chat"]).env("HUBBUB_ADMISSION__ADDRESS_CONNECTIONS", "1");
    let node = limited.env("HUBBUB_ADMISSION__TRUSTED_PROXIES", "[\"127.0.0.1\"]").start().await;
    for (n, config) in (0..).zip(ShippedConfig::ALL) {
        let proxy = config.before(&[&node]).await;
        let (ana, bia) = (household(2 * n), household(2 * n + 1));
        let plain = Auth::from(());
        let claims = Auth::from(()).header(HeaderName::from_static("x-forwarded-for"), "9.9.9.9");
        let _first = Client::open_from(ana, proxy.address(), &plain).await.expect("the first connection of its address");
        for auth in [&plain, &claims] {
            let second = Client::open_from(ana, proxy.address(), auth).await.err();
            assert_eq!(second, Some(ConnectFailure::Http(429)), "{config:?}");
        }
        Client::open_from(bia, proxy.address(), &plain).await.expect("another address");
    }
}

#[tokio::test]
async fn clients_of_a_drained_node_reconnect_to_the_other() {
    for config in ShippedConfig::ALL {
        let (one, two) = (node().await, node().await);
        let proxy = config.before(&[&one, &two]).await;
        let transports = if config.is_sticky() { Transports::Polling } else { Transports::Websocket };
        let mut client = stock(Stock::Node, &proxy, transports).await;
        let (left, other) = if connections(&one).await > 0 { (&one, &two) } else { (&two, &one) };
        left.admin(reqwest::Method::POST, "/admin/drain", Vec::new()).await;
        assert!(client.disconnected().await.contains("transport"), "{config:?}: the disconnect must not prevent a reconnect");
        client.reconnected().await;
        let answers = async || client.ask("nothing:answers:to:this", json!({})).await["error"]["code"] == "not_found";
        wait::eventually("the other node to answer", answers).await;
        for _ in 0..4 {
            let new = Client::connect(proxy.address(), "/", ()).await;
            assert!(new.is_ok(), "{config:?}: a new client reached the drained node: {:?}", new.err());
        }
        assert_eq!(connections(left).await, 0, "{config:?}");
        assert!(connections(other).await > 0, "{config:?}");
    }
}

#[tokio::test]
async fn clients_of_a_killed_node_reconnect_to_the_other() {
    for config in ShippedConfig::ALL {
        let (mut one, mut two) = (node().await, node().await);
        let proxy = config.before(&[&one, &two]).await;
        let transports = if config.is_sticky() { Transports::Upgrade } else { Transports::Websocket };
        let mut client = stock(Stock::Node, &proxy, transports).await;
        if connections(&one).await > 0 {
            one.kill9()
        } else {
            two.kill9()
        }
        client.disconnected().await;
        client.reconnected().await;
        assert_eq!(client.ask("nothing:answers:to:this", json!({})).await["error"]["code"], "not_found", "{config:?}");
    }
}

#[tokio::test]
async fn a_silent_websocket_stays_open_as_long_as_pings_arrive() {
    let often = Server::dev().only(&["chat"]).env("HUBBUB_GATEWAY__PING_INTERVAL", "300ms").start().await;
    let seldom = Server::dev().only(&["chat"]).env("HUBBUB_GATEWAY__PING_INTERVAL", "20s").start().await;
    let (often, seldom) = (&often, &seldom);
    join_all(ShippedConfig::ALL.map(async |config| {
        let short = [("75s", "4s")];
        let (asked, forgotten) = (config.changed(&[often], &short).await, config.changed(&[seldom], &short).await);
        let mut stays = Client::connect(asked.address(), "/", ()).await.expect("accepted");
        let mut goes = Client::connect(forgotten.address(), "/", ()).await.expect("accepted");
        // Six seconds: half again as long as the proxy's timeout.
        stays.pinged(20).await;
        assert_eq!(goes.ended().await, End::Closed, "{config:?}: the proxy's timeout is longer than expected");
    }))
    .await;
}

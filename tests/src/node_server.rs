//! A Socket.IO server in Node with the stock Redis adapter and emitter, which a product migrates from. Must never outlive its
//! value.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::node::clients;
use crate::process::JsonLines;
use crate::redis::Redis;
use crate::wait;
use crate::{Auth, Client};

/// The namespaces that it opens.
const NAMESPACES: [&str; 2] = ["/", "/chat"];

/// A running server.
pub struct NodeServer {
    process: JsonLines,
    address: SocketAddr,
}

impl NodeServer {
    pub async fn start(redis: &Redis) -> Self {
        let mut process = JsonLines::start(Path::new("node"), &clients().join("server.mjs"));
        process.send(&json!({"do": "start", "redis": redis.url(), "namespaces": NAMESPACES})).await;
        let said = process.receive(wait::DEADLINE).await.expect("the server starts");
        let port = said["port"].as_u64().and_then(|port| port.try_into().ok()).unwrap_or_else(|| panic!("no port: {said}"));
        Self { process, address: (Ipv4Addr::LOCALHOST, port).into() }
    }

    /// Starts it beside the nodes of a cluster and waits until all have subscribed.
    pub async fn beside(cluster: &Cluster) -> Self {
        let node = Self::start(&cluster.redis).await;
        node.wait_for_subscribers(&cluster.redis, cluster.nodes.len() + 1).await;
        node
    }

    /// Waits until this many servers have subscribed to requests in each namespace, which is the last thing each of them does.
    pub async fn wait_for_subscribers(&self, redis: &Redis, servers: usize) {
        for namespace in NAMESPACES {
            wait::eventually("all servers to subscribe", async || {
                let asked = redis.ask(&format!("PUBSUB NUMSUB socket.io-request#{namespace}#")).await;
                asked.contains(&format!(":{servers}\r\n"))
            })
            .await;
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Runs a line of JavaScript, in which `io` is the server, `emitter` the emitter and `redis` a client. Returns its result.
    pub async fn run(&mut self, code: &str) -> Value {
        let mut said = self.try_run(code).await;
        assert!(said.get("done").is_some(), "{code}: {said}");
        said["done"].take()
    }

    /// Like [`run`](Self::run), but returns `{done}` or `{failed}`.
    pub async fn try_run(&mut self, code: &str) -> Value {
        self.process.send(&json!({"do": "run", "code": code})).await;
        self.process.receive(wait::DEADLINE).await.unwrap_or_else(|| panic!("{code} did not finish"))
    }

    /// Connects a client that joins these rooms.
    pub async fn connect(&self, namespace: &str, rooms: &[&str]) -> Client {
        let connected = Client::connect(self.address, namespace, Auth::from(json!({ "rooms": rooms }))).await;
        connected.unwrap_or_else(|failure| panic!("{namespace} refused: {failure:?}"))
    }
}

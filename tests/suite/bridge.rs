//! Hubbub beside Socket.IO servers in Node that use the stock packages: each message crosses once. Must never write Node's wire
//! protocol by hand, except for invalid messages.

use serde_json::json;
use tests::client::End;
use tests::cluster::Cluster;
use tests::node_server::NodeServer;
use tests::stock::Transports;
use tests::{Client, Stock, wait};

use crate::helpers::{member, open_chat, say, user};

/// Number of events in a row. A duplicate would arrive before the next one.
const ROW: u64 = 20;

/// Starts nodes and a Node server, with a chat of Ana and Bia.
async fn beside(nodes: usize) -> (Cluster, NodeServer) {
    let cluster = Cluster::with(nodes, |node| node.without_message_limit().bridged()).await;
    open_chat(&cluster.nodes[0], "c1", &["ana", "bia"]).await;
    let node = NodeServer::beside(&cluster).await;
    (cluster, node)
}

/// Asserts that the client has received each event of a row once.
async fn row(client: &mut Client, event: &str) {
    for n in 0..ROW {
        assert_eq!(client.next(event).await, n, "{event}");
    }
    client.expect_none(event).await;
}

/// Sends a row of an event with `sender`, such as `io.of('/chat').to('r')`.
async fn send_row(node: &mut NodeServer, sender: &str, event: &str) {
    node.run(&format!("for (let n = 0; n < {ROW}; n++) {sender}.emit('{event}', n)")).await;
}

async fn plugin_messages_reach_node_clients_once(nodes: usize) {
    let (cluster, node) = beside(nodes).await;
    let mut ana = member(&cluster.nodes[0], "ana", "c1").await;
    let mut bia = member(&cluster.nodes[nodes - 1], "bia", "c1").await;
    let auth = json!({"rooms": ["chat:c1"]});
    let mut stock = Stock::Node.connect_at(&node.url(), "/chat", auth, Transports::Websocket).await.unwrap();
    let mut inside = node.connect("/chat", &["chat:c1"]).await;
    let mut outside = node.connect("/chat", &["chat:c2"]).await;
    for n in 0..ROW {
        say(&mut ana, "c1", &n.to_string()).await;
    }
    for n in 0..ROW {
        let content = json!(n.to_string());
        assert_eq!(stock.next("chat:message").await["content"], content);
        assert_eq!(inside.next("chat:message").await["content"], content);
        assert_eq!(bia.next("chat:message").await["content"], content);
    }
    for client in [&mut inside, &mut bia, &mut outside] {
        client.expect_none("chat:message").await;
    }
}

#[tokio::test]
async fn a_plugins_room_message_reaches_clients_of_a_node_server_once() {
    plugin_messages_reach_node_clients_once(1).await;
}

#[tokio::test]
async fn a_plugins_room_message_from_two_nodes_reaches_them_once() {
    plugin_messages_reach_node_clients_once(2).await;
}

#[tokio::test]
async fn a_node_servers_message_reaches_clients_of_every_node_once() {
    let (cluster, mut node) = beside(2).await;
    let mut ana = member(&cluster.nodes[0], "ana", "c1").await;
    let mut bia = member(&cluster.nodes[1], "bia", "c1").await;
    let mut eva = cluster.nodes[1].connect("/chat", user("eva")).await;
    send_row(&mut node, "io.of('/chat').to('chat:c1')", "to:room").await;
    send_row(&mut node, "io.of('/chat').to(['chat:c1', 'chat:c2', 'user:eva'])", "to:some").await;
    send_row(&mut node, "io.of('/chat').volatile", "to:all").await;
    send_row(&mut node, "io.of('/chat').to('user:eva')", "to:user").await;
    send_row(&mut node, "io.of('/chat').except('chat:c1')", "to:others").await;
    send_row(&mut node, "io.of('/chat').to('chat:c1').except('user:bia')", "to:ana").await;
    for event in ["to:some", "to:all"] {
        for client in [&mut ana, &mut bia, &mut eva] {
            row(client, event).await;
        }
    }
    row(&mut ana, "to:room").await;
    row(&mut bia, "to:room").await;
    row(&mut eva, "to:user").await;
    row(&mut eva, "to:others").await;
    row(&mut ana, "to:ana").await;
    for event in ["to:user", "to:others", "to:ana"] {
        bia.expect_none(event).await;
    }
    eva.expect_none("to:room").await;
}

#[tokio::test]
async fn a_node_clients_message_arrives_here_unchanged() {
    let (cluster, node) = beside(1).await;
    let mut ana = member(&cluster.nodes[0], "ana", "c1").await;
    let mut caio = node.connect("/chat", &["chat:c1"]).await;
    let payload = json!({"text": "olá \"\u{1f600}\"", "n": [0, -1, 1.5, 9007199254740991_u64, null, true], "deep": {"er": {}}});
    let ack = caio.emit_for_ack(&json!(["emit", "chat:c1", ["said", payload]])).await;
    caio.acked(ack).await;
    assert_eq!(ana.next("said").await, payload);
    caio.expect_none("said").await;
}

#[tokio::test]
async fn the_api_reaches_a_users_sockets_on_a_node_server() {
    let (cluster, node) = beside(2).await;
    let mut ana = node.connect("/chat", &["user:ana"]).await;
    let mut bia = node.connect("/chat", &["user:bia"]).await;
    for n in 0..ROW {
        cluster.nodes[0].emit(&json!({"namespace": "/chat", "user": "ana", "event": "ping", "args": [n]})).await;
    }
    row(&mut ana, "ping").await;
    bia.expect_none("ping").await;
}

#[tokio::test]
async fn a_plugins_join_of_a_user_includes_sockets_on_a_node_server() {
    let (cluster, mut node) = beside(1).await;
    let mut there = node.connect("/", &["user:ana"]).await;
    let mut here = cluster.nodes[0].connect("/", user("ana")).await;
    here.ask("notifications:subscribe", json!({"channelId": "news"})).await;
    wait::eventually("the room to be joined", async || {
        node.run("return io.of('/').adapter.rooms.has('channel:news')").await == json!(true)
    })
    .await;
    send_row(&mut node, "io.to('channel:news')", "headline").await;
    row(&mut there, "headline").await;
    row(&mut here, "headline").await;
}

#[tokio::test]
async fn a_node_server_joins_fetches_and_disconnects_sockets_here() {
    let (cluster, mut node) = beside(2).await;
    let mut ana = member(&cluster.nodes[0], "ana", "c1").await;
    let mut bia = member(&cluster.nodes[1], "bia", "c1").await;
    node.run("io.of('/chat').in(['user:ana', 'user:bia']).socketsJoin(['vip', 'vip2'])").await;
    node.run("io.of('/chat').in('user:bia').socketsLeave('vip2')").await;
    // The host does not allow joining its own rooms.
    node.run("io.of('/chat').in('user:ana').socketsJoin('user:bia')").await;
    let fetched = node.run(FETCH).await;
    let expected = json!([
        {"user": {"userId": "ana"}, "rooms": ["chat:c1", "user:ana", "vip", "vip2"], "auth": {}},
        {"user": {"userId": "bia"}, "rooms": ["chat:c1", "user:bia", "vip"], "auth": {}},
    ]);
    assert_eq!(fetched, expected);
    let rooms = node.run("return [...await io.of('/chat').adapter.allRooms()].sort()").await;
    assert_eq!(rooms, json!(["chat:c1", "vip", "vip2"]));

    node.run("for (const s of await io.of('/chat').in('vip2').fetchSockets()) { s.emit('direct', 1); s.join('alone'); }").await;
    send_row(&mut node, "io.of('/chat').to('alone')", "to:alone").await;
    assert_eq!(ana.next("direct").await, 1);
    row(&mut ana, "to:alone").await;
    for event in ["direct", "to:alone"] {
        bia.expect_none(event).await;
    }

    node.run("io.of('/chat').in('vip2').disconnectSockets()").await;
    assert_eq!(ana.ended().await, End::Disconnected);
    node.run("io.of('/chat').in('vip').disconnectSockets(true)").await;
    assert_eq!(bia.ended().await, End::Disconnected);
}

/// The sockets of the room `vip` with their users and rooms, without each socket's own room.
const FETCH: &str = "
    const fetched = await io.of('/chat').in('vip').fetchSockets();
    const shown = fetched.map(({ id, data, rooms, handshake }) =>
        ({ user: data, rooms: [...rooms].filter((room) => room !== id).sort(), auth: handshake.auth }));
    return shown.sort((a, b) => a.user.userId.localeCompare(b.user.userId));
";

#[tokio::test]
async fn the_redis_emitter_reaches_clients_here() {
    let (cluster, mut node) = beside(2).await;
    let mut ana = member(&cluster.nodes[0], "ana", "c1").await;
    let mut bia = member(&cluster.nodes[1], "bia", "c1").await;
    send_row(&mut node, "emitter.of('/chat').to('chat:c1')", "to:room").await;
    send_row(&mut node, "emitter.of('/chat').to('user:bia')", "to:user").await;
    send_row(&mut node, "emitter.of('/chat').except('user:bia')", "to:all").await;
    node.run("emitter.of('/chat').in('user:ana').socketsJoin('vip')").await;
    send_row(&mut node, "emitter.of('/chat').to('vip')", "to:vip").await;
    row(&mut ana, "to:room").await;
    row(&mut bia, "to:room").await;
    row(&mut bia, "to:user").await;
    row(&mut ana, "to:all").await;
    row(&mut ana, "to:vip").await;
    for event in ["to:all", "to:vip"] {
        bia.expect_none(event).await;
    }
    node.run("emitter.of('/chat').in('vip').disconnectSockets()").await;
    assert_eq!(ana.ended().await, End::Disconnected);
}

#[tokio::test]
async fn a_node_server_receives_acks_of_clients_here() {
    let (cluster, mut node) = beside(2).await;
    let mut ana = member(&cluster.nodes[0], "ana", "c1").await;
    let mut bia = member(&cluster.nodes[1], "bia", "c1").await;
    let ask = "return (await io.of('/chat').to('chat:c1').timeout(15000).emitWithAck('who', 1)).map(JSON.stringify).sort()";
    let (answers, ..) = tokio::join!(node.run(ask), ana.answer("who", json!("ana")), bia.answer("who", json!({"is": "bia"})));
    assert_eq!(answers, json!([r#""ana""#, r#"{"is":"bia"}"#]));
}

#[tokio::test]
async fn an_unreadable_bridge_message_is_counted_and_ignored() {
    let cluster = Cluster::with(1, |node| node.without_message_limit().bridged()).await;
    let mut ana = cluster.nodes[0].connect("/chat", user("ana")).await;
    const EVENTS: &str = "socket.io#/chat#";
    const REQUESTS: &str = "socket.io-request#/chat#";
    let large = vec![0xc0; (1 << 20) + 1];
    // Node's own servers crash on some of these, so none is started yet.
    let bad: [(&str, &[u8]); 8] = [
        (EVENTS, &[0xc1, 0xff, 0x00]),
        (EVENTS, b"no MessagePack"),
        (EVENTS, b""),
        (EVENTS, &large),
        (REQUESTS, b"{\"type\":"),
        (REQUESTS, b"{\"type\":77}"),
        (REQUESTS, b"{\"type\":2,\"rooms\":[\"vip\"]}"),
        (REQUESTS, b"{\"type\":2,\"opts\":{\"rooms\":[]},\"rooms\":[\"user:bia\"]}"),
    ];
    for (channel, message) in bad {
        cluster.redis.publish(channel, message).await;
    }
    refused(&cluster, bad.len()).await;
    let mut node = NodeServer::beside(&cluster).await;
    node.run("io.of('/chat').emit('binary', Buffer.from([1, 2, 3]))").await;
    send_row(&mut node, "io.of('/chat')", "after").await;
    row(&mut ana, "after").await;
    ana.expect_none("binary").await;
    refused(&cluster, bad.len() + 1).await;
}

/// Waits until the first node has refused this many messages from Node's servers, and not more.
async fn refused(cluster: &Cluster, messages: usize) {
    wait::eventually("messages to be refused", async || {
        let refused = cluster.nodes[0].metrics().await.get("hubbub_bridge_messages_refused_total", &[]).unwrap_or(0.0);
        assert!(refused <= messages as f64, "{refused} refused, expected {messages}");
        refused == messages as f64
    })
    .await;
}

#[tokio::test]
async fn a_request_over_the_answer_limit_is_refused_and_counted() {
    let cluster = Cluster::with(1, |node| node.without_message_limit().bridged().env("HUBBUB_BRIDGE__ANSWERS", "1")).await;
    let mut node = NodeServer::beside(&cluster).await;
    let mut ana = cluster.nodes[0].connect("/chat", user("ana")).await;
    let _bia = cluster.nodes[0].connect("/chat", user("bia")).await;
    let ids = "return (await io.of('/chat').in('user:ana').fetchSockets()).length";
    assert_eq!(node.run(ids).await, 1);
    let ask = "return io.of('/chat').in('user:ana').timeout(15000).emitWithAck('who')";
    let (answers, _) = tokio::join!(node.run(ask), ana.answer("who", json!("ana")));
    assert_eq!(answers, json!(["ana"]));
    refused(&cluster, 0).await;
    node.run("io.of('/chat').fetchSockets().catch(() => {})").await;
    refused(&cluster, 1).await;
    node.run("io.of('/chat').timeout(100).emit('who', () => {})").await;
    refused(&cluster, 2).await;
    ana.expect_none("who").await;
}

#[tokio::test]
async fn while_redis_is_down_only_node_servers_miss_messages() {
    let (mut cluster, mut node) = beside(1).await;
    let mut ana = member(&cluster.nodes[0], "ana", "c1").await;
    let mut bia = member(&cluster.nodes[0], "bia", "c1").await;
    let mut caio = node.connect("/chat", &["chat:c1"]).await;
    cluster.redis.stop();
    cluster.nodes[0].logged("this node is on its own").await;
    say(&mut ana, "c1", "alone").await;
    assert_eq!(bia.next("chat:message").await["content"], json!("alone"));
    let unsent = cluster.nodes[0].metrics().await.get("hubbub_bridge_messages_unsent_total", &[]);
    assert_eq!(unsent, Some(1.0));

    cluster.redis.start_again().await;
    node.wait_for_subscribers(&cluster.redis, 2).await;
    wait::eventually("messages to reach the Node server again", async || {
        say(&mut ana, "c1", "together").await;
        caio.received("chat:message").await.is_some_and(|received| received["content"] == json!("together"))
    })
    .await;
    send_row(&mut node, "io.of('/chat').to('chat:c1')", "back").await;
    row(&mut bia, "back").await;
}

#[tokio::test]
async fn only_configured_namespaces_are_bridged() {
    let cluster =
        Cluster::with(1, |node| node.without_message_limit().bridged().env("HUBBUB_BRIDGE__NAMESPACES", r#"["/chat"]"#)).await;
    let mut node = NodeServer::start(&cluster.redis).await;
    wait::eventually("the chat namespace to be bridged", async || {
        cluster.redis.ask("PUBSUB NUMSUB socket.io-request#/chat#").await.contains(":2\r\n")
    })
    .await;
    assert!(cluster.redis.ask("PUBSUB NUMSUB socket.io-request#/#").await.contains(":1\r\n"));
    let mut visitor = cluster.nodes[0].connect("/", user("ana")).await;
    let mut ana = cluster.nodes[0].connect("/chat", user("ana")).await;
    node.run("io.emit('to:all', 0)").await;
    send_row(&mut node, "io.of('/chat')", "to:all").await;
    row(&mut ana, "to:all").await;
    visitor.expect_none("to:all").await;
}

#[tokio::test]
async fn the_bridge_is_off_by_default() {
    let cluster = Cluster::with(2, |node| node.without_message_limit()).await;
    open_chat(&cluster.nodes[0], "c1", &["ana"]).await;
    let mut ana = member(&cluster.nodes[0], "ana", "c1").await;
    say(&mut ana, "c1", "hello").await;
    assert_eq!(cluster.redis.ask("PUBSUB CHANNELS socket.io*").await, "*0\r\n+OK\r\n");
    assert_eq!(cluster.redis.ask("PUBSUB NUMPAT").await, ":0\r\n+OK\r\n");
    let metrics = cluster.nodes[0].metrics().await;
    assert!(!metrics.names().iter().any(|name| name.contains("bridge")), "{:?}", metrics.names());
}

#[tokio::test]
async fn a_bridge_join_over_the_room_limit_is_refused_and_counted() {
    let cluster = Cluster::with(1, |node| node.without_message_limit().bridged().env("HUBBUB_GATEWAY__SOCKET_ROOMS", "1")).await;
    let mut node = NodeServer::beside(&cluster).await;
    let mut ana = cluster.nodes[0].connect("/chat", user("ana")).await;
    node.run("io.of('/chat').socketsJoin(['first', 'second'])").await;
    send_row(&mut node, "io.of('/chat').to('second')", "to:second").await;
    send_row(&mut node, "io.of('/chat').to('first')", "to:first").await;
    row(&mut ana, "to:first").await;
    ana.expect_none("to:second").await;
    assert_eq!(cluster.nodes[0].metrics().await.get("hubbub_bridge_joins_refused_total", &[]), Some(1.0));
}

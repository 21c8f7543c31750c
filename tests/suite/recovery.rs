//! Clients that lose their connection for a moment: the same socket again, in the same rooms, with what they missed.

use serde_json::{Value, json};
use tests::client::ConnectFailure;
use tests::stock::{StockSocket, Transports};
use tests::{Client, Server, Stock, TcpProxy, Token, wait};

use crate::helpers::{join, open_chat, user};

const MANY: usize = 40;

/// A server with a chat, and a client in it that sends.
async fn chat(server: &Server) -> Client {
    open_chat(server, "c1", &["ana", "bia"]).await;
    let mut bia = server.connect("/chat", user("bia")).await;
    join(&mut bia, "c1").await;
    bia
}

async fn metric(server: &Server, name: &str) -> f64 {
    server.metrics().await.get(name, &[]).unwrap_or_default()
}

async fn say(client: &mut Client, content: &str) {
    assert_eq!(client.ask("chat:message", json!({"chatId": "c1", "content": content})).await, json!({}));
}

/// A stock client in the chat, behind a proxy.
async fn behind(proxy: &TcpProxy, transports: Transports) -> StockSocket {
    let url = format!("http://{}", proxy.address());
    let mut ana = Stock::Node.connect_at(&url, "/chat", user("ana"), transports).await.expect("accepted");
    assert!(ana.ask("chat:join", json!({"chatId": "c1"})).await["error"].is_null());
    ana
}

async fn expect(client: &mut StockSocket, contents: &[&str]) {
    for content in contents {
        assert_eq!(client.next("chat:message").await["content"], *content);
    }
}

#[tokio::test]
async fn a_stock_client_gets_what_it_missed_in_order() {
    let server = Server::dev().without_message_limit().single_node().start().await;
    let mut bia = chat(&server).await;
    for transports in [Transports::Websocket, Transports::Polling, Transports::Upgrade] {
        let proxy = TcpProxy::to(server.address()).await;
        let mut ana = behind(&proxy, transports).await;
        say(&mut bia, "one").await;
        expect(&mut ana, &["one"]).await;
        proxy.cut();
        ana.disconnected().await;
        let missed: Vec<String> = (0..MANY).map(|number| format!("missed {number}")).collect();
        for content in &missed {
            say(&mut bia, content).await;
        }
        proxy.redirect_to(server.address());
        assert_eq!(ana.back().await, (ana.id().to_owned(), true), "{transports:?}");
        for content in &missed {
            expect(&mut ana, &[content]).await;
        }
        // It is in its room as before, in both directions.
        assert_eq!(ana.ask("chat:message", json!({"chatId": "c1", "content": "back"})).await, json!({}));
        expect(&mut ana, &["back"]).await;
        ana.expect_no_event("chat:message");
    }
    assert_eq!(metric(&server, "hubbub_recovery_events_total").await, 3.0 * MANY as f64);
}

#[tokio::test]
async fn a_client_that_received_nothing_yet_gets_all_of_its_session() {
    let server = Server::dev().without_message_limit().single_node().start().await;
    let mut bia = chat(&server).await;
    say(&mut bia, "before it came").await;
    let proxy = TcpProxy::to(server.address()).await;
    let mut ana = behind(&proxy, Transports::Websocket).await;
    proxy.cut();
    ana.disconnected().await;
    say(&mut bia, "first").await;
    proxy.redirect_to(server.address());
    assert_eq!(ana.back().await, (ana.id().to_owned(), true));
    expect(&mut ana, &["first"]).await;
    ana.expect_no_event("chat:message");
}

#[tokio::test]
async fn a_client_that_is_cut_again_and_again_misses_nothing() {
    let server = Server::dev().without_message_limit().single_node().start().await;
    let mut bia = chat(&server).await;
    let proxy = TcpProxy::to(server.address()).await;
    let mut ana = behind(&proxy, Transports::Websocket).await;
    let mut sent = Vec::new();
    for round in 0..10 {
        for number in 0..5 {
            sent.push(format!("{round} {number}"));
            say(&mut bia, sent.last().expect("it was just added")).await;
            if number == round % 5 {
                // New connections go through.
                proxy.redirect_to(server.address());
            }
        }
        ana.disconnected().await;
        assert_eq!(ana.back().await, (ana.id().to_owned(), true), "round {round}");
    }
    for content in &sent {
        expect(&mut ana, &[content]).await;
    }
    ana.expect_no_event("chat:message");
}

/// Connects with what a client says that comes back.
async fn come_back(server: &Server, token: Token, pid: &str, offset: Option<&str>) -> Client {
    let auth = json!({"token": token.sign(), "pid": pid, "offset": offset});
    Client::connect(server.address(), "/chat", auth).await.expect("accepted")
}

/// A client in the chat that has received one message: its public id, its private id and its offset.
async fn received_one(server: &Server, bia: &mut Client) -> (Client, String, String, String) {
    let mut ana = server.connect("/chat", user("ana")).await;
    join(&mut ana, "c1").await;
    say(bia, "one").await;
    let args = ana.next_args("chat:message").await;
    let offset = args[2].as_str().expect("an offset is a text").to_owned();
    let (sid, pid) = (ana.sid().to_owned(), ana.pid().expect("it may come back").to_owned());
    (ana, sid, pid, offset)
}

#[tokio::test]
async fn a_socket_whose_connection_counts_as_open_is_taken_over() {
    let server = Server::dev().without_message_limit().single_node().start().await;
    let mut bia = chat(&server).await;
    let (mut old, sid, pid, offset) = received_one(&server, &mut bia).await;
    let mut ana = come_back(&server, user("ana"), &pid, Some(&offset)).await;
    assert_eq!((ana.sid(), ana.pid()), (&*sid, Some(&*pid)));
    old.ended().await;
    say(&mut bia, "two").await;
    assert_eq!(ana.next("chat:message").await["content"], "two");
}

#[tokio::test]
async fn what_a_client_says_wrongly_gives_it_a_new_socket() {
    let server = Server::dev().without_message_limit().single_node().start().await;
    let mut bia = chat(&server).await;
    let (old, sid, pid, offset) = received_one(&server, &mut bia).await;
    drop(old);
    let far = format!("{}.ffffff", offset.split('.').next().unwrap_or_default());
    for (token, pid, offset, reason) in [
        (user("bia"), &*pid, &*offset, "other_user"),
        (user("ana"), &*pid, "nonsense", "offset"),
        (user("ana"), &*pid, &*far, "offset"),
        (user("ana"), "AAAAAAAAAAAAAAAAAAAAAA", &*offset, "unknown"),
    ] {
        let before = refused(&server, reason).await;
        let mut other = come_back(&server, token, pid, Some(offset)).await;
        assert_ne!((other.sid(), other.pid()), (&*sid, Some(pid)), "{reason}");
        other.expect_none("chat:message").await;
        assert_eq!(refused(&server, reason).await, before + 1.0, "{reason}");
    }
    assert_eq!(come_back(&server, user("ana"), &pid, Some(&offset)).await.sid(), sid, "its own client comes back");
}

async fn refused(server: &Server, reason: &str) -> f64 {
    server.metrics().await.get("hubbub_recoveries_refused_total", &[("reason", reason)]).unwrap_or_default()
}

#[tokio::test]
async fn a_client_that_left_on_purpose_does_not_come_back() {
    let server = Server::dev().without_message_limit().single_node().start().await;
    let mut bia = chat(&server).await;
    let (mut old, sid, pid, offset) = received_one(&server, &mut bia).await;
    old.send_raw("41/chat,").await;
    wait::eventually("the socket to be gone", async || metric(&server, "hubbub_sockets").await == 1.0).await;
    assert_ne!(come_back(&server, user("ana"), &pid, Some(&offset)).await.sid(), sid);
}

#[tokio::test]
async fn the_window_ends() {
    let server = Server::dev().env("HUBBUB_RECOVERY__WINDOW", "200ms").without_message_limit().single_node().start().await;
    let mut bia = chat(&server).await;
    let (old, sid, pid, offset) = received_one(&server, &mut bia).await;
    drop(old);
    let away = async || metric(&server, "hubbub_recovery_sockets_away").await;
    wait::eventually("the window to end", async || metric(&server, "hubbub_sockets").await == 1.0 && away().await == 0.0).await;
    assert_ne!(come_back(&server, user("ana"), &pid, Some(&offset)).await.sid(), sid);
}

#[tokio::test]
async fn a_client_that_missed_more_than_the_log_holds_gets_a_new_socket() {
    let server = Server::dev().env("HUBBUB_RECOVERY__BYTES", "5000").without_message_limit().single_node().start().await;
    let mut bia = chat(&server).await;
    let (old, sid, pid, offset) = received_one(&server, &mut bia).await;
    drop(old);
    for number in 0..MANY {
        say(&mut bia, &format!("missed {number}")).await;
    }
    let bytes = metric(&server, "hubbub_recovery_log_bytes").await;
    assert!((2000.0..6000.0).contains(&bytes), "{bytes}");
    assert_ne!(come_back(&server, user("ana"), &pid, Some(&offset)).await.sid(), sid);
    assert_eq!(refused(&server, "log").await, 1.0);
}

#[tokio::test]
async fn sockets_past_the_limit_end_with_the_longest_away_first() {
    let server = Server::dev().env("HUBBUB_RECOVERY__SOCKETS", "1").without_message_limit().single_node().start().await;
    let mut bia = chat(&server).await;
    let (first, sid, pid, offset) = received_one(&server, &mut bia).await;
    let (second, second_sid, second_pid, second_offset) = received_one(&server, &mut bia).await;
    for (client, left) in [(first, 2.0), (second, 1.0)] {
        drop(client);
        wait::eventually("it to be away", async || metric(&server, "hubbub_sockets").await == left).await;
    }
    let other = come_back(&server, user("ana"), &pid, Some(&offset)).await;
    assert_ne!(other.sid(), sid);
    assert_eq!(come_back(&server, user("ana"), &second_pid, Some(&second_offset)).await.sid(), second_sid);
}

#[tokio::test]
async fn without_recovery_events_are_as_before() {
    let off = Server::dev().env("HUBBUB_RECOVERY__WINDOW", "0s").without_message_limit().single_node().start().await;
    // Off in a namespace, also by a plugin that takes part in it.
    let door = r#"{"/chat" = {recovery = false}}"#;
    let door = Server::dev().env("HUBBUB_PLUGINS__CHAT__DOORS", door).without_message_limit().single_node().start().await;
    let on = Server::dev().without_message_limit().single_node().start().await;
    for (server, auth) in [(&off, json!({})), (&door, json!({})), (&on, json!({"recovery": 0}))] {
        let mut bia = chat(server).await;
        let mut auth = auth;
        auth["token"] = user("ana").sign().into();
        let mut ana = Client::connect(server.address(), "/chat", auth).await.expect("accepted");
        assert_eq!(ana.pid(), None);
        join(&mut ana, "c1").await;
        say(&mut bia, "one").await;
        assert_eq!(ana.next_args("chat:message").await.len(), 2);
    }
}

#[tokio::test]
async fn handlers_of_python_get_one_argument_as_before() {
    let server = Server::dev().without_message_limit().single_node().start().await;
    let mut bia = chat(&server).await;
    for transports in [Transports::Websocket, Transports::Polling, Transports::Upgrade] {
        let mut ana = Stock::Python.connect(&server, "/chat", user("ana"), transports).await.expect("accepted");
        assert!(ana.ask("chat:join", json!({"chatId": "c1"})).await["error"].is_null());
        say(&mut bia, "one").await;
        assert_eq!(ana.next_args("chat:message").await.len(), 2, "its name and one argument, over {transports:?}");
    }
}

#[tokio::test]
async fn a_token_that_is_refused_refuses_the_connect() {
    let server = Server::dev().without_message_limit().single_node().start().await;
    let mut bia = chat(&server).await;
    let (old, sid, pid, offset) = received_one(&server, &mut bia).await;
    drop(old);
    let auth = json!({"token": "forged", "pid": pid, "offset": offset});
    let refused = Client::connect(server.address(), "/chat", auth).await.err();
    assert_eq!(refused, Some(ConnectFailure::Refused("Invalid token".to_owned())));
    assert_eq!(come_back(&server, user("ana"), &pid, Some(&offset)).await.sid(), sid);
}

#[tokio::test]
async fn what_is_published_to_a_user_who_is_away_arrives() {
    let server = Server::dev().without_message_limit().single_node().start().await;
    let mut bia = chat(&server).await;
    let (old, sid, pid, offset) = received_one(&server, &mut bia).await;
    drop(old);
    wait::eventually("it to be away", async || metric(&server, "hubbub_sockets").await == 1.0).await;
    for (key, value) in [("user", "ana"), ("user", "bia"), ("room", "chat:c1"), ("room", "chat:c2")] {
        server.emit(&json!({"namespace": "/chat", key: value, "event": "news", "args": [value]})).await;
    }
    let mut ana = come_back(&server, user("ana"), &pid, Some(&offset)).await;
    assert_eq!(ana.sid(), sid);
    let seen: Vec<Value> = vec![ana.next("news").await, ana.next("news").await];
    assert_eq!(seen, ["ana", "chat:c1"]);
    ana.expect_none("news").await;
}

#[tokio::test]
async fn a_restart_is_a_lost_connection_like_any_other() {
    let mut server = Server::dev().without_message_limit().single_node().start().await;
    let mut bia = chat(&server).await;
    let (away, sid, pid, offset) = received_one(&server, &mut bia).await;
    drop(away);
    say(&mut bia, "two").await;
    let mut stock = Stock::Node.connect(&server, "/chat", user("ana"), Transports::Websocket).await.expect("accepted");
    assert!(stock.ask("chat:join", json!({"chatId": "c1"})).await["error"].is_null());
    server.restart().await;
    assert_eq!(stock.back().await, (stock.id().to_owned(), true), "it was connected at the stop");
    let mut bia = server.connect("/chat", user("bia")).await;
    join(&mut bia, "c1").await;
    say(&mut bia, "three").await;
    expect(&mut stock, &["three"]).await;
    let mut ana = come_back(&server, user("ana"), &pid, Some(&offset)).await;
    assert_eq!(ana.sid(), sid, "it was away at the stop");
    for content in ["two", "three"] {
        assert_eq!(ana.next("chat:message").await["content"], content);
    }
}

#[tokio::test]
async fn a_killed_server_brings_no_socket_back() {
    let mut server = Server::dev().without_message_limit().single_node().start().await;
    let mut bia = chat(&server).await;
    let (_ana, sid, pid, offset) = received_one(&server, &mut bia).await;
    server.restart().await;
    server.kill9();
    server.start_again().await;
    assert_ne!(come_back(&server, user("ana"), &pid, Some(&offset)).await.sid(), sid, "what was stored holds once");
}

#[tokio::test]
async fn clients_that_come_back_one_after_the_other_miss_nothing_of_each_other() {
    let mut server = Server::dev().without_message_limit().single_node().start().await;
    open_chat(&server, "c1", &["ana", "bia"]).await;
    wait_for_chat(&server).await;
    let mut clients = Vec::new();
    for name in ["ana", "bia"] {
        let mut client = Stock::Node.connect(&server, "/chat", user(name), Transports::Upgrade).await.expect("accepted");
        assert!(client.ask("chat:join", json!({"chatId": "c1"})).await["error"].is_null());
        client.upgraded().await;
        clients.push(client);
    }
    for round in 0..4 {
        server.restart().await;
        let sender = round % 2;
        assert_eq!(clients[sender].back().await, (clients[sender].id().to_owned(), true));
        let content = format!("round {round}");
        let said = json!({"chatId": "c1", "content": content});
        assert_eq!(clients[sender].ask("chat:message", said).await, json!({}));
        for client in &mut clients {
            expect(client, &[&content]).await;
        }
        let other = &mut clients[1 - sender];
        assert_eq!(other.back().await, (other.id().to_owned(), true));
    }
}

/// Waits until the server has handled the backend's message about the chat.
async fn wait_for_chat(server: &Server) {
    join(&mut server.connect("/chat", user("ana")).await, "c1").await;
}

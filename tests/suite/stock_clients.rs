//! Stock clients in Node and Python over each transport. Must never use a client's private API.

use serde_json::json;
use tests::stock::Transports;
use tests::{Server, Stock, wait};

use crate::helpers::{name, open_chat, user};

#[tokio::test]
async fn stock_clients_of_each_kind_chat_over_every_transport() {
    let server = Server::dev().without_message_limit().start().await;
    open_chat(&server, "c1", &["ana", "bia"]).await;
    for stock in Stock::ALL {
        for transports in [Transports::Websocket, Transports::Upgrade, Transports::Polling] {
            let mut ana = stock.connect(&server, "/chat", user("ana"), transports).await.expect("accepted");
            let mut bia = stock.connect(&server, "/chat", user("bia"), transports).await.expect("accepted");
            if transports == Transports::Upgrade {
                ana.upgraded().await;
            }
            for client in [&mut ana, &mut bia] {
                wait::eventually("the chat to exist", async || {
                    client.ask("chat:join", json!({"chatId": "c1"})).await["error"].is_null()
                })
                .await;
            }
            let content = format!("{stock:?} over {transports:?}: olá ✓");
            assert_eq!(ana.ask("chat:message", json!({"chatId": "c1", "content": content})).await, json!({}));
            let message = bia.next("chat:message").await;
            assert_eq!(message["content"], content);
            assert_eq!(message["user"]["name"], name("ana"));
            bia.emit("chat:message", json!({"chatId": "c1", "content": ""})).await;
            assert_eq!(bia.next("error").await["message"], "Invalid message");
        }
    }
}

#[tokio::test]
async fn stock_clients_receive_the_refusal_sentence() {
    let server = Server::dev().start().await;
    for stock in Stock::ALL {
        for (token, sentence) in [(None, "Authentication error"), (Some("nonsense"), "Invalid token")] {
            let auth = token.map_or(json!({}), |token| json!({"token": token}));
            let refused = stock.connect(&server, "/chat", auth, Transports::Websocket).await;
            assert_eq!(refused.err().as_deref(), Some(sentence), "{stock:?}");
        }
        assert!(stock.connect(&server, "/", json!({}), Transports::Polling).await.is_ok(), "{stock:?}, a visitor");
    }
}

#[tokio::test]
async fn stock_clients_reconnect_after_a_restart() {
    let mut server = Server::dev().start().await;
    open_chat(&server, "c1", &["ana"]).await;
    let mut clients = Vec::new();
    for stock in Stock::ALL {
        clients.push(stock.connect(&server, "/chat", user("ana"), Transports::Websocket).await.expect("accepted"));
    }
    server.restart().await;
    for client in &mut clients {
        // With a reason such as "server disconnect" the client would not reconnect.
        let reason = client.disconnected().await;
        assert!(reason.contains("transport"), "{reason}");
        client.reconnected().await;
        assert!(client.ask("chat:join", json!({"chatId": "c1"})).await["error"].is_null());
    }
}

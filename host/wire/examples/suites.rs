//! The servers that the protocols' owners run their suites against: `/engine.io/` echoes packets of the engine, `/socket.io/` events.
//! `cargo run -p hubbub-wire --example suites -- 3000`

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use hubbub_wire::{Accepted, Config, Connect, EngineMessage, Event, Handler, Message, Outgoing, Refused, Socket, Wire};

struct Server;

impl Handler for Server {
    type Connection = ();
    type Socket = Option<Box<str>>;

    async fn open(self: Arc<Self>, _: http::request::Parts) -> Result<(), Response> {
        Ok(())
    }

    async fn connect(self: Arc<Self>, connect: Connect<Self>) -> Result<Accepted<Self::Socket>, Refused> {
        match connect.socket.namespace() {
            "/" | "/custom" => Ok(Accepted::new(connect.auth)),
            _ => Err(Refused::unknown_namespace()),
        }
    }

    fn connected(&self, socket: &Socket, auth: &Self::Socket) {
        let args = auth.as_deref().unwrap_or("{}");
        let message = Outgoing { namespace: socket.namespace(), name: "auth", args, ..Outgoing::default() }.encode();
        let socket = socket.clone();
        // A moment later, as Node's server does: the first edition of the suite misses a packet that comes together with another.
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            socket.send(&message);
        });
    }

    fn event(&self, socket: &Socket, _: &Self::Socket, event: Event<'_>) {
        let Event { name, args, ack, attachments, .. } = event;
        match (&*name, ack) {
            ("message", _) if socket.namespace() == "/" => {
                let attachments = &attachments[..];
                socket
                    .send(&Outgoing { namespace: "/", name: "message-back", args, attachments, ..Outgoing::default() }.encode());
            }
            ("message-with-ack", Some(ack)) => {
                socket.send(&Message::ack(socket.namespace(), ack, args, &attachments));
            }
            _ => {}
        }
    }
}

struct Engine;

impl Handler for Engine {
    type Connection = ();
    type Socket = ();

    async fn open(self: Arc<Self>, _: http::request::Parts) -> Result<(), Response> {
        Ok(())
    }

    async fn connect(self: Arc<Self>, _: Connect<Self>) -> Result<Accepted<()>, Refused> {
        Err(Refused::unknown_namespace())
    }

    fn message(&self, message: EngineMessage<'_>) -> bool {
        message.connection().send(message.body);
        true
    }

    fn event(&self, _: &Socket, (): &(), _: Event<'_>) {}
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).unwrap_or_else(|| "3000".to_owned());
    let config = Config {
        ping_interval: Duration::from_millis(300),
        ping_timeout: Duration::from_millis(200),
        connect_timeout: Duration::from_secs(1),
        ..Config::default()
    };
    let wire = Wire::new(Arc::new(Server), config.clone());
    let engine = Wire::new(Arc::new(Engine), Config { connect_timeout: Duration::from_secs(3600), ..config });
    let routes = Router::new().route_service("/socket.io/", wire).route_service("/engine.io/", engine);
    let listener = tokio::net::TcpListener::bind(format!("0.0.0.0:{port}")).await?;
    axum::serve(listener, routes).await
}

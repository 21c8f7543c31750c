//! Handles messages of Node.js servers: delivers their events to this node's own sockets, and answers their requests. It never
//! forwards a message to other nodes, which receive it themselves. A message that cannot be parsed is counted and ignored.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fred::interfaces::EventInterface;
use fred::types::Value;
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;

use super::audience::{self, Audience, Delivery, Recipient};
use super::wire::{self, Broadcast, Channel, Flags, Name, Options, Refused, Request, request};
use super::{Bridge, Parcel, msgpack};
use crate::names::SocketId;
use crate::rooms::adapter::Adapter;
use crate::rooms::members::is_hosts;
use crate::rooms::{Rooms, Send, To};

/// How long to wait for acks if the Node.js server sets no timeout, and at most.
const ACKS_WAIT: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));

/// Sockets that are moved, disconnected or sent to before other tasks run: 256 sends take about 60 µs.
const YIELD_AFTER: usize = 256;

/// Handles messages of Node.js servers until the future is dropped.
pub async fn run(bridge: Arc<Bridge>, rooms: Arc<Rooms>) {
    let mut messages = bridge.link.subscriber.message_rx();
    let acks = Arc::new(Semaphore::new(bridge.config.answers.min(Semaphore::MAX_PERMITS)));
    let mut receiver = Receiver { bridge, rooms, acks, waiting: JoinSet::new() };
    loop {
        let message = match messages.recv().await {
            Ok(message) => message,
            Err(RecvError::Lagged(missed)) => {
                receiver.bridge.metrics.unheard.fetch_add(missed, Ordering::Relaxed);
                continue;
            }
            Err(RecvError::Closed) => return,
        };
        let bytes = match &message.value {
            Value::Bytes(bytes) => &bytes[..],
            Value::String(text) => text.as_bytes(),
            _ => continue,
        };
        while receiver.waiting.try_join_next().is_some() {}
        if let Err(refused) = receiver.handle(&message.channel, bytes).await {
            receiver.bridge.metrics.refused.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(channel = %&*message.channel, "a message of a Node.js server was refused: {refused}");
        }
    }
}

struct Receiver {
    bridge: Arc<Bridge>,
    rooms: Arc<Rooms>,
    /// One permit for each awaited ack.
    acks: Arc<Semaphore>,
    /// Broadcasts that wait for acks. They end with this value.
    waiting: JoinSet<()>,
}

impl Receiver {
    async fn handle(&mut self, channel: &str, bytes: &[u8]) -> Result<(), Refused> {
        let Some(channel) = self.bridge.channels.parse(channel) else { return Ok(()) };
        let (Channel::Events { namespace, .. } | Channel::Requests { namespace }) = channel;
        if !self.bridge.shares(namespace) || wire::is_ours(bytes) {
            return Ok(());
        }
        // Without local sockets in the namespace, the message is for other servers.
        let Some(adapter) = self.rooms.namespace(namespace) else { return Ok(()) };
        if let Channel::Events { room, .. } = channel
            && !room.is_empty()
            && !adapter.members(|members| Recipient::parse(&self.bridge.uid, room.to_owned()).is_here(members))
        {
            return Ok(());
        }
        if bytes.len() > self.bridge.config.max_message {
            return Err(Refused::TooLarge(bytes.len()));
        }
        match channel {
            Channel::Events { namespace, .. } => {
                let json = msgpack::to_json(bytes)?;
                let Broadcast(_, packet, options) = serde_json::from_str(&json)?;
                let text = packet.event(namespace)?;
                self.bridge.metrics.received.fetch_add(1, Ordering::Relaxed);
                self.deliver(&adapter, options, text).await;
                Ok(())
            }
            Channel::Requests { namespace } => {
                let text = wire::request_text(bytes)?;
                let request: Request<'_> = serde_json::from_str(&text)?;
                if request.is_ours() {
                    return Ok(());
                }
                self.bridge.metrics.requests.fetch_add(1, Ordering::Relaxed);
                self.answer(namespace, &adapter, request).await
            }
        }
    }

    async fn deliver(&self, adapter: &Adapter, options: Options, text: &str) {
        let volatile = options.flags.as_ref().and_then(|flags| flags.volatile).unwrap_or(false);
        let audience = Audience::new(&self.bridge.uid, options);
        let send = |to| Send { volatile, ..Send::plain(to, text) };
        match audience.delivery() {
            Delivery::Everyone { except } => adapter.send(&Send { except: &except, ..send(To::Everyone) }).await,
            Delivery::Rooms { rooms, except } => adapter.send(&Send { except: &except, ..send(To::Rooms(&rooms)) }).await,
            Delivery::Sockets => {
                let sockets = adapter.members(|members| audience.sockets(members));
                for chunk in sockets.chunks(YIELD_AFTER) {
                    for socket in chunk {
                        adapter.send(&send(To::Socket(*socket))).await;
                    }
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    async fn answer(&mut self, namespace: &str, adapter: &Adapter, request: Request<'_>) -> Result<(), Refused> {
        let Request { kind, uid, request_id, opts, rooms, close, packet } = request;
        let answer = |answer: serde_json::Value| {
            let channel = self.bridge.channels.responses(namespace, uid.as_deref());
            self.bridge.post(Parcel::Ready { channel, bytes: answer.to_string().into() });
        };
        let wait = opts.as_ref().and_then(|opts| opts.flags.as_ref().and_then(Flags::wait));
        let audience = opts.map(|opts| Audience::new(&self.bridge.uid, opts)).ok_or(Refused::Incomplete);
        let request_id = request_id.ok_or(Refused::Incomplete);
        let found = |audience: Audience| adapter.members(|members| audience.sockets(members));
        match kind {
            // Messages between Node.js servers, not for clients.
            request::SERVER_SIDE_EMIT => {}
            request::SOCKETS => {
                let options = Options { rooms: rooms.unwrap_or_default(), ..Options::default() };
                let sockets = self.within_limit(found(Audience::new(&self.bridge.uid, options)))?;
                let names: Vec<_> = sockets.into_iter().map(|socket| wire::socket_name(&self.bridge.uid, socket)).collect();
                answer(json!({"requestId": request_id?, "sockets": names}));
            }
            request::ALL_ROOMS => answer(json!({"requestId": request_id?, "rooms": self.within_limit(all_rooms(adapter))?})),
            request::JOIN | request::LEAVE => {
                let rooms = self.joinable(rooms.ok_or(Refused::Incomplete)?)?;
                let sockets = found(audience?);
                let refused = move_sockets(adapter, &sockets, &rooms, kind == request::JOIN).await;
                self.bridge.metrics.joins_refused.fetch_add(refused, Ordering::Relaxed);
            }
            request::DISCONNECT => {
                let sockets = found(audience?);
                self.disconnect(adapter, &sockets, close.unwrap_or(false)).await;
            }
            request::FETCH => {
                let sockets = self.within_limit(found(audience?))?;
                let describe = |socket| adapter.members(|members| audience::fetched(&self.bridge.uid, members, socket));
                answer(json!({"requestId": request_id?, "sockets": sockets.into_iter().map(describe).collect::<Vec<_>>()}));
            }
            request::BROADCAST => {
                let (request_id, packet) = (request_id?, packet.ok_or(Refused::Incomplete)?);
                let text = packet.event(namespace)?;
                let sockets = self.within_limit(found(audience?))?;
                let channel = self.bridge.channels.responses(namespace, uid.as_deref());
                self.ask(adapter, &sockets, text, AckRequest { request_id, channel, wait: wait.unwrap_or(ACKS_WAIT.0) })?;
            }
            unknown => return Err(Refused::UnknownRequest(unknown)),
        }
        Ok(())
    }

    /// Refuses more items than one answer may have.
    fn within_limit<T>(&self, found: Vec<T>) -> Result<Vec<T>, Refused> {
        if found.len() > self.bridge.config.answers { Err(Refused::TooMany(found.len())) } else { Ok(found) }
    }

    /// The rooms that a Node.js server may move sockets to: not a user's and not a socket's.
    fn joinable(&self, names: Vec<Name>) -> Result<Vec<String>, Refused> {
        let room = |name: Name| match Recipient::parse(&self.bridge.uid, name.into_text()) {
            Recipient::Room(room) => Ok(room),
            _ => Err(Refused::Incomplete),
        };
        names.into_iter().map(room).collect()
    }

    async fn disconnect(&self, adapter: &Adapter, sockets: &[SocketId], close: bool) {
        for chunk in sockets.chunks(YIELD_AFTER) {
            for socket in chunk.iter().filter_map(|socket| adapter.socket(*socket)) {
                if close {
                    socket.connection().disconnect();
                } else {
                    socket.disconnect();
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// Sends an event that requires acks. Reports how many to expect, then each one as it arrives.
    fn ask(&mut self, adapter: &Adapter, sockets: &[SocketId], text: &str, asked: AckRequest) -> Result<(), Refused> {
        let permits = self.acks.clone().try_acquire_many_owned(sockets.len() as u32);
        let permits = permits.map_err(|_| Refused::TooMany(sockets.len()))?;
        let mut answers = adapter.ask(sockets, text, asked.wait)?;
        let (channel, count) = (asked.channel.clone(), answers.len());
        let announced = json!({"type": request::CLIENT_COUNT, "requestId": asked.request_id, "clientCount": count});
        self.bridge.post(Parcel::Ready { channel, bytes: announced.to_string().into() });
        let bridge = self.bridge.clone();
        self.waiting.spawn(async move {
            let _permits = permits;
            while let Some(answer) = answers.next().await {
                // The Node.js server has the number of expected acks, and times out by itself.
                let Some(encoded) = answer.and_then(|args| wire::ack(&asked.request_id, &args).ok()) else { continue };
                bridge.post(Parcel::Ready { channel: asked.channel.clone(), bytes: encoded.into() });
            }
        });
        Ok(())
    }
}

/// Where and how long to answer a broadcast with acks.
struct AckRequest {
    request_id: String,
    channel: String,
    wait: Duration,
}

impl Flags {
    fn wait(&self) -> Option<Duration> {
        let millis = self.timeout?.clamp(0.0, ACKS_WAIT.1.as_millis() as f64);
        Some(Duration::from_millis(millis as u64))
    }
}

/// Joins sockets to rooms or removes them. Returns the number of joins that were refused past a socket's limit.
async fn move_sockets(adapter: &Adapter, sockets: &[SocketId], rooms: &[String], joins: bool) -> u64 {
    let mut refused = 0;
    for chunk in sockets.chunks(YIELD_AFTER) {
        for (socket, room) in chunk.iter().flat_map(|socket| rooms.iter().map(move |room| (*socket, room))) {
            if joins {
                refused += u64::from(adapter.join(socket, room).is_err());
            } else {
                adapter.leave(socket, room);
            }
        }
        tokio::task::yield_now().await;
    }
    refused
}

fn all_rooms(adapter: &Adapter) -> Vec<String> {
    adapter.members(|members| members.rooms().filter(|room| !is_hosts(room)).map(|room| room.to_string()).collect())
}

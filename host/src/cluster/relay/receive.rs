//! Delivers the events of other nodes to the clients of this one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use fred::interfaces::EventInterface;
use fred::types::{Message, Value};
use tokio::sync::broadcast::error::RecvError;

use super::Relay;
use super::event::{Header, Recipients, log_of, notice_channel, parse, taken_channel};
use crate::cluster::repair::Repair;
use crate::recovery::offset::Offset;
use crate::rooms::{Rooms, Send, To};

/// The events of other nodes, as far as they have arrived.
struct Incoming {
    /// The last event of each node: copies from other channels follow directly.
    last: HashMap<u64, u64>,
    /// The ends of the logs that were read instead.
    repaired: Offset,
    /// The beginning of the cluster's channels.
    ours: String,
    notices: String,
    taken: String,
}

impl Relay {
    /// Delivers the events of other nodes, until the future is dropped. `repair`: of a cluster with a log.
    pub async fn receive(self: Arc<Self>, rooms: Arc<Rooms>, repair: Option<Repair>) {
        let mut incoming = Incoming {
            last: HashMap::new(),
            repaired: Offset::default(),
            ours: self.link.name(format_args!("")),
            notices: notice_channel(&self.link),
            taken: taken_channel(&self.link, &self.nodes.me),
        };
        let (mut messages, mut connections) = (self.link.subscriber.message_rx(), self.link.connections());
        loop {
            let is_behind = tokio::select! {
                // A new connection has no subscriptions: what comes over it comes after this.
                biased;
                changed = connections.changed() => match changed {
                    Ok(()) => *connections.borrow_and_update() > 1,
                    Err(_) => return,
                },
                message = messages.recv() => match message {
                    Ok(message) => {
                        self.take(&rooms, &mut incoming, message).await;
                        false
                    }
                    Err(RecvError::Lagged(missed)) => {
                        self.metrics.unheard.fetch_add(missed, Ordering::Relaxed);
                        true
                    }
                    Err(RecvError::Closed) => return,
                },
            };
            if let Some(repair) = repair.as_ref().filter(|_| is_behind) {
                incoming.repaired = repair.run(&self, &rooms).await;
            }
        }
    }

    async fn take(&self, rooms: &Rooms, incoming: &mut Incoming, message: Message) {
        // The same connection may be subscribed to channels of Node.js servers.
        if !message.channel.starts_with(&incoming.ours) {
            return;
        }
        let Value::Bytes(bytes) = bytes_of(message.value) else { return };
        let own = [(&incoming.notices, &self.notices), (&incoming.taken, &self.taken)];
        if let Some((_, readers)) = own.into_iter().find(|(channel, _)| *message.channel == ***channel) {
            // Without readers it is dropped.
            let _ = std::str::from_utf8(&bytes).map(|text| readers.send(text.into()));
            return;
        }
        let Some((header, text)) = parse(&bytes) else { return };
        let (log, seq) = (log_of(&header.node), header.seq);
        if header.node == self.nodes.me.as_str() || incoming.last.get(&log) == Some(&seq) || seq <= incoming.repaired.of(log) {
            return;
        }
        self.metrics.received.fetch_add(1, Ordering::Relaxed);
        self.deliver(rooms, &header, text).await;
        if incoming.last.insert(log, seq).is_none() {
            let live: Vec<u64> = self.nodes.live().iter().map(|node| log_of(node)).collect();
            incoming.last.retain(|other, _| *other == log || live.contains(other));
        }
    }

    async fn deliver(&self, rooms: &Rooms, header: &Header<'_>, text: String) {
        let Some(adapter) = rooms.namespace(&header.namespace) else { return };
        let log = log_of(&header.node);
        if let Some((user, room, joins)) = header.to.as_move() {
            self.order.lock().raise(log, header.seq);
            return adapter.move_user(user, room, joins);
        }
        let to = match &header.to {
            Recipients::Socket(_) | Recipients::Join { .. } | Recipients::Leave { .. } => return,
            Recipients::Rooms(rooms) => To::Rooms(rooms),
            Recipients::TenantInRoom { tenant, room } => To::TenantInRoom { tenant, room },
            Recipients::Users(users) => To::Users(users),
        };
        let send = |at| Send { to, except: &header.except, except_socket: None, text: &text, volatile: header.volatile, at };
        if self.log.is_none() {
            return adapter.send(&send(None)).await;
        }
        let _turn = adapter.turn().await;
        let at = self.order.lock().received(log, header.seq, !header.volatile, &text);
        adapter.send(&send(at.as_ref())).await;
    }
}

/// Redis makes no difference between text and bytes.
fn bytes_of(value: Value) -> Value {
    match value {
        Value::String(text) => Value::Bytes(text.into_inner()),
        other => other,
    }
}

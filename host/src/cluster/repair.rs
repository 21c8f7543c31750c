//! Sends connected clients what this node has not received: while its connection to Redis was broken, or because too many events waited
//! to be read. It is read from the logs of the other nodes.

use std::sync::Arc;
use std::time::Duration;

use super::logs::Logs;
use super::logs::read::{Missed, Read};
use super::redis::{Redis, RedisUnavailable};
use super::relay::Relay;
use super::relay::event::log_of;
use super::sockets::Sockets;
use super::subscriptions::Subscriptions;
use crate::recovery::offset::Offset;
use crate::rooms::{At, Rooms, Send, To};

/// The wait after a reading that failed.
const PAUSE: Duration = Duration::from_millis(100);

pub struct Repair {
    pub link: Arc<Redis>,
    pub subscriptions: Arc<Subscriptions>,
    pub logs: Arc<Logs>,
    pub sockets: Arc<Sockets>,
    pub me: String,
}

impl Repair {
    /// Waits for Redis and the subscriptions, then sends what was missed. No event of another node may be delivered meanwhile. Returns the
    /// ends of what was read.
    pub async fn run(&self, relay: &Relay, rooms: &Rooms) -> Offset {
        let mut epochs = self.link.epochs();
        loop {
            // An error means that the node is stopping.
            let _ = epochs.wait_for(Option::is_some).await;
            self.subscriptions.settled().await;
            match self.read(relay, rooms).await {
                Ok(ends) => return ends,
                Err(error) => tracing::debug!("what this node has not received cannot be read: {error}"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn read(&self, relay: &Relay, rooms: &Rooms) -> Result<Offset, RedisUnavailable> {
        // Most of it is read while events of this node are still sent.
        drop(self.logs.read().await?);
        // An offset must not fall back: no event of this node is sent before all of its clients have what they missed.
        let (namespaces, mut turns) = (rooms.all(), Vec::new());
        for adapter in &namespaces {
            turns.push(adapter.turn().await);
        }
        let read = self.logs.read().await?;
        let (received, ends) = (relay.received(), read.ends(log_of(&self.me), 0));
        self.send(rooms, &read, &received, &ends).await;
        relay.raise(&ends);
        Ok(ends)
    }

    async fn send(&self, rooms: &Rooms, read: &Read, received: &Offset, ends: &Offset) {
        let mut count = 0_u64;
        for mut state in self.sockets.connected() {
            let Some(adapter) = rooms.namespace(&state.caller.namespace) else { continue };
            state.received = received.clone();
            read.move_socket(&mut state);
            let mut offset = received.clone();
            for Missed { place, text } in read.events(&state, received, ends) {
                offset.raise(place.log, place.position);
                let at = At { log: place.log, position: place.position, is_logged: true, offset: offset.to_string() };
                adapter.send(&Send { at: Some(&at), ..Send::plain(To::Socket(state.id), &text) }).await;
                count += 1;
            }
            tokio::task::yield_now().await;
        }
        for (namespace, to) in read.moves(received, ends) {
            if let (Some(adapter), Some((user, room, joins))) = (rooms.namespace(&namespace), to.as_move()) {
                adapter.move_user(user, room, joins);
            }
        }
        if count > 0 {
            tracing::info!(events = count, "clients got what this node had not received");
        }
    }
}

//! One key of a presence group: the sockets that track it, and the resulting status.

use std::sync::Arc;

use smallvec::SmallVec;

use super::Config;
use crate::names::SocketId;
use crate::sandbox::imports::presence::Status;

pub(super) struct Entry {
    /// The first user that tracked it.
    pub(super) user: Option<Arc<str>>,
    pub(super) sockets: SmallVec<[Tracker; 1]>,
    pub(super) meta: String,
    /// The metadata has changed since the status was reported.
    pub(super) meta_changed: bool,
    pub(super) reported: Option<Status>,
    /// Whether the key waited for a reconnect at the last change that was reported.
    pub(super) reported_waits: bool,
    /// By the wall clock, since it is displayed.
    pub(super) since_ms: u64,
}

/// A socket that tracks a key, or did until a short time ago.
pub(super) struct Tracker {
    pub(super) socket: SocketId,
    pub(super) status: Status,
    /// By the steady clock.
    pub(super) seen_ms: u64,
    /// How the socket ended, and until when its status still counts. The status stays the one at the end.
    pub(super) ended: Option<(Ended, u64)>,
}

/// How a socket ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The client sent Socket.IO's DISCONNECT: its tracks end after `SETTLE_MS`.
    Clean,
    /// The connection broke: its tracks wait for a reconnect during the grace period.
    Broken,
}

impl Tracker {
    pub(super) fn counts(&self, steady_ms: u64) -> bool {
        self.ended.is_none_or(|(_, until)| steady_ms < until)
    }

    pub(super) fn left_cleanly(&self) -> bool {
        matches!(self.ended, Some((Ended::Clean, _)))
    }

    pub(super) fn broken_until(&self) -> Option<u64> {
        self.ended.filter(|(ended, _)| *ended == Ended::Broken).map(|(_, until)| until)
    }

    pub(super) fn status(&self, config: &Config, steady_ms: u64) -> Status {
        let silent = steady_ms.saturating_sub(self.seen_ms) >= config.away_after.as_millis() as u64;
        if silent && self.ended.is_none() { Status::Away } else { self.status }
    }
}

impl Entry {
    pub(super) fn new(user: Option<Arc<str>>) -> Self {
        Self {
            user,
            sockets: SmallVec::new(),
            meta: String::new(),
            meta_changed: false,
            reported: None,
            reported_waits: false,
            since_ms: 0,
        }
    }

    /// A new socket replaces the connection that broke first: it counts as its reconnect.
    pub(super) fn track(&mut self, socket: SocketId, status: Status, steady_ms: u64) {
        let tracker = Tracker { socket, status, seen_ms: steady_ms, ended: None };
        if let Some(known) = self.sockets.iter_mut().find(|tracker| tracker.socket == socket) {
            *known = tracker;
            return;
        }
        self.sockets.retain(|tracker| tracker.counts(steady_ms));
        let broken = self.sockets.iter_mut().filter(|tracker| tracker.broken_until().is_some());
        match broken.min_by_key(|tracker| tracker.broken_until()) {
            Some(broken) => *broken = tracker,
            None => self.sockets.push(tracker),
        }
    }

    /// Ends a socket's track. A key without a reported status does not wait for a reconnect.
    pub(super) fn end(&mut self, config: &Config, socket: SocketId, ended: Ended, until: u64, steady_ms: u64) {
        let Some(at) = self.sockets.iter().position(|tracker| tracker.socket == socket) else { return };
        if self.reported.is_none() {
            self.sockets.remove(at);
            return;
        }
        let tracker = &mut self.sockets[at];
        (tracker.status, tracker.ended) = (tracker.status(config, steady_ms), Some((ended, until)));
    }

    /// The last reported status, or the first one if none was reported yet. None once all clients have disconnected cleanly.
    pub(super) fn status_now(&self) -> Option<Status> {
        let last = self.sockets.iter().rfind(|tracker| !tracker.left_cleanly())?;
        Some(self.reported.unwrap_or(last.status))
    }

    pub(super) fn status(&self, config: &Config, steady_ms: u64) -> Option<Status> {
        let counting = self.sockets.iter().filter(|tracker| tracker.counts(steady_ms));
        let statuses = counting.map(|tracker| tracker.status(config, steady_ms));
        statuses.reduce(|one, other| if one == Status::Online { one } else { other })
    }

    /// Whether all sockets that track it have ended.
    pub(super) fn waits(&self) -> bool {
        !self.sockets.is_empty() && self.sockets.iter().all(|tracker| tracker.ended.is_some())
    }
}

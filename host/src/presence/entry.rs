//! One key of a presence group: the sockets that vouch for it, and the status that follows.

use std::sync::Arc;

use smallvec::SmallVec;

use super::Config;
use crate::names::SocketId;
use crate::sandbox::imports::presence::Status;

pub(super) struct Entry {
    /// Who vouched for it first.
    pub(super) user: Option<Arc<str>>,
    pub(super) sockets: SmallVec<[Voucher; 1]>,
    pub(super) meta: String,
    /// The metadata is another than when the status was told.
    pub(super) restated: bool,
    pub(super) reported: Option<Status>,
    /// Whether the key waited for a reconnect at the last change that was reported.
    pub(super) reported_waits: bool,
    /// By the wall clock: it is shown.
    pub(super) since_ms: u64,
}

/// A socket that vouches for a key, or vouched for it a short time ago.
pub(super) struct Voucher {
    pub(super) socket: SocketId,
    pub(super) status: Status,
    /// By the steady clock.
    pub(super) seen_ms: u64,
    /// How the socket has ended, and until when its status still counts. It stays as it was at the end.
    pub(super) ended: Option<(Ended, u64)>,
}

/// How a socket has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The client sent Socket.IO's DISCONNECT: what it vouched for ends after `SETTLE_MS`.
    Clean,
    /// The connection broke: what it vouched for waits for a reconnect during the grace period.
    Broken,
}

impl Voucher {
    pub(super) fn counts(&self, steady_ms: u64) -> bool {
        self.ended.is_none_or(|(_, until)| steady_ms < until)
    }

    pub(super) fn has_left(&self) -> bool {
        matches!(self.ended, Some((Ended::Clean, _)))
    }

    pub(super) fn broke(&self) -> Option<u64> {
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
            restated: false,
            reported: None,
            reported_waits: false,
            since_ms: 0,
        }
    }

    /// A new socket replaces the connection that broke first: it counts as its reconnect.
    pub(super) fn vouch(&mut self, socket: SocketId, status: Status, steady_ms: u64) {
        let voucher = Voucher { socket, status, seen_ms: steady_ms, ended: None };
        if let Some(known) = self.sockets.iter_mut().find(|voucher| voucher.socket == socket) {
            *known = voucher;
            return;
        }
        self.sockets.retain(|voucher| voucher.counts(steady_ms));
        let broken = self.sockets.iter_mut().filter(|voucher| voucher.broke().is_some());
        match broken.min_by_key(|voucher| voucher.broke()) {
            Some(broken) => *broken = voucher,
            None => self.sockets.push(voucher),
        }
    }

    /// A socket has ended. A key whose status was never reported does not wait.
    pub(super) fn end(&mut self, config: &Config, socket: SocketId, ended: Ended, until: u64, steady_ms: u64) {
        let Some(at) = self.sockets.iter().position(|voucher| voucher.socket == socket) else { return };
        if self.reported.is_none() {
            self.sockets.remove(at);
            return;
        }
        let voucher = &mut self.sockets[at];
        (voucher.status, voucher.ended) = (voucher.status(config, steady_ms), Some((ended, until)));
    }

    /// The status that was reported last, or the first one, which is still to be reported. None once all clients have left.
    pub(super) fn status_now(&self) -> Option<Status> {
        let last = self.sockets.iter().rfind(|voucher| !voucher.has_left())?;
        Some(self.reported.unwrap_or(last.status))
    }

    pub(super) fn status(&self, config: &Config, steady_ms: u64) -> Option<Status> {
        let counting = self.sockets.iter().filter(|voucher| voucher.counts(steady_ms));
        let statuses = counting.map(|voucher| voucher.status(config, steady_ms));
        statuses.reduce(|one, other| if one == Status::Online { one } else { other })
    }

    /// Whether all that vouches for it has ended.
    pub(super) fn waits(&self) -> bool {
        !self.sockets.is_empty() && self.sockets.iter().all(|voucher| voucher.ended.is_some())
    }
}

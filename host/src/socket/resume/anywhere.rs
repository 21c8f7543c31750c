//! Brings a client back to its socket in a cluster: from the node that it was connected to, whether that runs or was killed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hubbub_wire::{Connect, Message, PrivateId, SocketId as PublicId};
use tokio::time::sleep;

use super::sessions::Away;
use super::{CONTEST_INTERVAL, Contest, OLD_CONNECTION, Resumed, may_resume};
use crate::cluster::Cluster;
use crate::cluster::logs::Logs;
use crate::cluster::logs::read::Missed;
use crate::cluster::relay::event::log_of;
use crate::cluster::sockets::{Sockets, State, user_of};
use crate::names::SocketId;
use crate::presence::Track;
use crate::recovery::NotRecovered;
use crate::recovery::offset::Offset;
use crate::rooms::adapter::Adapter;
use crate::rooms::catch_up::{CatchUp, ComingBack};
use crate::sandbox::exports::{Caller, DisconnectReason};
use crate::socket::Gateway;
use crate::socket::session::Session;
use crate::socket::session::disconnect::{DisconnectCause, notify_plugins};

/// A cluster whose clients come back to any node.
#[derive(Clone, Copy)]
pub(in crate::socket) struct Anywhere<'a> {
    pub(in crate::socket) cluster: &'a Cluster,
    /// Of this node.
    pub(in crate::socket) sockets: &'a Sockets,
    /// Of all nodes.
    pub(in crate::socket) logs: &'a Logs,
}

impl Gateway {
    /// None: clients come back to the same node only.
    pub(in crate::socket) fn anywhere(&self) -> Option<Anywhere<'_>> {
        let cluster = self.services.cluster.as_deref()?;
        Some(Anywhere { cluster, sockets: cluster.peers.sockets.as_deref()?, logs: cluster.logs.as_deref()? })
    }

    /// Logs a new socket, before its client gets the id.
    pub(in crate::socket) async fn begin_anywhere(&self, session: &Session) {
        let Some(Anywhere { sockets, .. }) = self.anywhere().filter(|_| !session.is_back()) else { return };
        let names = self.names_of(&session.connected_plugins());
        let mut state = State::new(session.id, session.socket.id().to_string(), session.caller.load_full(), names);
        state.tracks = Track::encode(&self.services.presences.tracks_of(session.id));
        sockets.begin(session.socket.private_id().to_string(), state);
        self.services.rooms.written().await;
    }

    pub(super) async fn resume_anywhere(
        &self,
        anywhere: Anywhere<'_>,
        connect: &Connect<Self>,
        offset: Offset,
        private: PrivateId,
        caller: &Caller,
    ) -> Result<Resumed, NotRecovered> {
        let Anywhere { cluster, sockets, logs } = anywhere;
        // After a start, clients come back before Redis has answered.
        cluster.link.started().await;
        let mut contest = Contest::new();
        let (mut state, coming) = loop {
            if let Some(coming) = self.recovery.sessions.come_back(private)
                && let Some(state) = self.take(anywhere, private, caller, contest.is_on).await?
            {
                break (state, coming);
            }
            contest.wait().await?;
        };
        logs.read().await.map_err(|_| NotRecovered::Redis)?.move_socket(&mut state);
        let public = PublicId::parse(&state.public).ok_or(NotRecovered::Unknown)?;
        let (catch_up, rooms) = (Arc::new(CatchUp::default()), rooms_of(&state));
        let (socket, user) = (connect.socket.clone(), user_of(caller).map(Into::into));
        let back = ComingBack { id: state.id, socket, user, catch_up: catch_up.clone(), rooms: &rooms };
        let resume = || sockets.resume(private.to_string(), state.clone());
        let (adapter, from) = self.services.rooms.come_back(&caller.namespace, back, resume);
        let away = Box::new(self.away(&state, (public, private), adapter));
        let missed = self.missed(anywhere, &state, offset, from, &catch_up).await;
        if coming.claimed_elsewhere() > state.claims {
            // Its client is at another node by now.
            sockets.taken(state.id, true);
            self.services.rooms.remove(&away.adapter, away.id, false);
            sockets.forget(state.id, false);
            return Err(NotRecovered::Unknown);
        }
        let missed = match missed {
            // Nothing has read the ids of the new socket yet.
            Ok(missed) if connect.resume(public, private) => return Ok(Resumed { away, missed }),
            Ok(_) => NotRecovered::Unknown,
            Err(not_recovered) => not_recovered,
        };
        self.services.rooms.remove(&away.adapter, away.id, false);
        self.end_away(*away).await;
        Err(missed)
    }

    /// Takes a socket from the node that its client was connected to, which may be this one. None: another connection has it, or takes it
    /// at the same moment.
    async fn take(
        &self,
        Anywhere { cluster, sockets, logs }: Anywhere<'_>,
        private: PrivateId,
        caller: &Caller,
        is_contested: bool,
    ) -> Result<Option<State>, NotRecovered> {
        let (me, name) = (&cluster.nodes.me, private.to_string());
        let (node, before) = logs.find(&name).await.map_err(|_| NotRecovered::Redis)?.ok_or(NotRecovered::Unknown)?;
        may_resume(&before.caller, caller)?;
        if node != *me {
            self.end_old(sockets, private, before.id).await?;
        }
        let is_here = node == *me && sockets.has(before.id);
        let has_ended = before.is_away || (node != *me && !cluster.nodes.live().contains(&node));
        if (is_contested && !has_ended) || (is_here && !self.recovery.sessions.may_claim(private)) {
            return Ok(None);
        }
        let id = before.id;
        if is_here {
            sockets.taken(id, false);
            // No older state may be written after it is taken.
            self.services.rooms.written().await;
        }
        let Ok(taken) = logs.take(&node, me, &name, before).await else {
            sockets.not_taken(id);
            return Err(NotRecovered::Redis);
        };
        let Some(taken) = taken else { return Ok(None) };
        if is_here {
            let closed = self.close_taken(private).await;
            let newest = sockets.forget(id, false).ok_or(NotRecovered::Unknown)?;
            return closed.map(|()| Some(newest.claimed(taken.claims)));
        }
        if node != *me {
            // If it is lost, its ping timeout ends the old connection.
            let _ = cluster.peers.relay.announce_taken(&node, &name, taken.claims).await;
        }
        Ok(Some(taken))
    }

    /// Ends a socket that this node still has, although its client was at another node meanwhile.
    async fn end_old(&self, sockets: &Sockets, private: PrivateId, id: SocketId) -> Result<(), NotRecovered> {
        let began = Instant::now();
        while sockets.has(id) {
            if began.elapsed() > OLD_CONNECTION {
                return Err(NotRecovered::Busy);
            }
            // If another task ends it, this one waits.
            if self.recovery.sessions.may_claim(private) {
                sockets.taken(id, false);
                let closed = self.close_taken(private).await;
                sockets.forget(id, false);
                closed?;
            } else {
                sleep(CONTEST_INTERVAL).await;
            }
        }
        Ok(())
    }

    /// The events that the client has missed, in order.
    async fn missed(
        &self,
        Anywhere { cluster, logs, .. }: Anywhere<'_>,
        state: &State,
        mut offset: Offset,
        from: u64,
        catch_up: &CatchUp,
    ) -> Result<Vec<Message>, NotRecovered> {
        let (rooms, namespace) = (&self.services.rooms, &state.caller.namespace);
        // From now on this node receives what others send, and what it has sent itself is in its log.
        rooms.settled().await;
        rooms.written().await;
        let read = logs.read().await.map_err(|_| NotRecovered::Redis)?;
        let mut ends = read.ends(log_of(&cluster.nodes.me), from);
        let missed = read.missed(state, &offset, &ends).map_err(|_| NotRecovered::Log)?;
        ends.merge(&offset);
        let message = |Missed { place, text }: Missed| {
            offset.raise(place.log, place.position);
            Message::event_at(namespace, &text, &offset.to_string())
        };
        let mut missed: Vec<Message> = missed.into_iter().map(message).collect();
        missed.extend(catch_up.finish(namespace, &ends, logs.keep).ok_or(NotRecovered::Log)?);
        Ok(missed)
    }

    /// The socket as the node knows its own sockets that are away.
    fn away(&self, state: &State, (public, private): (PublicId, PrivateId), adapter: Arc<Adapter>) -> Away {
        Away {
            id: state.id,
            public,
            private,
            caller: state.caller.clone(),
            connected: self.ids_of(&state.connected),
            adapter,
            tracks: Track::decode(&state.tracks),
            cause: DisconnectCause::restored(DisconnectReason::Transport),
        }
    }

    /// Ends the sockets of a node that is gone.
    async fn end_sockets(&self, logs: &Logs, node: &str) {
        for private in logs.sockets(node).await.unwrap_or_default() {
            let Ok(Some((newest, state))) = logs.find(&private).await else { continue };
            // Another node may have it meanwhile.
            if logs.remove(node, &private).await.unwrap_or(false) && newest == node {
                notify_plugins(self, &state.caller, DisconnectCause::restored(DisconnectReason::Transport)).await;
            }
        }
    }

    /// Closes the connection of a socket that its client has taken, or forgets that it is away.
    async fn close_taken(&self, private: PrivateId) -> Result<(), NotRecovered> {
        self.recovery.sessions.claim(private).ok_or(NotRecovered::Unknown)?.away().await.map(drop)
    }
}

fn rooms_of(state: &State) -> Vec<Arc<str>> {
    state.stays.iter().filter(|stay| stay.to.is_none()).map(|stay| stay.room.clone()).collect()
}

/// The time between two searches for sockets of nodes that are gone.
const ENDED_INTERVAL: Duration = Duration::from_secs(5);

/// Ends the sockets of nodes that are gone, after the window: their plugins are notified by one of the other nodes.
pub(in crate::socket) async fn end_windows(gateway: Arc<Gateway>) {
    let Some(Anywhere { cluster, logs, .. }) = gateway.anywhere() else { return };
    let window = gateway.recovery.config.window;
    let mut gone: HashMap<String, Instant> = HashMap::new();
    loop {
        sleep(ENDED_INTERVAL).await;
        // While Redis does not answer, nothing ends.
        let Ok(nodes) = logs.nodes().await else { continue };
        let live = cluster.nodes.live();
        gone.retain(|node, _| nodes.contains(node) && !live.contains(node));
        for node in nodes.into_iter().filter(|node| !live.contains(node)) {
            let since = *gone.entry(node.clone()).or_insert_with(Instant::now);
            if since.elapsed() >= window && cluster.nodes.is_mine(&node) {
                gateway.end_sockets(logs, &node).await;
            }
        }
    }
}

/// Forgets the sockets of this node that clients have taken to another one.
pub(in crate::socket) async fn run(gateway: Arc<Gateway>) {
    let Some(Anywhere { cluster, .. }) = gateway.anywhere() else { return };
    let mut taken = cluster.peers.relay.taken();
    loop {
        use tokio::sync::broadcast::error::RecvError;
        let notice = match taken.recv().await {
            Ok(notice) => notice,
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return,
        };
        let parse = |(private, claims): (&str, &str)| Some((PrivateId::parse(private)?, claims.parse().ok()?));
        if let Some((private, claims)) = notice.split_once(' ').and_then(parse) {
            gateway.recovery.sessions.claimed_elsewhere(private, claims);
            tokio::spawn(taken_elsewhere(gateway.clone(), private, claims));
        }
    }
}

async fn taken_elsewhere(gateway: Arc<Gateway>, private: PrivateId, claims: u64) {
    let (Some(Anywhere { sockets, .. }), Some(id)) = (gateway.anywhere(), gateway.recovery.sessions.id(private)) else { return };
    // Its client may be back here meanwhile.
    if sockets.is_before(id, claims) {
        sockets.taken(id, true);
        let _ = gateway.close_taken(private).await;
        sockets.forget(id, false);
    }
}

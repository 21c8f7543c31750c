//! Brings a client that lost its connection back to its socket, and ends sockets at the end of their windows.

pub(super) mod anywhere;
mod saved;
pub mod sessions;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use hubbub_wire::{Connect, Message, PrivateId};
use sessions::{Away, Claim, Sessions};
use smallvec::SmallVec;
use tokio::time::{sleep, timeout};

use super::Gateway;
use super::session::disconnect::notify_plugins;
use crate::names::PluginName;
use crate::recovery::offset::Offset;
use crate::recovery::request::{Given, Request};
use crate::recovery::{Config, NotRecovered};
use crate::rooms::history::Gap;
use crate::sandbox::exports::Caller;
use anywhere::Anywhere;

/// The recovery of this node.
pub struct Recovery {
    pub config: Config,
    pub sessions: Sessions,
}

/// How long a client that comes back waits for the end of its old connection: for the events that were received on it.
const OLD_CONNECTION: Duration = Duration::from_secs(5);

/// How long a connection waits for a socket that another one takes at the same moment, and the time between two attempts.
const CONTEST: Duration = Duration::from_secs(2);
const CONTEST_INTERVAL: Duration = Duration::from_millis(20);

/// Two connections at the same moment that name the same socket: one gets it, and the other one only if the first has ended meanwhile.
pub(super) struct Contest {
    began: Instant,
    pub(super) is_on: bool,
}

impl Contest {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), is_on: false }
    }

    /// Waits before another attempt.
    ///
    /// # Errors
    /// The other connection keeps it.
    pub(super) async fn wait(&mut self) -> Result<(), NotRecovered> {
        if self.began.elapsed() >= CONTEST {
            return Err(NotRecovered::Unknown);
        }
        self.is_on = true;
        sleep(CONTEST_INTERVAL).await;
        Ok(())
    }
}

/// The time between two sweeps of what is no longer in the log.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// Sockets of which plugins are notified at a time when their windows end.
const ENDING: usize = 16;

/// A socket that is back.
pub(super) struct Resumed {
    pub(super) away: Box<Away>,
    pub(super) missed: Vec<Message>,
}

impl Gateway {
    /// Brings the client's earlier socket back, if it asks for one. `caller` is what its token says now.
    pub(super) async fn resume(self: &Arc<Self>, connect: &Connect<Self>, request: &Request, caller: &Caller) -> Option<Resumed> {
        let private = request.socket?;
        match self.try_resume(connect, request, private, caller).await {
            Ok(resumed) => {
                self.services.metrics.recovered(resumed.missed.len());
                Some(resumed)
            }
            Err(not_recovered) => {
                self.services.metrics.not_recovered(not_recovered.reason());
                None
            }
        }
    }

    async fn try_resume(
        self: &Arc<Self>,
        connect: &Connect<Self>,
        request: &Request,
        private: PrivateId,
        caller: &Caller,
    ) -> Result<Resumed, NotRecovered> {
        let offset = match &request.offset {
            Given::None => Offset::default(),
            Given::Offset(offset) => offset.clone(),
            Given::Invalid => return Err(NotRecovered::Offset),
        };
        if let Some(anywhere) = self.anywhere() {
            return Box::pin(self.resume_anywhere(anywhere, connect, offset, private, caller)).await;
        }
        let offset = self.services.rooms.log.position(&offset).map_err(|_| NotRecovered::Offset)?;
        let mut contest = Contest::new();
        let (claim, _coming) = loop {
            if let Some(coming) = self.recovery.sessions.come_back(private)
                && let Some(claim) = self.claim(private, caller, contest.is_on)?
            {
                break (claim, coming);
            }
            contest.wait().await?;
        };
        let away = claim.away().await?;
        let not_recovered = match away.adapter.resume(away.id, &connect.socket, offset).await {
            // Nothing has read the ids of the new socket yet.
            Ok(Some(missed)) if connect.resume(away.public, away.private) => return Ok(Resumed { away, missed }),
            Ok(_) => NotRecovered::Unknown,
            Err(Gap::Dropped | Gap::Writing) => NotRecovered::Log,
        };
        self.end_away(*away).await;
        Err(not_recovered)
    }

    /// None: another connection has it.
    fn claim(&self, private: PrivateId, caller: &Caller, is_contested: bool) -> Result<Option<Claim>, NotRecovered> {
        let sessions = &self.recovery.sessions;
        let before = match sessions.caller(private) {
            Some(before) => before,
            // The other connection may not be done yet.
            None if is_contested => return Ok(None),
            None => return Err(NotRecovered::Unknown),
        };
        may_resume(&before, caller)?;
        let may_claim = if is_contested { sessions.is_away(private) } else { sessions.may_claim(private) };
        Ok(if may_claim { sessions.claim(private) } else { None })
    }

    /// The names of plugins, which outlive their ids.
    pub(super) fn names_of(&self, plugins: &[u32]) -> Vec<String> {
        let named = self.registry.deployed_plugins().into_iter().filter(|deployed| plugins.contains(&deployed.id));
        named.map(|deployed| deployed.name.to_string()).collect()
    }

    fn ids_of(&self, plugins: &[String]) -> SmallVec<[u32; 2]> {
        let id = |name: &String| Some(self.registry.deployed(&PluginName::parse(name).ok()?)?.id);
        plugins.iter().filter_map(id).collect()
    }

    /// Ends a socket that does not come back.
    pub(super) async fn end_away(&self, away: Away) {
        let _telling = self.sockets.begin_disconnect();
        self.services.rooms.forget(&away.adapter, away.id);
        if let Some(Anywhere { sockets, .. }) = self.anywhere() {
            sockets.forget(away.id, true);
        }
        notify_plugins(self, &away.caller, away.cause).await;
    }

    /// Ends the sockets whose windows have ended, or all that are away.
    pub(super) async fn end_windows(&self, all: bool) {
        let _telling = self.sockets.begin_disconnect();
        let ended = self.recovery.sessions.ended(self.services.clock.steady_ms(), all);
        futures_util::stream::iter(ended).for_each_concurrent(ENDING, |(away, _)| self.end_away(*away)).await;
    }
}

impl Claim {
    /// Closes the old connection, if it counts as open, and waits until its socket is away.
    async fn away(self) -> Result<Box<Away>, NotRecovered> {
        match self {
            Self::Away(away) => Ok(away),
            Self::Connected(session, gone) => {
                session.end("resumed");
                drop(session);
                match timeout(OLD_CONNECTION, gone).await {
                    Ok(gone) => gone.map_err(|_| NotRecovered::Unknown),
                    Err(_) => Err(NotRecovered::Busy),
                }
            }
        }
    }
}

/// Checked before a socket is claimed: a stolen id must change nothing for its client.
fn may_resume(before: &Caller, caller: &Caller) -> Result<(), NotRecovered> {
    if before.namespace != caller.namespace {
        return Err(NotRecovered::Unknown);
    }
    let is_same_user = match (&before.user, &caller.user) {
        (Some(one), Some(other)) => (&one.id, &one.tenant) == (&other.id, &other.tenant),
        (None, None) => true,
        _ => false,
    };
    if is_same_user { Ok(()) } else { Err(NotRecovered::OtherUser) }
}

/// Ends sockets at the end of their windows.
pub(super) async fn run(gateway: Arc<Gateway>) {
    let sessions = &gateway.recovery.sessions;
    loop {
        let now_ms = gateway.services.clock.steady_ms();
        match sessions.next_end() {
            Some(end_ms) => drop(timeout(Duration::from_millis(end_ms.saturating_sub(now_ms)), sessions.sooner()).await),
            None => sessions.sooner().await,
        }
        gateway.end_windows(false).await;
    }
}

/// Drops what is no longer in the log.
pub(super) async fn sweep(gateway: Arc<Gateway>) {
    loop {
        sleep(SWEEP_INTERVAL).await;
        gateway.services.rooms.sweep();
        if let Some(Anywhere { logs, .. }) = gateway.anywhere() {
            logs.drop_unused();
        }
    }
}

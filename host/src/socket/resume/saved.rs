//! The sockets that are away and the log, stored at a planned stop and taken over by the next start.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use hubbub_wire::{PrivateId, SocketId as PublicId};
use serde::{Deserialize, Serialize};

use super::sessions::Away;
use crate::names::SocketId;
use crate::presence::Track;
use crate::recovery::log;
use crate::rooms::adapter::Adapter;
use crate::rooms::members::away::Saved as SavedNamespace;
use crate::sandbox::exports::{Caller, DisconnectReason};
use crate::socket::Gateway;
use crate::socket::session::disconnect::DisconnectCause;

/// The beginning of the names of the parts.
const NAME: &str = "recovery/";

/// Bytes of a part.
const PART: usize = 16 << 20;

/// The most parts that are read.
const MAX_PARTS: usize = 1024;

/// Changes with the stored form: another one is ignored.
const VERSION: u32 = 2;

#[derive(Serialize, Deserialize)]
struct Saved {
    version: u32,
    /// By the wall clock.
    at_ms: u64,
    log: log::Saved,
    namespaces: BTreeMap<String, SavedNamespace>,
    sockets: Vec<SavedSocket>,
}

#[derive(Serialize, Deserialize)]
struct SavedSocket {
    id: SocketId,
    public: String,
    private: String,
    caller: Arc<Caller>,
    /// The names of the plugins.
    connected: Vec<String>,
    tracks: Vec<Track>,
    cause: DisconnectReason,
    /// The time that is left of its window.
    left_ms: u64,
}

impl Gateway {
    /// Whether a stop stores the sockets that are away, so that the next start brings them back. In a cluster clients come back to another
    /// node.
    pub fn saves_sockets(&self) -> bool {
        self.services.rooms.peers.is_none()
    }

    /// Stores the sockets that are away and the log. The last step of a stop, when no client is connected any more.
    ///
    /// # Errors
    /// Storage refuses. Nothing is stored then.
    pub async fn save_sockets(&self) -> anyhow::Result<()> {
        if !self.saves_sockets() {
            // In a cluster the log has them.
            self.services.rooms.written().await;
            return Ok(());
        }
        let services = &self.services;
        let away = self.recovery.sessions.ended(0, true);
        if away.is_empty() {
            return Ok(());
        }
        let adapters = services.rooms.all();
        let bytes = {
            let sockets = away.iter().map(|(away, until_ms)| self.saved(away, *until_ms)).collect();
            let namespaces = adapters.iter().filter_map(|adapter| Some((adapter.path().to_string(), adapter.save()?))).collect();
            let saved =
                Saved { version: VERSION, at_ms: services.clock.now_ms(), log: services.rooms.log.save(), namespaces, sockets };
            postcard::to_allocvec(&saved).context("the sockets that are away have no stored form")?
        };
        let part = |(number, part): (usize, &[u8])| (format!("{NAME}{number:04}"), Some(Bytes::copy_from_slice(part)));
        services.storage.put_blobs(bytes.chunks(PART).enumerate().map(part).collect()).await?;
        tracing::info!(sockets = away.len(), bytes = bytes.len(), "clients can come back to their sockets after the next start");
        Ok(())
    }

    fn saved(&self, away: &Away, until_ms: u64) -> SavedSocket {
        SavedSocket {
            id: away.id,
            public: away.public.to_string(),
            private: away.private.to_string(),
            caller: away.caller.clone(),
            connected: self.names_of(&away.connected),
            tracks: away.tracks.clone(),
            cause: away.cause.reason(),
            left_ms: until_ms.saturating_sub(self.services.clock.steady_ms()),
        }
    }

    /// Takes over what the last stop has stored, and removes it: a crash must not bring it back once more. Called after the plugins are
    /// live and before the first client connects.
    ///
    /// # Errors
    /// It cannot be read. It is removed then, if storage answers.
    pub async fn restore_sockets(&self) -> anyhow::Result<()> {
        let storage = &self.services.storage;
        let names = storage.blobs(NAME, MAX_PARTS).await?;
        let mut bytes = Vec::new();
        for name in &names {
            bytes.extend_from_slice(&storage.blob(name).await?.context("a part of it is missing")?);
        }
        storage.put_blobs(names.into_iter().map(|name| (name, None)).collect()).await?;
        if bytes.is_empty() || !self.saves_sockets() || self.recovery.config.window.is_zero() {
            return Ok(());
        }
        let saved: Saved = postcard::from_bytes(&bytes)?;
        if saved.version != VERSION {
            bail!("it has version {}, and this is version {VERSION}", saved.version);
        }
        let (clock, rooms) = (&self.services.clock, &self.services.rooms);
        let age_ms = clock.now_ms().saturating_sub(saved.at_ms);
        rooms.log.restore(saved.log, Duration::from_millis(age_ms));
        let adapters: BTreeMap<_, _> =
            saved.namespaces.into_iter().map(|(path, namespace)| (path.clone(), rooms.restore(&path, namespace))).collect();
        let count = saved.sockets.len();
        for socket in saved.sockets {
            let Some(adapter) = adapters.get(&socket.caller.namespace) else { continue };
            let until_ms = clock.steady_ms() + socket.left_ms.saturating_sub(age_ms);
            let Some(away) = self.restored(socket, adapter.clone()) else { continue };
            self.recovery.sessions.away(Box::new(away), until_ms, usize::MAX);
        }
        tracing::info!(sockets = count, "clients can come back to the sockets that they had before the stop");
        Ok(())
    }

    fn restored(&self, saved: SavedSocket, adapter: Arc<Adapter>) -> Option<Away> {
        Some(Away {
            id: saved.id,
            public: PublicId::parse(&saved.public)?,
            private: PrivateId::parse(&saved.private)?,
            connected: self.ids_of(&saved.connected),
            tracks: saved.tracks,
            caller: saved.caller,
            adapter,
            cause: DisconnectCause::restored(saved.cause),
        })
    }
}

//! `presence.wit`: tracks are collected; lists and counts are read, over all nodes while the cluster answers. A call sees its own
//! tracks.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::presence_store::Entry;
use crate::json;
use crate::names::{self, SEPARATOR};
use crate::presence::{Group, Track, key_of};
use crate::sandbox::imports::presence::{Host, Member, Status};
use crate::sandbox::imports::types::EffectError;
use crate::transaction::effects::Live;
use crate::transaction::profile::Tenancy;
use crate::transaction::state::{State, invalid_name};

/// The most bytes of a key's metadata.
const MAX_META: usize = 4 << 10;

/// The most members that one `list` returns.
const MAX_LIST: u32 = 1000;

type Answer<T> = wasmtime::Result<Result<T, EffectError>>;

impl Host for State {
    fn track(&mut self, group: String, key: String, status: Status, meta: String) -> Answer<()> {
        if let Err(refused) = self.effect(group.len() + key.len() + meta.len())? {
            return Ok(Err(refused));
        }
        let track = (|| {
            let socket = self.caller()?.socket;
            names::check("group", &group).and_then(|()| names::check("key", &key)).map_err(invalid_name)?;
            json::check(&meta).map_err(|e| EffectError::InvalidJson(e.to_string()))?;
            if meta.len() > MAX_META {
                return Err(EffectError::Denied(format!("metadata has at most {MAX_META} bytes")));
            }
            let (tenant, key) = (self.scope()?.map(str::to_owned), self.key(key)?);
            Ok(Track {
                socket,
                plugin: self.profile.name.clone(),
                tenant,
                group,
                key,
                status,
                meta,
                user: self.call.user().map(Into::into),
            })
        })();
        Ok(track.map(|track| self.call.effects.live.push(Live::Track(track))))
    }

    fn heartbeat(&mut self) -> Answer<()> {
        if let Err(refused) = self.effect(0)? {
            return Ok(Err(refused));
        }
        let socket = self.caller().map(|caller| caller.socket);
        Ok(socket.map(|socket| self.call.effects.live.push(Live::Heartbeat { socket })))
    }

    fn untrack(&mut self, group: String, key: String) -> Answer<()> {
        if let Err(refused) = self.effect(group.len() + key.len())? {
            return Ok(Err(refused));
        }
        let live = self.caller().map(|caller| caller.socket).and_then(|socket| {
            let (tenant, key) = (self.scope()?.map(str::to_owned), self.key(key)?);
            Ok(Live::Untrack { socket, plugin: self.profile.name.clone(), tenant, group, key })
        });
        Ok(live.map(|live| self.call.effects.live.push(live)))
    }

    async fn list(&mut self, group: String, after: String, limit: u32) -> Answer<Vec<Member>> {
        self.import()?;
        let limit = limit.clamp(1, MAX_LIST) as usize;
        Ok(self.members(&group, &after, limit).await)
    }

    async fn count(&mut self, group: String) -> Answer<u64> {
        self.import()?;
        Ok(self.member_count(&group).await)
    }
}

impl State {
    fn group(&self, group: &str) -> Result<Group, EffectError> {
        let tenant = self.scope()?.map(str::to_owned);
        Ok(Group { plugin: self.profile.name.clone(), tenant, group: group.to_owned() })
    }

    /// A key as stored. In a group that all tenants share, it includes the call's tenant.
    fn key(&self, key: String) -> Result<String, EffectError> {
        Ok(match self.tenant()?.filter(|_| self.profile.tenancy == Tenancy::None) {
            Some(tenant) => format!("{key}{SEPARATOR}{tenant}"),
            None => key,
        })
    }

    /// Members by key, with the call's own pending tracks.
    async fn members(&self, group: &str, after: &str, limit: usize) -> Result<Vec<Member>, EffectError> {
        let id = self.group(group)?;
        // This skips the keys of all tenants that have the name `after`.
        let after = &if after.is_empty() { String::new() } else { format!("{after}{SEPARATOR}{}", char::MAX) };
        let mut members: BTreeMap<String, Member> = BTreeMap::new();
        let mut answered = false;
        if let Some(cluster) = &self.services.cluster
            && let Ok(entries) = cluster.presence_store.list(&id.to_string(), after, limit).await
        {
            answered = true;
            members.extend(entries.into_iter().filter_map(|entry| Some((entry.key.clone(), member(entry)?))));
        }
        // This node's statuses may not have reached Redis yet, and are the only ones if Redis does not answer. A key that waits
        // for a reconnect is in the answer of Redis already, unless its user has reconnected to another node and left there.
        for mine in self.services.presences.list(&id, after, limit, !answered) {
            let known = members.entry(mine.key.clone()).or_insert_with(|| mine.clone());
            if mine.status == Status::Online {
                known.status = Status::Online;
            }
            known.meta = mine.meta;
        }
        for live in &self.call.effects.live {
            match live {
                Live::Track(track) if track.group == group && track.key > *after => {
                    let since = self.call.now_ms;
                    let member = members.entry(track.key.clone());
                    let member = member.or_insert_with(|| Member {
                        key: track.key.clone(),
                        status: track.status,
                        meta: String::new(),
                        since,
                    });
                    member.meta.clone_from(&track.meta);
                }
                _ => {}
            }
        }
        let bare = |member: Member| Member { key: key_of(&member.key).0.to_owned(), ..member };
        Ok(members.into_values().take(limit).map(bare).collect())
    }

    async fn member_count(&self, group: &str) -> Result<u64, EffectError> {
        let (presences, id) = (&self.services.presences, self.group(group)?);
        let pending: BTreeSet<&str> = self
            .call
            .effects
            .live
            .iter()
            .filter_map(|live| match live {
                Live::Track(track) if track.group == group => Some(track.key.as_str()),
                _ => None,
            })
            .filter(|key| !presences.has(&id, key))
            .collect();
        let elsewhere = match &self.services.cluster {
            Some(cluster) => cluster.presence_store.count(&id.to_string()).await.ok(),
            None => None,
        };
        let here = presences.count(&id, elsewhere.is_none()) as u64;
        Ok(here.max(elsewhere.unwrap_or(0)) + pending.len() as u64)
    }
}

/// A member of the merged presence of all nodes.
fn member(entry: Entry) -> Option<Member> {
    let status = match entry.status {
        "online" => Status::Online,
        "away" => Status::Away,
        _ => return None,
    };
    Some(Member { key: entry.key, status, meta: entry.meta, since: entry.since_ms })
}

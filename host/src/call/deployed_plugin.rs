//! A plugin's current releases: the live one, the one on trial, and the state that operators see. Readers take no lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use arc_swap::ArcSwapOption;

use super::breaker::Quarantined;
use super::canary::Canary;
use super::key::Key;
use super::observers::Observers;
use super::release::Release;
use crate::names::PluginName;
use crate::rate::Meter;

/// A name under which plugins are deployed. It outlives its releases.
pub struct DeployedPlugin {
    pub name: PluginName,
    /// Its number, with which sockets remember the plugins they have connected to.
    pub id: u32,
    pub(crate) live: ArcSwapOption<Release>,
    /// A release on trial beside the live one.
    pub(crate) canary: ArcSwapOption<Canary>,
    /// The rate meter of events from clients.
    pub pace: Meter,
    /// Observers of its calls.
    pub observers: Observers,
    pub(crate) disabled: AtomicBool,
    /// Whether it is stopped while its data moves.
    pub(crate) moving: AtomicBool,
    /// Counts how often it has subscribed to new topics: rows of the outbox that it skipped are for it now.
    pub(crate) rereads: AtomicU32,
    /// Calls that run or commit.
    running: AtomicUsize,
}

impl DeployedPlugin {
    pub(crate) fn new(name: PluginName, id: u32) -> Self {
        Self {
            name,
            id,
            live: ArcSwapOption::empty(),
            canary: ArcSwapOption::empty(),
            pace: Meter::default(),
            observers: Observers::default(),
            disabled: false.into(),
            moving: false.into(),
            rereads: 0.into(),
            running: 0.into(),
        }
    }

    /// The live release. None: the plugin is disabled or has never been staged.
    pub fn live(&self) -> Option<Arc<Release>> {
        if self.is_disabled() { None } else { self.live.load_full() }
    }

    /// Whether an operator has stopped it.
    pub fn is_disabled(&self) -> bool {
        // Sequentially consistent with the count of calls: once this is set and no call is counted, no call begins.
        self.disabled.load(Ordering::SeqCst)
    }

    /// Counts a call until the guard is dropped. Must be called before the release is picked.
    pub fn begin_call(&self) -> Running<'_> {
        self.running.fetch_add(1, Ordering::SeqCst);
        Running(&self.running)
    }

    /// Calls that run or commit.
    pub fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    /// Changes when the plugin must read the outbox from its start.
    pub fn rereads(&self) -> u32 {
        self.rereads.load(Ordering::Acquire)
    }

    /// Whether it has a release, active or on trial.
    pub fn is_deployed(&self) -> bool {
        self.live.load().is_some() || self.canary.load().is_some()
    }

    /// Whether its data is moving to another plugin, on any node.
    pub fn is_moving(&self) -> bool {
        self.moving.load(Ordering::Acquire)
    }

    /// The state that operators see.
    pub fn state(&self) -> &'static str {
        match self.live() {
            Some(release) if release.breakers.refuses_clients() => "quarantined",
            Some(_) => "active",
            None if self.is_disabled() => "disabled",
            None => "unavailable",
        }
    }

    /// The installed release, also while the plugin is disabled.
    pub fn installed(&self) -> Option<Arc<Release>> {
        self.live.load_full()
    }

    /// The release that serves a call: the canary if it serves the call's key and handles the event.
    pub fn pick(&self, key: Key<'_>, event: Option<&str>) -> Option<Arc<Release>> {
        let canary = self.canary.load();
        if let Some(canary) = canary.as_ref()
            && canary.serves(key)
            && event.is_none_or(|event| canary.release.manifest.events.iter().any(|handled| handled.name == event))
            && !self.is_disabled()
        {
            return Some(canary.release.clone());
        }
        drop(canary);
        self.live()
    }

    /// The quarantined sources of the installed release.
    pub fn quarantined(&self) -> Vec<Quarantined> {
        self.installed().map(|release| release.breakers.quarantined()).unwrap_or_default()
    }

    /// The canary that serves a call's key, if there is one.
    pub fn canary_for(&self, key: Key<'_>) -> Option<Arc<Canary>> {
        self.canary().filter(|canary| canary.serves(key))
    }

    /// The name of the serving release in log lines: `plugin@version`.
    pub fn label(&self) -> String {
        let live = self.live.load();
        let version = live.as_ref().map_or("-", |release| release.manifest.version.as_str());
        format!("{}@{version}", self.name)
    }

    /// The current trial, if there is one.
    pub fn canary(&self) -> Option<Arc<Canary>> {
        self.canary.load_full()
    }
}

/// A running call.
pub struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

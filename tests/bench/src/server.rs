//! The compared servers and how each is started. It must never start one differently from round to round.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::ValueEnum;
use serde::Serialize;

use crate::child::{Child, free_addr};
use crate::hubbub::Hubbub;
use crate::{bun, floor, native, node};

/// Hubbub builds and compiles its plugins at its first start.
const HUBBUB_LIMIT: Duration = Duration::from_secs(180);
const RIVAL_LIMIT: Duration = Duration::from_secs(20);

/// One server; the order is that of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Hubbub, with the chat as a sandboxed plugin.
    Hubbub,
    /// Socketioxide, with the chat as native handlers.
    Native,
    /// Socket.IO on Node.
    Node,
    /// Socket.IO on Bun, with Bun's engine.
    Bun,
    /// One write() for each member and nothing else.
    Floor,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [Self::Hubbub, Self::Native, Self::Node, Self::Bun, Self::Floor];
    pub(crate) const RIVALS: [Self; 4] = [Self::Native, Self::Node, Self::Bun, Self::Floor];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hubbub => "hubbub",
            Self::Native => "native",
            Self::Node => "node",
            Self::Bun => "bun",
            Self::Floor => "floor",
        }
    }
}

/// A server's addresses and data, which are the same for its next start, and whether it has connection state recovery.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site {
    pub(crate) addr: SocketAddr,
    /// Only Hubbub has one.
    pub(crate) admin: SocketAddr,
    pub(crate) recovery: bool,
}

impl Site {
    pub(crate) fn new(recovery: bool) -> Result<Self> {
        Ok(Self { addr: free_addr()?, admin: free_addr()?, recovery })
    }
}

/// Starts servers for one run, all in one folder.
pub(crate) struct Starter<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) hubbub: &'a Hubbub,
    pub(crate) stop: &'a Arc<AtomicBool>,
}

impl Starter<'_> {
    /// # Errors
    /// It cannot be started or does not answer.
    pub(crate) fn start(&self, kind: Kind, compared: bool) -> Result<Child> {
        let addr = free_addr()?;
        let limit = if kind == Kind::Hubbub { HUBBUB_LIMIT } else { RIVAL_LIMIT };
        let log = self.folder.join(format!("{}.log", kind.name()));
        Child::start(self.command(kind, addr, compared)?, addr, log, limit, self.stop)
    }

    /// Starts a server with the rivals' features only, with or without connection state recovery, and with the site's own data.
    ///
    /// # Errors
    /// It cannot be started, does not answer, or has no such recovery.
    pub(crate) fn start_at(&self, kind: Kind, site: &Site) -> Result<Child> {
        // Another site's sessions and log must not be restored.
        let name = format!("{}-{}", kind.name(), site.addr.port());
        let (mut command, limit) = match kind {
            Kind::Hubbub => {
                let mut command = self.hubbub.command(site.addr, site.admin, &self.folder.join(&name), true)?;
                command.env("HUBBUB_RECOVERY__WINDOW", if site.recovery { "2m" } else { "0s" });
                (command, HUBBUB_LIMIT)
            }
            Kind::Node => (node::command(site.addr), RIVAL_LIMIT),
            Kind::Native | Kind::Bun | Kind::Floor => bail!("{} is not measured with recovery", kind.name()),
        };
        if site.recovery {
            command.env("RECOVERY", "1");
        }
        Child::start(command, site.addr, self.folder.join(format!("{name}.log")), limit, self.stop)
    }

    /// Starts one of several nodes on one Redis, each with its own data.
    ///
    /// # Errors
    /// It cannot be started, does not answer, or has no support for nodes.
    pub(crate) fn start_node(&self, kind: Kind, node: usize, redis: SocketAddr) -> Result<Child> {
        let addr = free_addr()?;
        let limit = if kind == Kind::Hubbub { HUBBUB_LIMIT } else { RIVAL_LIMIT };
        let name = format!("{}-{node}", kind.name());
        let mut command = match kind {
            Kind::Hubbub => self.hubbub.command(addr, free_addr()?, &self.folder.join(&name), true)?,
            Kind::Node => node::command(addr),
            Kind::Native | Kind::Bun | Kind::Floor => bail!("{} does not run as several nodes", kind.name()),
        };
        command.env("REDIS_URL", format!("redis://{redis}"));
        Child::start(command, addr, self.folder.join(format!("{name}.log")), limit, self.stop)
    }

    fn command(&self, kind: Kind, addr: SocketAddr, compared: bool) -> Result<Command> {
        match kind {
            Kind::Hubbub => self.hubbub.command(addr, free_addr()?, &self.folder.join("hubbub"), compared),
            Kind::Native => native::command(addr),
            Kind::Node => Ok(node::command(addr)),
            Kind::Bun => bun::command(addr),
            Kind::Floor => floor::command(addr),
        }
    }
}

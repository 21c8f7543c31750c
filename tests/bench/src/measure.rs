//! The measures: their list, their sizes and their results. It must never print.

mod acked;
mod avalanche;
mod churn;
mod cluster;
mod connect;
mod delivery;
mod idle;
mod jitter;
mod mixed;
mod received;
mod recovery;
mod stored;
mod views;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;

use crate::child::Child;
use crate::client::{Swarm, Target};
use crate::clock::{MILLI, SECOND};
use crate::server::{Kind, Starter};
use crate::token;

/// The size and duration of the measures.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    pub(crate) rounds: usize,
    /// No new work starts after this many seconds of the run.
    pub(crate) seconds: u64,
    /// Warm-up load before the measurement, in ns.
    warm: u64,
    /// Duration of a measure of steady load, in ns.
    steady: u64,
    /// Duration of each closed loop, in ns.
    closed: u64,
    /// Connects of each measured window.
    connects: usize,
    /// Connections at which memory is measured, ascending.
    idle: [usize; 3],
    /// Duration of each scene of jitter, in ns.
    jitter: u64,
    /// Scenes of jitter with more clients are skipped.
    jitter_clients: usize,
    /// The mean time between two cuts of a client, in ns.
    pub(crate) cut_every: u64,
    /// Clients that come back at once.
    avalanche: usize,
    /// Windows with recovery, each beside one without.
    pairs: usize,
}

impl Scale {
    pub(crate) const FULL: Self = Self {
        rounds: 3,
        seconds: 3600,
        warm: 2000 * MILLI,
        steady: 6000 * MILLI,
        closed: 3000 * MILLI,
        connects: 2000,
        idle: [1000, 5000, 15_000],
        jitter: 45 * SECOND,
        jitter_clients: 2000,
        cut_every: 15 * SECOND,
        avalanche: 5000,
        pairs: 19,
    };
    pub(crate) const QUICK: Self = Self {
        rounds: 1,
        seconds: 170,
        warm: 500 * MILLI,
        steady: 2000 * MILLI,
        closed: 1000 * MILLI,
        connects: 1000,
        idle: [500, 1000, 2000],
        jitter: 20 * SECOND,
        jitter_clients: 150,
        cut_every: 15 * SECOND,
        avalanche: 500,
        pairs: 5,
    };
}

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Metric {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    pub(crate) unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Microseconds.
    Micros,
    /// Kilobytes of 1024.
    Kilobytes,
    PerSecond,
    Seconds,
    /// Counts of faults. They are summed over the rounds; for everything else the median is used.
    Faults,
    /// Percent of one core.
    Percent,
    /// A multiple of another metric.
    Times,
}

pub(crate) type Sample = (&'static Metric, f64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    Delivery,
    Acked,
    Connect,
    Idle,
    Stored,
    Mixed,
    Views,
    Churn,
    Jitter,
    Avalanche,
    Recovery,
    Cluster,
}

impl Measure {
    pub(crate) const ALL: [Self; 12] = [
        Self::Delivery,
        Self::Acked,
        Self::Connect,
        Self::Idle,
        Self::Stored,
        Self::Mixed,
        Self::Views,
        Self::Churn,
        Self::Jitter,
        Self::Avalanche,
        Self::Recovery,
        Self::Cluster,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Delivery => "delivery",
            Self::Acked => "acked",
            Self::Connect => "connect",
            Self::Idle => "idle",
            Self::Stored => "stored",
            Self::Mixed => "mixed",
            Self::Views => "views",
            Self::Churn => "churn",
            Self::Jitter => "jitter",
            Self::Avalanche => "avalanche",
            Self::Recovery => "recovery",
            Self::Cluster => "cluster",
        }
    }

    pub(crate) fn metrics(self) -> &'static [Metric] {
        match self {
            Self::Delivery => &delivery::METRICS,
            Self::Acked => &acked::METRICS,
            Self::Connect => &connect::METRICS,
            Self::Idle => &idle::METRICS,
            Self::Stored => &stored::METRICS,
            Self::Mixed => &mixed::METRICS,
            Self::Views => &views::METRICS,
            Self::Churn => &churn::METRICS,
            Self::Jitter => jitter::metrics(),
            Self::Avalanche => &avalanche::METRICS,
            Self::Recovery => &recovery::METRICS,
            Self::Cluster => cluster::metrics(),
        }
    }

    /// Rivals have only the live chat: their database and other domains would be their author's choice.
    pub(crate) fn fits(self, kind: Kind) -> bool {
        match self {
            Self::Jitter | Self::Avalanche | Self::Cluster => matches!(kind, Kind::Hubbub | Kind::Node),
            _ => self.is_compared() || kind == Kind::Hubbub,
        }
    }

    /// Whether it belongs to a quick run: the others take minutes of their own.
    pub(crate) fn is_quick(self) -> bool {
        !self.starts_servers()
    }

    /// Whether only the first round takes it: it counts faults, and takes minutes.
    pub(crate) fn is_once(self) -> bool {
        self == Self::Jitter
    }

    /// Whether it starts servers of its own.
    fn starts_servers(self) -> bool {
        matches!(self, Self::Jitter | Self::Avalanche | Self::Recovery | Self::Cluster)
    }

    /// Whether rivals are measured too. Then Hubbub has no more plugins than they have handlers.
    pub(crate) fn is_compared(self) -> bool {
        matches!(self, Self::Delivery | Self::Acked | Self::Connect | Self::Idle)
    }

    /// # Errors
    /// A client was refused, closed or not answered, so that no result can be trusted.
    pub(crate) fn run(self, kind: Kind, scale: Scale, starter: &Starter<'_>) -> Result<Vec<Sample>> {
        match self {
            Self::Jitter => return jitter::run(kind, scale, starter),
            Self::Avalanche => return avalanche::run(kind, scale, starter),
            Self::Recovery => return recovery::run(kind, scale, starter),
            Self::Cluster => return cluster::run(kind, scale, starter),
            _ => {}
        }
        let child = starter.start(kind, self.is_compared())?;
        let bench = Bench { child: &child, scale, folder: starter.folder, stop: starter.stop };
        self.of(&bench).with_context(|| format!("the end of the server's log: {:?}", child.tail()))
    }

    fn of(self, bench: &Bench<'_>) -> Result<Vec<Sample>> {
        match self {
            Self::Delivery => delivery::run(bench),
            Self::Acked => acked::run(bench),
            Self::Connect => connect::run(bench),
            Self::Idle => idle::run(bench),
            Self::Stored => stored::run(bench),
            Self::Mixed => mixed::run(bench),
            Self::Views => views::run(bench),
            Self::Churn => churn::run(bench),
            Self::Jitter | Self::Avalanche | Self::Recovery | Self::Cluster => bail!("it starts its own servers"),
        }
    }
}

/// The context of a measure: one freshly started server.
struct Bench<'a> {
    child: &'a Child,
    scale: Scale,
    /// A folder on the same disk as the server's data.
    folder: &'a Path,
    stop: &'a Arc<AtomicBool>,
}

impl Bench<'_> {
    fn swarm(&self) -> Result<Swarm> {
        Swarm::new(self.stop)
    }
}

/// Targets for `count` users of `namespace`, with tokens signed beforehand.
fn targets(namespace: &'static str, count: usize) -> Result<Vec<Target>> {
    (0..count).map(|index| Ok(Target { namespace, token: token::sign(index)? })).collect()
}

/// A histogram of nanoseconds with three exact digits, from 1 µs to 60 s.
pub(crate) struct Latency(Histogram<u64>);

impl Latency {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1000, 60_000_000_000, 3)?))
    }

    pub(crate) fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }

    fn micros(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1000.0
    }
}

/// CPU time of the server and the generator between two moments.
struct Meter<'a> {
    child: &'a Child,
    server: Duration,
    own: Duration,
    idled: Duration,
    began: u64,
}

impl<'a> Meter<'a> {
    fn start(child: &'a Child) -> Result<Self> {
        Ok(Self { child, server: child.cpu()?, own: own_cpu()?, idled: idled()?, began: crate::clock::now() })
    }

    /// Microseconds of the server's CPU per item of `count`.
    fn micros_each(&self, count: u64) -> Result<f64> {
        Ok((self.child.cpu()? - self.server).as_secs_f64() * 1e6 / count.max(1) as f64)
    }

    /// Percent of a core used by the generator. Near 100, its own queueing is part of every latency.
    fn generator(&self) -> Result<f64> {
        Ok(self.percent(own_cpu()? - self.own))
    }

    /// Percent of a core used by neither the server nor the generator. More than a few percent is other work, which affects every
    /// latency.
    fn others(&self) -> Result<f64> {
        let cores = std::thread::available_parallelism()?.get() as u32;
        let wall = Duration::from_nanos(crate::clock::now() - self.began);
        let known = self.child.cpu()? - self.server + (own_cpu()? - self.own) + (idled()? - self.idled);
        Ok(self.percent((wall * cores).saturating_sub(known)))
    }

    fn percent(&self, cpu: Duration) -> f64 {
        cpu.as_nanos() as f64 * 100.0 / (crate::clock::now() - self.began) as f64
    }
}

/// The idle time of all cores. The kernel counts it exactly, but only samples the busy time.
fn idled() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("/proc/stat is empty")?;
    // user, nice, system, idle, iowait, in ticks of 10 ms.
    let ticks = line.split_whitespace().skip(4).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
}

fn own_cpu() -> Result<Duration> {
    Ok(nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID)?.into())
}

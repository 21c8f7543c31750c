//! Connects: TCP, websocket, and CONNECT with a signed token. Measures a connect's CPU cost and latency, paced as on a working
//! day, where most of it is wake-ups, and in a burst, as after an outage, where it is the server's own work. It must never reuse
//! a user: a server that caches a token's check would win.

use anyhow::Result;

use super::{Bench, Meter, Metric, Sample, Unit, targets};

const PER_SECOND: f64 = 500.0;

pub(super) static METRICS: [Metric; 5] = [
    Metric { id: "cpu_connect", title: "CPU a connect, 500/s", unit: Unit::Micros },
    Metric { id: "cpu_connect_burst", title: "CPU a connect, burst", unit: Unit::Micros },
    Metric { id: "connect_p50", title: "connect p50", unit: Unit::Micros },
    Metric { id: "connect_p99", title: "connect p99", unit: Unit::Micros },
    Metric { id: "connect_others", title: "CPU of other processes", unit: Unit::Percent },
];

pub(super) fn run(bench: &Bench<'_>) -> Result<Vec<Sample>> {
    let connects = bench.scale.connects;
    // Each measured window follows connects at its own pace. The first of all pay one-time costs: late compilation and growing
    // memory.
    let (first, warm) = (connects / 2, connects / 8);
    let mut targets = targets("/", first + 2 * (warm + connects))?.into_iter();
    let mut swarm = bench.swarm()?;
    let mut open = |count, pace| swarm.open(bench.child.addr, targets.by_ref().take(count), pace);
    open(first, None)?;
    open(warm, Some(PER_SECOND))?;
    let meter = Meter::start(bench.child)?;
    let latency = open(connects, Some(PER_SECOND))?;
    let (cpu, others) = (meter.micros_each(connects as u64)?, meter.others()?);
    open(warm, None)?;
    let meter = Meter::start(bench.child)?;
    open(connects, None)?;
    let values = [cpu, meter.micros_each(connects as u64)?, latency.micros(0.5), latency.micros(0.99), others];
    Ok(METRICS.iter().zip(values).collect())
}

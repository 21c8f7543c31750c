//! Connects: TCP, websocket, and CONNECT with a signed token. Measures a connect's CPU cost and latency, paced as on a working
//! day, where most of it is wake-ups, and in a burst, as after an outage, where it is the server's own work. It must never reuse
//! a user: a server that caches a token's check would win.

use anyhow::Result;

use super::{Bench, Meter, Metric, Sample, Unit, targets};

const CONNECTS: usize = 2000;
const PER_SECOND: f64 = 500.0;

pub(super) static METRICS: [Metric; 4] = [
    Metric { id: "cpu_connect", title: "CPU a connect, 500/s", unit: Unit::Micros },
    Metric { id: "cpu_connect_burst", title: "CPU a connect, burst", unit: Unit::Micros },
    Metric { id: "connect_p50", title: "connect p50", unit: Unit::Micros },
    Metric { id: "connect_p99", title: "connect p99", unit: Unit::Micros },
];

pub(super) fn run(bench: &Bench<'_>) -> Result<Vec<Sample>> {
    // The first connects of a process pay one-time costs: late compilation and growing memory.
    let warm = CONNECTS / 10;
    let mut targets = targets("/", warm + 2 * CONNECTS)?;
    let burst = targets.split_off(warm + CONNECTS);
    let paced = targets.split_off(warm);
    let mut swarm = bench.swarm()?;
    swarm.open(bench.child.addr, targets, Some(PER_SECOND))?;
    let meter = Meter::start(bench.child)?;
    let latency = swarm.open(bench.child.addr, paced, Some(PER_SECOND))?;
    let cpu = meter.micros_each(CONNECTS as u64)?;
    let meter = Meter::start(bench.child)?;
    swarm.open(bench.child.addr, burst, None)?;
    let values = [cpu, meter.micros_each(CONNECTS as u64)?, latency.micros(0.5), latency.micros(0.99)];
    Ok(METRICS.iter().zip(values).collect())
}

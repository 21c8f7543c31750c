//! A message that is acked and not stored, in a room with only its sender: its cost at a low and at a high fixed rate, and the
//! throughput when each client sends again after each ack. It must never hide a refusal: one ends the measure.

use std::collections::VecDeque;

use anyhow::{Context, Result, ensure};

use super::{Bench, Latency, Meter, Metric, Sample, Unit, targets};
use crate::client::{Packet, STEP_LIMIT, Swarm, accepted};
use crate::clock::{MILLI, Pace, SECOND, now};
use crate::stamp;

const CLIENTS: usize = 100;
const LOW_PER_SECOND: f64 = 4000.0;
const PER_SECOND: f64 = 20_000.0;
/// Unanswered messages of one client. If there are more, the client skips its turn, which shows in the reached rate.
const WINDOW: usize = 32;

pub(super) static METRICS: [Metric; 10] = [
    Metric { id: "cpu_acked_4k", title: "CPU an acked message, 4 000/s", unit: Unit::Micros },
    Metric { id: "acked_4k_p50", title: "  ack p50", unit: Unit::Micros },
    Metric { id: "acked_4k_p99", title: "  ack p99", unit: Unit::Micros },
    Metric { id: "cpu_acked", title: "CPU an acked message, 20 000/s", unit: Unit::Micros },
    Metric { id: "acked_rate", title: "  rate reached", unit: Unit::PerSecond },
    Metric { id: "acked_p50", title: "  ack p50", unit: Unit::Micros },
    Metric { id: "acked_p99", title: "  ack p99", unit: Unit::Micros },
    Metric { id: "acked_max_rate", title: "acked messages, closed loop of 100", unit: Unit::PerSecond },
    Metric { id: "acked_max_cpu", title: "  CPU an acked message", unit: Unit::Micros },
    Metric { id: "acked_others", title: "CPU of other processes", unit: Unit::Percent },
];

pub(super) fn run(bench: &Bench<'_>) -> Result<Vec<Sample>> {
    let mut swarm = bench.swarm()?;
    swarm.open(bench.child.addr, targets("/", CLIENTS)?, None)?;
    swarm.ask_all(|index, out| stamp::join(out, index))?;
    swarm.settle(300 * MILLI)?;
    let low = steady(bench, &mut swarm, LOW_PER_SECOND)?;
    let high = steady(bench, &mut swarm, PER_SECOND)?;
    closed(&mut swarm, bench.scale.warm)?;
    let meter = Meter::start(bench.child)?;
    let looped = closed(&mut swarm, bench.scale.closed)?;
    let cpu_looped = meter.micros_each(looped)?;
    let rate_looped = looped as f64 * SECOND as f64 / bench.scale.closed as f64;
    let others = meter.others()?.max(low.others).max(high.others);
    let (low, high) = ([low.cpu, low.p50, low.p99], [high.cpu, high.rate, high.p50, high.p99]);
    let values = low.into_iter().chain(high).chain([rate_looped, cpu_looped, others]);
    Ok(METRICS.iter().zip(values).collect())
}

/// A measured window at one rate.
struct Window {
    cpu: f64,
    /// The rate that was reached.
    rate: f64,
    p50: f64,
    p99: f64,
    others: f64,
}

/// A warm-up and a measured window.
fn steady(bench: &Bench<'_>, swarm: &mut Swarm, per_second: f64) -> Result<Window> {
    fixed(swarm, per_second, bench.scale.warm)?;
    let meter = Meter::start(bench.child)?;
    let (acked, latency) = fixed(swarm, per_second, bench.scale.steady)?;
    let (cpu, others) = (meter.micros_each(acked)?, meter.others()?);
    let rate = acked as f64 * SECOND as f64 / bench.scale.steady as f64;
    Ok(Window { cpu, rate, p50: latency.micros(0.5), p99: latency.micros(0.99), others })
}

/// Sends at a fixed rate for `ns`, waits for the remaining acks and returns their number.
fn fixed(swarm: &mut Swarm, per_second: f64, ns: u64) -> Result<(u64, Latency)> {
    let mut waiting: Vec<VecDeque<u64>> = vec![VecDeque::with_capacity(WINDOW); swarm.len()];
    let (mut acked, mut latency) = (0u64, Latency::new()?);
    let (mut sent, mut turn) = (0u64, 0usize);
    let start = now();
    let mut pace = Pace::per_second(per_second, start);
    while now() < start + ns || acked < sent {
        ensure!(now() < start + ns + STEP_LIMIT, "{} acks are missing", sent - acked);
        let sending = now() < start + ns;
        while sending && pace.due(now()) {
            let index = turn % swarm.len();
            turn += 1;
            if waiting[index].len() < WINDOW {
                let at = now();
                waiting[index].push_back(at);
                swarm.client(index)?.emit(Some(1), |out| stamp::message(out, index, at, 0))?;
                sent += 1;
            }
        }
        let until = if sending { pace.next() } else { start + ns + STEP_LIMIT };
        swarm.turn(until, |client, packet| {
            if let Packet::Ack(_, args) = packet {
                accepted(args)?;
                // The acks of a connection arrive in the order of its messages.
                let at = waiting[client.index].pop_front().context("an unexpected ack")?;
                latency.record(now() - at);
                acked += 1;
            }
            Ok(())
        })?;
    }
    Ok((acked, latency))
}

/// Every client sends, waits for its ack and sends again, for `ns`. Returns the number of acks in that time.
fn closed(swarm: &mut Swarm, ns: u64) -> Result<u64> {
    let (mut acked, mut waiting) = (0u64, swarm.len());
    let end = now() + ns;
    for index in 0..swarm.len() {
        swarm.client(index)?.emit(Some(1), |out| stamp::message(out, index, now(), 0))?;
    }
    while waiting > 0 {
        ensure!(now() < end + STEP_LIMIT, "{waiting} acks are missing");
        swarm.turn(end + STEP_LIMIT, |client, packet| {
            let Packet::Ack(_, args) = packet else { return Ok(()) };
            accepted(args)?;
            if now() < end {
                acked += 1;
                let index = client.index;
                return client.emit(Some(1), |out| stamp::message(out, index, now(), 0));
            }
            waiting -= 1;
            Ok(())
        })?;
    }
    Ok(acked)
}

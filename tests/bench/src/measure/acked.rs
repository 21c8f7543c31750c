//! A message that is acked and not stored, in a room with only its sender: its cost at a fixed rate, and the throughput when each
//! client sends again after each ack. It must never hide a refusal: one ends the measure.

use std::collections::VecDeque;

use anyhow::{Context, Result, ensure};

use super::{Bench, Latency, Meter, Metric, Sample, Unit, targets};
use crate::client::{Packet, STEP_LIMIT, Swarm, accepted};
use crate::clock::{MILLI, Pace, SECOND, now};
use crate::stamp;

const CLIENTS: usize = 100;
const PER_SECOND: f64 = 20_000.0;
/// Unanswered messages of one client. If there are more, the client skips its turn, which shows in the reached rate.
const WINDOW: usize = 32;

pub(super) static METRICS: [Metric; 6] = [
    Metric { id: "cpu_acked", title: "CPU an acked message, 20 000/s", unit: Unit::Micros },
    Metric { id: "acked_rate", title: "rate reached", unit: Unit::PerSecond },
    Metric { id: "acked_p50", title: "ack p50", unit: Unit::Micros },
    Metric { id: "acked_p99", title: "ack p99", unit: Unit::Micros },
    Metric { id: "acked_max_rate", title: "closed loop of 100", unit: Unit::PerSecond },
    Metric { id: "acked_max_cpu", title: "CPU an acked message, closed loop", unit: Unit::Micros },
];

pub(super) fn run(bench: &Bench<'_>) -> Result<Vec<Sample>> {
    let mut swarm = bench.swarm()?;
    swarm.open(bench.child.addr, targets("/", CLIENTS)?, None)?;
    swarm.ask_all(|index, out| stamp::join(out, index))?;
    swarm.settle(300 * MILLI)?;
    fixed(&mut swarm, bench.scale.warm)?;
    let meter = Meter::start(bench.child)?;
    let (acked, latency) = fixed(&mut swarm, bench.scale.steady)?;
    let cpu = meter.micros_each(acked)?;
    let rate = acked as f64 * SECOND as f64 / bench.scale.steady as f64;
    let meter = Meter::start(bench.child)?;
    let looped = closed(&mut swarm, bench.scale.closed)?;
    let cpu_looped = meter.micros_each(looped)?;
    let rate_looped = looped as f64 * SECOND as f64 / bench.scale.closed as f64;
    let values = [cpu, rate, latency.micros(0.5), latency.micros(0.99), rate_looped, cpu_looped];
    Ok(METRICS.iter().zip(values).collect())
}

/// Sends at the fixed rate for `ns`, waits for the remaining acks and returns their number.
fn fixed(swarm: &mut Swarm, ns: u64) -> Result<(u64, Latency)> {
    let mut waiting: Vec<VecDeque<u64>> = vec![VecDeque::with_capacity(WINDOW); swarm.len()];
    let (mut acked, mut latency) = (0u64, Latency::new()?);
    let (mut sent, mut turn) = (0u64, 0usize);
    let start = now();
    let mut pace = Pace::per_second(PER_SECOND, start);
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

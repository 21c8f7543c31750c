//! All event domains at once, each at its own steady rate: the ack latency of each beside all others. It must never let the
//! clients of one domain wait for another's.

use std::collections::VecDeque;

use anyhow::{Context, Result, ensure};

use super::{Bench, Latency, Metric, Sample, Unit};
use crate::client::{Packet, STEP_LIMIT, Swarm, Target, accepted};
use crate::clock::{MILLI, Pace, now};
use crate::{stamp, token};

const CLIENTS: usize = 25;
/// Events per second of each domain.
const PER_SECOND: f64 = 400.0;

/// A domain's event: its namespace, role and content.
struct Domain {
    namespace: &'static str,
    role: &'static str,
    body: fn(&mut Vec<u8>, usize),
}

const DOMAINS: [Domain; 7] = [
    Domain { namespace: "/", role: "USER", body: |out, client| stamp::message(out, client, now(), 0) },
    Domain { namespace: "/", role: "USER", body: |out, _| out.extend_from_slice(br#"["notifications:list",{}]"#) },
    Domain { namespace: "/", role: "USER", body: lesson },
    Domain {
        namespace: "/",
        role: "USER",
        body: |out, _| out.extend_from_slice(br#"["video:progress",{"videoId":"v","timestamp":7}]"#),
    },
    Domain { namespace: "/analytics", role: "USER", body: |out, _| out.extend_from_slice(br#"["analytics:request","week"]"#) },
    Domain { namespace: "/hub", role: "ATTENDANT", body: |out, _| out.extend_from_slice(br#"["heartbeat"]"#) },
    Domain { namespace: "/hub", role: "ATTENDANT", body: |out, _| out.extend_from_slice(br#"["queue:take",{"itemId":"none"}]"#) },
];

pub(super) static METRICS: [Metric; 8] = [
    Metric { id: "mixed_chat", title: "ack p99, mixed load: chat", unit: Unit::Micros },
    Metric { id: "mixed_notifications", title: "  notifications", unit: Unit::Micros },
    Metric { id: "mixed_lessons", title: "  lessons", unit: Unit::Micros },
    Metric { id: "mixed_video", title: "  video", unit: Unit::Micros },
    Metric { id: "mixed_analytics", title: "  analytics", unit: Unit::Micros },
    Metric { id: "mixed_presence", title: "  presence", unit: Unit::Micros },
    Metric { id: "mixed_queue", title: "  queue", unit: Unit::Micros },
    Metric { id: "mixed_worst", title: "the slowest, as a multiple of chat", unit: Unit::Times },
];

/// A report for a lesson of its own: most are saved at once.
fn lesson(out: &mut Vec<u8>, client: usize) {
    let body = format!(r#"["lesson:progress",{{"lessonId":"l{client}","watchedDuration":30,"totalDuration":60}}]"#);
    out.extend_from_slice(body.as_bytes());
}

pub(super) fn run(bench: &Bench<'_>) -> Result<Vec<Sample>> {
    let mut swarm = bench.swarm()?;
    let mut targets = Vec::new();
    for (at, domain) in DOMAINS.iter().enumerate() {
        for client in 0..CLIENTS {
            let token = token::sign_as(at * CLIENTS + client, domain.role, "bench")?;
            targets.push(Target { namespace: domain.namespace, token });
        }
    }
    swarm.open(bench.child.addr, targets, None)?;
    for index in 0..CLIENTS {
        swarm.client(index)?.emit(None, |out| stamp::join(out, index))?;
    }
    swarm.settle(300 * MILLI)?;
    steady(&mut swarm, bench.scale.warm)?;
    let latencies = steady(&mut swarm, bench.scale.steady)?;
    let mut values: Vec<f64> = latencies.iter().map(|latency| latency.micros(0.99)).collect();
    let chat = values[0];
    values.push(values.iter().fold(0.0_f64, |worst, value| worst.max(*value)) / chat);
    Ok(METRICS.iter().zip(values).collect())
}

/// Sends every domain's events at its rate for `ns` and waits for the remaining acks.
fn steady(swarm: &mut Swarm, ns: u64) -> Result<Vec<Latency>> {
    let mut latencies = DOMAINS.iter().map(|_| Latency::new()).collect::<Result<Vec<_>>>()?;
    let mut waiting = vec![VecDeque::<u64>::new(); swarm.len()];
    let (mut sent, mut acked) = (0u64, 0u64);
    let start = now();
    let mut pace = Pace::per_second(PER_SECOND * DOMAINS.len() as f64, start);
    while now() < start + ns || acked < sent {
        ensure!(now() < start + ns + STEP_LIMIT, "{} acks are missing", sent - acked);
        let sending = now() < start + ns;
        while sending && pace.due(now()) {
            // Domains alternate, and each domain's clients take turns.
            let (domain, client) = (sent as usize % DOMAINS.len(), sent as usize / DOMAINS.len() % CLIENTS);
            let index = domain * CLIENTS + client;
            waiting[index].push_back(now());
            swarm.client(index)?.emit(Some(1), |out| (DOMAINS[domain].body)(out, client))?;
            sent += 1;
        }
        let until = if sending { pace.next() } else { start + ns + STEP_LIMIT };
        swarm.turn(until, |client, packet| {
            if let Packet::Ack(_, args) = packet {
                accepted(args)?;
                let at = waiting[client.index].pop_front().context("an unexpected ack")?;
                latencies[client.index / CLIENTS].record(now() - at);
                acked += 1;
            }
            Ok(())
        })?;
    }
    Ok(latencies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_domain_has_its_metric() {
        assert_eq!(METRICS.len(), DOMAINS.len() + 1);
        for domain in &DOMAINS {
            let mut out = Vec::new();
            (domain.body)(&mut out, 1);
            assert!(serde_json::from_slice::<serde_json::Value>(&out).is_ok_and(|body| body.is_array()));
        }
    }
}

//! Several nodes on one Redis: the cost of a delivery for all nodes together, by the number of nodes, the size of the room and
//! the share of its members on other nodes; and the cost of a room for a node without members. It must never count Redis as a
//! node.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::delivery::{DRAIN, Deliveries};
use super::{Latency, Metric, Sample, Scale, Unit, idled, own_cpu, targets};
use crate::child::Child;
use crate::client::{STEP_LIMIT, Swarm};
use crate::clock::{MILLI, Pace, SECOND, now};
use crate::server::{Kind, Starter};
use crate::stamp;

/// Deliveries per second, for any room size.
const DELIVERIES: usize = 30_000;
/// Clients of one scenario, or the room's size if that is larger.
const CLIENTS: usize = 300;
/// Messages per second in rooms of one node while another node has no members, and the size of the rooms.
const ELSEWHERE: (usize, usize) = (1000, 5);
/// The interval between two attempts to reach every node.
const RETRY_INTERVAL: u64 = 100 * MILLI;

/// Rooms of one size, spread over nodes in one way. The results are in the order of `metrics`.
struct Scenario {
    nodes: usize,
    size: usize,
    /// Percent of a room's members, except the sender, on other nodes.
    remote: usize,
    metrics: [Metric; 5],
}

macro_rules! scenario {
    ($id:literal, $title:literal, $nodes:literal, $size:literal, $remote:literal) => {
        Scenario {
            nodes: $nodes,
            size: $size,
            remote: $remote,
            metrics: [
                Metric { id: concat!("cluster_", $id, "_rate"), title: $title, unit: Unit::PerSecond },
                Metric { id: concat!("cluster_", $id, "_cpu"), title: "  CPU of all nodes a delivery", unit: Unit::Micros },
                Metric { id: concat!("cluster_", $id, "_redis"), title: "  CPU of Redis a message", unit: Unit::Micros },
                Metric { id: concat!("cluster_", $id, "_p50"), title: "  latency p50", unit: Unit::Micros },
                Metric { id: concat!("cluster_", $id, "_p99"), title: "  latency p99", unit: Unit::Micros },
            ],
        }
    };
}

static SCENARIOS: [Scenario; 7] = [
    scenario!("one", "1 node, rooms of 100", 1, 100, 0),
    scenario!("local", "2 nodes, rooms of 100, all local", 2, 100, 0),
    scenario!("half", "2 nodes, rooms of 100, half remote", 2, 100, 50),
    scenario!("remote", "2 nodes, rooms of 100, all remote", 2, 100, 100),
    scenario!("small", "2 nodes, rooms of 10, half remote", 2, 10, 50),
    scenario!("large", "2 nodes, a room of 1000, half remote", 2, 1000, 50),
    scenario!("three", "3 nodes, rooms of 100, 67 % remote", 3, 100, 67),
];

static OTHER_METRICS: [Metric; 5] = [
    Metric { id: "cluster_bystander", title: "uninvolved node: CPU over idle", unit: Unit::Percent },
    Metric { id: "cluster_idle", title: "  an idle node", unit: Unit::Percent },
    Metric { id: "cluster_lost", title: "lost deliveries", unit: Unit::Faults },
    Metric { id: "cluster_doubled", title: "duplicate deliveries", unit: Unit::Faults },
    Metric { id: "cluster_others", title: "CPU of other processes", unit: Unit::Percent },
];

/// All metrics in the table's order.
pub(super) fn metrics() -> &'static [Metric] {
    static ALL: std::sync::OnceLock<Vec<Metric>> = std::sync::OnceLock::new();
    ALL.get_or_init(|| SCENARIOS.iter().flat_map(|scenario| scenario.metrics).chain(OTHER_METRICS).collect())
}

pub(super) fn run(kind: Kind, scale: Scale, starter: &Starter<'_>) -> Result<Vec<Sample>> {
    let mut values = Vec::new();
    let mut faults = Faults::default();
    let mut uninvolved = [0.0; 2];
    for count in 1..=3 {
        let nodes = Nodes::start(kind, count, starter)?;
        let with_logs = |error: anyhow::Error| error.context(format!("the end of the nodes' logs: {}", nodes.tails()));
        for scenario in SCENARIOS.iter().filter(|scenario| scenario.nodes == count) {
            values.push((scenario, measure(&nodes, scenario, scale, starter, &mut faults).map_err(with_logs)?));
        }
        if count == 2 {
            uninvolved = measure_uninvolved_node(&nodes, scale, starter, &mut faults).map_err(with_logs)?;
        }
    }
    let scenarios = values.into_iter().flat_map(|(scenario, values)| scenario.metrics.iter().zip(values));
    let uninvolved = [uninvolved[0], uninvolved[1], faults.lost as f64, faults.duplicates as f64, faults.others];
    let found = scenarios.chain(OTHER_METRICS.iter().zip(uninvolved));
    // The table finds metrics by their entry in the list.
    found.map(|(metric, value)| Ok((listed(metric)?, value))).collect()
}

fn listed(metric: &Metric) -> Result<&'static Metric> {
    metrics().iter().find(|one| one.id == metric.id).context("a figure that is not listed")
}

#[derive(Default)]
struct Faults {
    lost: u64,
    duplicates: u64,
    /// The largest share of a core, in percent, that other work used in any scenario.
    others: f64,
}

/// Nodes of one kind and their Redis.
struct Nodes {
    nodes: Vec<Child>,
    redis: Child,
}

impl Nodes {
    /// Starts the nodes and waits until messages of each reach all others.
    fn start(kind: Kind, count: usize, starter: &Starter<'_>) -> Result<Self> {
        let redis = Child::redis(starter.folder, starter.stop)?;
        let nodes = (0..count).map(|node| starter.start_node(kind, node, redis.addr)).collect::<Result<Vec<_>>>()?;
        let nodes = Self { nodes, redis };
        nodes.settle(starter)?;
        Ok(nodes)
    }

    /// A client on each node joins one room and sends until all have received a message of each.
    fn settle(&self, starter: &Starter<'_>) -> Result<()> {
        let count = self.nodes.len();
        let mut swarm = Swarm::new(starter.stop)?;
        for (node, target) in self.nodes.iter().zip(targets("/", count)?) {
            swarm.open(node.addr, [target], None)?;
        }
        swarm.ask_all(|_, out| stamp::join(out, 0))?;
        let mut received_from = vec![0u64; count];
        let (limit, all) = (now() + STEP_LIMIT, (1 << count) - 1);
        while received_from.iter().any(|of| *of != all) {
            ensure!(now() < limit, "the nodes do not receive each other's messages: {}", self.tails());
            for speaker in 0..count {
                swarm.client(speaker)?.emit(None, |out| stamp::message(out, 0, now(), speaker as u32))?;
            }
            let again = now() + RETRY_INTERVAL;
            while now() < again {
                swarm.turn(again, |client, packet| {
                    if let crate::client::Packet::Event(event) = packet
                        && let Some(stamp) = stamp::read(event)
                    {
                        received_from[client.index] |= 1 << stamp.number;
                    }
                    Ok(())
                })?;
            }
        }
        Ok(())
    }

    fn cpu(&self) -> Result<Duration> {
        self.nodes.iter().map(Child::cpu).sum()
    }

    fn tails(&self) -> String {
        self.nodes.iter().map(Child::tail).collect::<Vec<_>>().join(" | ")
    }
}

/// Rooms with their members and one sender each: the room's first member, on the first node unless all are spread.
struct Load {
    swarm: Swarm,
    size: usize,
    sent: Vec<u32>,
    turn: usize,
    deliveries: Deliveries,
}

impl Load {
    /// `at` returns the node of a room's member.
    fn open(starter: &Starter<'_>, nodes: &Nodes, rooms: usize, size: usize, at: impl Fn(usize) -> usize) -> Result<Self> {
        let mut swarm = Swarm::new(starter.stop)?;
        let mut targets = targets("/", rooms * size)?.into_iter().map(Some).collect::<Vec<_>>();
        // One after the other, so that a client's index determines its room.
        let mut from = 0;
        while from < targets.len() {
            let node = at(from % size);
            let same = (from..targets.len()).take_while(|index| at(index % size) == node).count();
            let group: Vec<_> = targets.iter_mut().skip(from).take(same).filter_map(Option::take).collect();
            swarm.open(nodes.nodes.get(node).context("no such node")?.addr, group, None)?;
            from += same;
        }
        swarm.ask_all(|index, out| stamp::join(out, index / size))?;
        swarm.settle(300 * MILLI)?;
        Ok(Self { swarm, size, sent: vec![0; rooms], turn: 0, deliveries: Deliveries::of(rooms * size) })
    }

    fn send_for(&mut self, ns: u64, per_second: usize) -> Result<()> {
        let start = now();
        let mut pace = Pace::per_second(per_second as f64, start);
        while now() < start + ns {
            while pace.due(now()) {
                let room = self.turn % self.sent.len();
                self.turn += 1;
                let number = self.sent[room];
                self.swarm.client(room * self.size)?.emit(None, |out| stamp::message(out, room, now(), number))?;
                self.sent[room] += 1;
            }
            let deliveries = &mut self.deliveries;
            self.swarm.turn(pace.next().min(start + ns), |client, packet| deliveries.take(client, packet))?;
        }
        Ok(())
    }

    /// Waits for messages in transit. Those still missing after two seconds without a delivery are lost.
    fn drain(&mut self) -> Result<()> {
        let mut until = now() + DRAIN;
        while self.missing() > 0 && now() < until {
            let before = self.deliveries.received;
            let deliveries = &mut self.deliveries;
            self.swarm.turn(until, |client, packet| deliveries.take(client, packet))?;
            if self.deliveries.received > before {
                until = now() + DRAIN;
            }
        }
        Ok(())
    }

    fn missing(&self) -> u64 {
        let expected: u64 = self.sent.iter().map(|sent| u64::from(*sent) * self.size as u64).sum();
        expected.saturating_sub(self.deliveries.received)
    }

    fn messages(&self) -> u64 {
        self.sent.iter().map(|sent| u64::from(*sent)).sum()
    }
}

/// Deliveries per second, CPU of the nodes per delivery and of Redis per message, p50, p99.
fn measure(nodes: &Nodes, scenario: &Scenario, scale: Scale, starter: &Starter<'_>, faults: &mut Faults) -> Result<[f64; 5]> {
    let (rooms, away) = ((CLIENTS / scenario.size).max(1), (scenario.size - 1) * scenario.remote / 100);
    // The last members of a room are on the other nodes, in order.
    let at = |member: usize| match member.checked_sub(scenario.size - away) {
        None => 0,
        Some(place) => 1 + place * (scenario.nodes - 1) / away,
    };
    let mut load = Load::open(starter, nodes, rooms, scenario.size, at)?;
    let per_second = DELIVERIES / scenario.size;
    load.send_for(scale.warm, per_second)?;
    load.drain()?;
    ensure!(load.deliveries.received > 0, "nothing was delivered");
    load.deliveries.latency = Some(Latency::new()?);
    let (received, messages, began) = (load.deliveries.received, load.messages(), now());
    let (cpu, redis, own, idle) = (nodes.cpu()?, nodes.redis.cpu()?, own_cpu()?, idled()?);
    load.send_for(scale.steady, per_second)?;
    load.drain()?;
    let ns = now() - began;
    let (cpu, redis) = (nodes.cpu()? - cpu, nodes.redis.cpu()? - redis);
    let cores = std::thread::available_parallelism()?.get() as u32;
    let known = cpu + redis + (own_cpu()? - own) + (idled()? - idle);
    let others = (Duration::from_nanos(ns) * cores).saturating_sub(known);
    faults.others = faults.others.max(others.as_nanos() as f64 * 100.0 / ns as f64);
    faults.lost += load.missing();
    faults.duplicates += load.deliveries.duplicates;
    let latency = load.deliveries.latency.as_ref().context("measured")?;
    let (received, messages) = (load.deliveries.received - received, load.messages() - messages);
    let each = |cpu: Duration, count: u64| cpu.as_secs_f64() * 1e6 / count.max(1) as f64;
    let rate = received as f64 * SECOND as f64 / ns as f64;
    Ok([rate, each(cpu, received), each(redis, messages), latency.micros(0.5), latency.micros(0.99)])
}

/// The second node's CPU in percent of a core while all clients send on the first: the difference to its idle use, and the idle
/// use.
fn measure_uninvolved_node(nodes: &Nodes, scale: Scale, starter: &Starter<'_>, faults: &mut Faults) -> Result<[f64; 2]> {
    let (per_second, size) = ELSEWHERE;
    let [_, uninvolved] = &nodes.nodes[..] else { return Err(anyhow::anyhow!("there are two nodes")) };
    let mut load = Load::open(starter, nodes, CLIENTS / size, size, |_| 0)?;
    let percent = |load: &mut Load, rate: usize| -> Result<f64> {
        let (cpu, began) = (uninvolved.cpu()?, now());
        match rate {
            0 => {
                while now() < began + scale.steady {
                    load.swarm.turn(began + scale.steady, |_, _| Ok(()))?;
                }
            }
            _ => load.send_for(scale.steady, rate)?,
        }
        Ok((uninvolved.cpu()? - cpu).as_nanos() as f64 * 100.0 / (now() - began) as f64)
    };
    load.send_for(scale.warm, per_second)?;
    load.drain()?;
    let idle = percent(&mut load, 0)?;
    load.send_for(scale.warm, per_second)?;
    let busy = percent(&mut load, per_second)?;
    load.drain()?;
    faults.lost += load.missing();
    faults.duplicates += load.deliveries.duplicates;
    Ok([(busy - idle).max(0.0), idle])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_listed_once() {
        let ids: std::collections::BTreeSet<_> = metrics().iter().map(|metric| metric.id).collect();
        assert_eq!(ids.len(), SCENARIOS.len() * 5 + OTHER_METRICS.len());
        assert!(OTHER_METRICS.iter().all(|metric| listed(metric).is_ok()));
    }
}

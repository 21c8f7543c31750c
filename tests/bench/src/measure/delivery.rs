//! Fan-out: 1000 clients in rooms of 100 and 300 messages per second, so 30 000 deliveries per second. Measures CPU and latency
//! of a delivery, and checks that each member received each message once. It must never count a delivery that was not checked.

use anyhow::{Context, Result, ensure};

use super::{Bench, Latency, Meter, Metric, Sample, Unit, targets};
use crate::client::{Client, Packet, STEP_LIMIT, Swarm};
use crate::clock::{MILLI, Pace, now};
use crate::stamp;

pub(super) const CLIENTS: usize = 1000;
pub(super) const ROOM: usize = 100;
const ROOMS: usize = CLIENTS / ROOM;
const MESSAGES_PER_SECOND: f64 = 300.0;
/// Messages of one room in one measure; far more than any scale sends.
const MESSAGES_LIMIT: usize = 1 << 16;
/// If no delivery arrives for this long after the last message, the missing ones are lost.
pub(super) const DRAIN: u64 = 2000 * MILLI;

pub(super) static METRICS: [Metric; 8] = [
    Metric { id: "cpu_delivery", title: "CPU a delivery, rooms of 100", unit: Unit::Micros },
    Metric { id: "delivery_p50", title: "latency p50", unit: Unit::Micros },
    Metric { id: "delivery_p99", title: "latency p99", unit: Unit::Micros },
    Metric { id: "delivery_max", title: "latency max", unit: Unit::Micros },
    Metric { id: "lost", title: "lost deliveries", unit: Unit::Faults },
    Metric { id: "doubled", title: "duplicate deliveries", unit: Unit::Faults },
    Metric { id: "delivery_generator", title: "CPU of the load generator", unit: Unit::Percent },
    Metric { id: "delivery_others", title: "CPU of other processes", unit: Unit::Percent },
];

pub(super) fn run(bench: &Bench<'_>) -> Result<Vec<Sample>> {
    let mut swarm = bench.swarm()?;
    swarm.open(bench.child.addr, targets("/", CLIENTS)?, None)?;
    swarm.ask_all(|index, out| stamp::join(out, index / ROOM))?;
    swarm.settle(300 * MILLI)?;
    let mut load = Load::new()?;
    load.send_for(&mut swarm, bench.scale.warm)?;
    load.drain(&mut swarm)?;
    let before = load.deliveries.received;
    ensure!(before > 0, "nothing was delivered");
    load.deliveries.latency = Some(Latency::new()?);
    let meter = Meter::start(bench.child)?;
    load.send_for(&mut swarm, bench.scale.steady)?;
    let (generator, others) = (meter.generator()?, meter.others()?);
    load.drain(&mut swarm)?;
    let cpu = meter.micros_each(load.deliveries.received - before)?;
    let latency = load.deliveries.latency.as_ref().context("measured")?;
    let (lost, duplicates) = (load.lost() as f64, load.deliveries.duplicates as f64);
    let values = [cpu, latency.micros(0.5), latency.micros(0.99), latency.micros(1.0), lost, duplicates, generator, others];
    Ok(METRICS.iter().zip(values).collect())
}

pub(super) struct Load {
    /// Messages sent to each room.
    sent: [u32; ROOMS],
    turn: usize,
    pub(super) deliveries: Deliveries,
}

/// The received messages. No order is guaranteed across senders, so each message is marked by its number.
pub(super) struct Deliveries {
    /// For each member, a bit for each message of its room.
    got: Vec<Vec<u64>>,
    pub(super) received: u64,
    pub(super) duplicates: u64,
    pub(super) latency: Option<Latency>,
}

impl Load {
    pub(super) fn new() -> Result<Self> {
        Ok(Self { sent: [0; ROOMS], turn: 0, deliveries: Deliveries::of(CLIENTS) })
    }

    pub(super) fn send_for(&mut self, swarm: &mut Swarm, ns: u64) -> Result<()> {
        let start = now();
        let mut pace = Pace::per_second(MESSAGES_PER_SECOND, start);
        while now() < start + ns {
            while pace.due(now()) {
                let (room, member) = (self.turn % ROOMS, self.turn / ROOMS % ROOM);
                self.turn += 1;
                let number = self.sent[room];
                swarm.client(room * ROOM + member)?.emit(None, |out| stamp::message(out, room, now(), number))?;
                self.sent[room] += 1;
            }
            let deliveries = &mut self.deliveries;
            swarm.turn(pace.next().min(start + ns), |client, packet| deliveries.take(client, packet))?;
        }
        Ok(())
    }

    /// Waits for messages in transit. Those still missing after two seconds without a delivery are lost.
    pub(super) fn drain(&mut self, swarm: &mut Swarm) -> Result<()> {
        let limit = now() + STEP_LIMIT;
        let mut until = now() + DRAIN;
        while self.lost() > 0 && now() < until.min(limit) {
            let before = self.deliveries.received;
            let deliveries = &mut self.deliveries;
            swarm.turn(until, |client, packet| deliveries.take(client, packet))?;
            if self.deliveries.received > before {
                until = now() + DRAIN;
            }
        }
        Ok(())
    }

    /// The number of messages sent.
    pub(super) fn messages(&self) -> u64 {
        self.sent.iter().map(|sent| u64::from(*sent)).sum()
    }

    /// The number of messages sent and not received (yet).
    pub(super) fn lost(&self) -> u64 {
        let expected: u64 = self.sent.iter().map(|sent| u64::from(*sent) * ROOM as u64).sum();
        expected.saturating_sub(self.deliveries.received)
    }
}

impl Deliveries {
    pub(super) fn of(clients: usize) -> Self {
        Self { got: vec![Vec::new(); clients], received: 0, duplicates: 0, latency: None }
    }

    pub(super) fn take(&mut self, client: &Client, packet: Packet<'_>) -> Result<()> {
        let Packet::Event(event) = packet else { return Ok(()) };
        ensure!(!event.starts_with(br#"["error""#), "refused: {}", String::from_utf8_lossy(event));
        let Some(stamp) = stamp::read(event) else { return Ok(()) };
        let (word, bit) = (stamp.number as usize / 64, 1 << (stamp.number % 64));
        let got = &mut self.got[client.index];
        ensure!(word < MESSAGES_LIMIT / 64, "a message that was not sent: {}", String::from_utf8_lossy(event));
        if got.len() <= word {
            got.resize(word + 1, 0);
        }
        if got[word] & bit != 0 {
            self.duplicates += 1;
            return Ok(());
        }
        got[word] |= bit;
        self.received += 1;
        if let Some(latency) = &mut self.latency {
            latency.record(now() - stamp.at);
        }
        Ok(())
    }
}

//! Jitter: clients in rooms lose their connection again and again and come back, while each room has one sender that stays. Measures
//! what each client has received in the end, with connection state recovery and without. It must never send a message again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};

use super::received::{Delivery, Received, Totals, percent};
use super::{Metric, Sample, Scale, Unit, targets};
use crate::client::{Entry, Packet, STEP_LIMIT, Swarm};
use crate::clock::{MILLI, Pace, SECOND, now};
use crate::server::{Kind, Site, Starter};
use crate::stamp;

const ROOM: usize = 50;
/// Of each room.
const MESSAGES_PER_SECOND: f64 = 10.0;
/// How long a client that lost its connection is away.
const AWAY: u64 = 2 * SECOND;
/// If no delivery arrives for this long after the last message and the last return, the missing ones are lost.
const DRAIN: u64 = 2 * SECOND;

/// The results are in the order of `metrics`.
struct Scene {
    clients: usize,
    recovery: bool,
    metrics: [Metric; 7],
}

macro_rules! scene {
    ($id:literal, $title:literal, $clients:literal, $recovery:literal) => {
        Scene {
            clients: $clients,
            recovery: $recovery,
            metrics: [
                Metric { id: concat!("jitter_", $id), title: concat!($title, ": delivered"), unit: Unit::Percent },
                Metric { id: concat!("jitter_", $id, "_worst"), title: "  to the client with the least", unit: Unit::Percent },
                Metric { id: concat!("jitter_", $id, "_lost"), title: "  lost", unit: Unit::Faults },
                Metric { id: concat!("jitter_", $id, "_doubled"), title: "  doubled", unit: Unit::Faults },
                Metric { id: concat!("jitter_", $id, "_late"), title: "  out of order", unit: Unit::Faults },
                Metric { id: concat!("jitter_", $id, "_same"), title: "  came back to the same socket", unit: Unit::Percent },
                Metric {
                    id: concat!("jitter_", $id, "_closed"),
                    title: "  connections closed by the server",
                    unit: Unit::Faults,
                },
            ],
        }
    };
}

static SCENES: [Scene; 4] = [
    scene!("150", "150 clients, recovery", 150, true),
    scene!("150_plain", "150 clients, none", 150, false),
    scene!("2000", "2000 clients, recovery", 2000, true),
    scene!("2000_plain", "2000 clients, none", 2000, false),
];

/// All metrics in the table's order.
pub(super) fn metrics() -> &'static [Metric] {
    static ALL: OnceLock<Vec<Metric>> = OnceLock::new();
    ALL.get_or_init(|| SCENES.iter().flat_map(|scene| scene.metrics).collect())
}

pub(super) fn run(kind: Kind, scale: Scale, starter: &Starter<'_>) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    // The table finds metrics by their entry in the list.
    let listed = metrics().chunks(SCENES[0].metrics.len());
    for (scene, listed) in SCENES.iter().zip(listed).filter(|(scene, _)| scene.clients <= scale.jitter_clients) {
        let site = Site::new(scene.recovery)?;
        let child = starter.start_at(kind, &site)?;
        let with_log = |error: anyhow::Error| error.context(format!("the end of the server's log: {:?}", child.tail()));
        samples.extend(listed.iter().zip(measure(scene, scale, &site, starter).map_err(with_log)?));
    }
    Ok(samples)
}

/// In the order of [`Scene::metrics`].
fn measure(scene: &Scene, scale: Scale, site: &Site, starter: &Starter<'_>) -> Result<[f64; 7]> {
    let mut load = Load::open(scene.clients, scale, site, starter)?;
    load.send_for(scale.jitter)?;
    load.return_all()?;
    let Totals { delivered, worst, lost } = load.drain()?;
    ensure!(load.faults.returns > 0, "no client lost its connection");
    let Faults { doubled, late, recovered, returns, closed } = load.faults;
    Ok([delivered, worst, lost as f64, doubled as f64, late as f64, percent(recovered, returns), closed as f64])
}

/// The next step of a client, at a moment.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Cut,
    Return,
}

#[derive(Debug, Default)]
struct Faults {
    doubled: u64,
    late: u64,
    /// Returns to the same socket, of all returns.
    recovered: u64,
    returns: u64,
    /// Connections that the server closed or did not accept. Their clients come back as those that were cut.
    closed: u64,
}

/// Clients that lose their connections, and after them one sender for each room, which does not.
struct Load<'a> {
    swarm: Swarm,
    site: &'a Site,
    clients: usize,
    /// Messages sent to each room.
    sent: Vec<u32>,
    received: Received,
    faults: Faults,
    steps: BinaryHeap<Reverse<(u64, Step, usize)>>,
    /// The clients that are not away or coming back.
    connected: Vec<bool>,
    gaps: Gaps,
}

impl<'a> Load<'a> {
    fn open(clients: usize, scale: Scale, site: &'a Site, starter: &Starter<'_>) -> Result<Self> {
        let rooms = clients / ROOM;
        let mut swarm = Swarm::returning(starter.stop)?;
        swarm.open(site.addr, targets("/", clients + rooms)?, None)?;
        swarm.ask_all(|index, out| stamp::join(out, room(index, clients)))?;
        swarm.settle(300 * MILLI)?;
        // The first cuts come before a client's first message too.
        let (began, spread) = (now(), scale.cut_every / clients as u64);
        let steps = (0..clients).map(|index| Reverse((began + spread * index as u64, Step::Cut, index))).collect();
        Ok(Self {
            swarm,
            site,
            clients,
            sent: vec![0; rooms],
            received: Received::of(clients),
            faults: Faults::default(),
            steps,
            connected: vec![true; clients],
            gaps: Gaps::about(scale.cut_every),
        })
    }

    fn send_for(&mut self, ns: u64) -> Result<()> {
        let (start, rooms) = (now(), self.sent.len());
        let mut pace = Pace::per_second(MESSAGES_PER_SECOND * rooms as f64, start);
        let mut turn = 0;
        while now() < start + ns {
            while pace.due(now()) {
                let room = turn % rooms;
                turn += 1;
                let number = self.sent[room];
                self.swarm.client(self.clients + room)?.emit(None, |out| stamp::message(out, room, now(), number))?;
                self.sent[room] += 1;
            }
            self.step(true)?;
            self.turn(pace.next().min(start + ns))?;
        }
        Ok(())
    }

    /// Waits until nobody is away.
    fn return_all(&mut self) -> Result<()> {
        let limit = now() + AWAY + STEP_LIMIT;
        while self.connected.contains(&false) {
            ensure!(now() < limit, "some clients did not come back");
            self.step(false)?;
            self.turn(now() + 20 * MILLI)?;
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<Totals> {
        let limit = now() + STEP_LIMIT;
        let mut until = now() + DRAIN;
        loop {
            let totals = self.totals()?;
            if totals.lost == 0 || now() >= until.min(limit) {
                return Ok(totals);
            }
            if self.turn(now() + 20 * MILLI)? > 0 {
                until = now() + DRAIN;
            }
        }
    }

    fn totals(&self) -> Result<Totals> {
        self.received.totals(|client| self.sent[room(client, self.clients)])
    }

    /// Cuts and brings back the clients whose moment has come; without `cutting`, they stay connected.
    fn step(&mut self, cutting: bool) -> Result<()> {
        while let Some(Reverse((at, ..))) = self.steps.peek()
            && *at <= now()
        {
            let Some(Reverse((_, step, index))) = self.steps.pop() else { break };
            match step {
                // A client that the server closed has no connection to cut.
                Step::Cut if cutting && self.connected[index] => {
                    self.swarm.cut(index)?;
                    self.connected[index] = false;
                    self.steps.push(Reverse((now() + AWAY, Step::Return, index)));
                }
                Step::Cut => {}
                Step::Return => self.swarm.come_back(index, self.site.addr)?,
            }
        }
        Ok(())
    }

    /// Handles what arrived, and returns the number of deliveries.
    fn turn(&mut self, until: u64) -> Result<u64> {
        let mut deliveries = 0;
        let next = self.steps.peek().map_or(until, |Reverse((at, ..))| until.min(*at));
        let Self { swarm, received, faults, steps, connected, gaps, clients, .. } = self;
        swarm.turn(next, |client, packet| {
            match packet {
                Packet::Closed => {
                    let connected = connected.get_mut(client.index).context("a sender was closed by the server")?;
                    *connected = false;
                    faults.closed += 1;
                    steps.push(Reverse((now() + AWAY, Step::Return, client.index)));
                }
                Packet::Refused(why) => bail!("client {} was refused: {}", client.index, String::from_utf8_lossy(why)),
                Packet::Connected(_) => {
                    faults.returns += 1;
                    connected[client.index] = true;
                    steps.push(Reverse((now() + gaps.next(), Step::Cut, client.index)));
                    match client.entry() {
                        Entry::Recovered => faults.recovered += 1,
                        _ => {
                            let room = room(client.index, *clients);
                            client.emit(None, |out| stamp::join(out, room))?;
                        }
                    }
                }
                _ => {}
            }
            match received.take(client.index, packet)? {
                Some(Delivery::Doubled) => faults.doubled += 1,
                Some(Delivery::OutOfOrder) => faults.late += 1,
                Some(Delivery::InOrder) | None => {}
            }
            deliveries += u64::from(matches!(packet, Packet::Event(_)));
            Ok(())
        })?;
        Ok(deliveries)
    }
}

/// The room of a client, or of a sender.
fn room(index: usize, clients: usize) -> usize {
    index.checked_sub(clients).unwrap_or(index / ROOM)
}

/// Times between a return and the next cut: half to one and a half of the mean, the same in every run.
struct Gaps {
    mean: u64,
    state: u64,
}

impl Gaps {
    fn about(mean: u64) -> Self {
        Self { mean, state: 1 }
    }

    fn next(&mut self) -> u64 {
        // Knuth's MMIX generator; its high bits are the random ones, and the product keeps those.
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let part = (u128::from(self.state) * u128::from(self.mean)) >> 64;
        self.mean / 2 + part as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_about_the_mean() {
        let mut gaps = Gaps::about(15 * SECOND);
        let some: Vec<u64> = (0..1000).map(|_| gaps.next()).collect();
        assert!(some.iter().all(|gap| (7 * SECOND..23 * SECOND).contains(gap)));
        let mean = some.iter().sum::<u64>() / 1000;
        assert!((14 * SECOND..16 * SECOND).contains(&mean), "{mean}");
    }

    #[test]
    fn each_room_has_its_clients_and_a_sender() {
        assert_eq!([0, 49, 50, 149, 150, 152].map(|index| room(index, 150)), [0, 0, 1, 2, 0, 2]);
    }
}

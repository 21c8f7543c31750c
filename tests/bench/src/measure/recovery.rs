//! The cost of recovery: the same deliveries by one server with it and one without, in alternating windows, and the size of its log.
//! It must never measure the two at the same moment.

use anyhow::{Context, Result};

use super::delivery::{CLIENTS, Load, ROOM};
use super::{Meter, Metric, Sample, Scale, Unit, targets};
use crate::child::{Child, gauge};
use crate::client::Swarm;
use crate::clock::{MILLI, SECOND};
use crate::server::{Kind, Site, Starter};
use crate::stamp;

const LOG_BYTES: &str = "hubbub_recovery_log_bytes";
/// Other work on the machine comes and goes in seconds, so that two neighbouring short windows have the same of it.
const WINDOW: u64 = 2 * SECOND;
/// How long an event stays in the log by default: the window, and the longest time until a lost connection is noticed.
const KEPT_SECONDS: f64 = 120.0 + 25.0 + 20.0;

pub(super) static METRICS: [Metric; 8] = [
    Metric { id: "recovery_cost", title: "CPU a delivery, recovery on ÷ off", unit: Unit::Times },
    Metric { id: "recovery_lower", title: "  lower quartile of the pairs", unit: Unit::Times },
    Metric { id: "recovery_upper", title: "  upper quartile", unit: Unit::Times },
    Metric { id: "recovery_on", title: "  on", unit: Unit::Micros },
    Metric { id: "recovery_off", title: "  off", unit: Unit::Micros },
    Metric { id: "recovery_event", title: "log an event", unit: Unit::Kilobytes },
    Metric { id: "recovery_room", title: "log a room with one event a second", unit: Unit::Kilobytes },
    Metric { id: "recovery_others", title: "CPU of other processes", unit: Unit::Percent },
];

pub(super) fn run(kind: Kind, scale: Scale, starter: &Starter<'_>) -> Result<Vec<Sample>> {
    let mut on = Side::open(kind, Site::new(true)?, starter)?;
    let mut off = Side::open(kind, Site::new(false)?, starter)?;
    let before = gauge(on.site.admin, LOG_BYTES)?;
    let said = on.load.messages();
    for side in [&mut on, &mut off] {
        side.window(scale.warm)?;
    }
    let (mut ons, mut offs, mut event) = (Vec::new(), Vec::new(), 0.0);
    for pair in 0..scale.pairs {
        // Neither is always the first.
        if pair % 2 == 0 {
            ons.push(on.window(WINDOW)?);
            offs.push(off.window(WINDOW)?);
        } else {
            offs.push(off.window(WINDOW)?);
            ons.push(on.window(WINDOW)?);
        }
        if pair == 0 {
            // Later the oldest entries may have left the log.
            let bytes = gauge(on.site.admin, LOG_BYTES)? - before;
            event = bytes / (on.load.messages() - said) as f64 / 1024.0;
        }
    }
    let ratios: Vec<f64> = ons.iter().zip(&offs).map(|(on, off)| on / off).collect();
    let [lower, cost, upper] = quartiles(ratios)?;
    let others = on.others.max(off.others);
    let values = [cost, lower, upper, quartiles(ons)?[1], quartiles(offs)?[1], event, event * KEPT_SECONDS, others];
    Ok(METRICS.iter().zip(values).collect())
}

/// One of the two servers with its clients.
struct Side {
    site: Site,
    child: Child,
    swarm: Swarm,
    load: Load,
    /// The largest share of a core, in percent, that other work used in any window.
    others: f64,
}

impl Side {
    fn open(kind: Kind, site: Site, starter: &Starter<'_>) -> Result<Self> {
        let child = starter.start_at(kind, &site)?;
        let mut swarm = Swarm::new(starter.stop)?;
        swarm.open(site.addr, targets("/", CLIENTS)?, None)?;
        swarm.ask_all(|index, out| stamp::join(out, index / ROOM))?;
        swarm.settle(300 * MILLI)?;
        Ok(Self { site, child, swarm, load: Load::new()?, others: 0.0 })
    }

    /// Microseconds of CPU a delivery.
    fn window(&mut self, ns: u64) -> Result<f64> {
        // Pings that came while the other side was measured are answered outside of the window.
        self.swarm.settle(50 * MILLI)?;
        let (meter, before) = (Meter::start(&self.child)?, self.load.deliveries.received);
        self.load.send_for(&mut self.swarm, ns)?;
        self.others = self.others.max(meter.others()?);
        self.load.drain(&mut self.swarm)?;
        meter.micros_each(self.load.deliveries.received - before)
    }
}

/// The lower quartile, the median and the upper quartile, each the nearest value.
fn quartiles(mut values: Vec<f64>) -> Result<[f64; 3]> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1).context("no windows")?;
    Ok([last / 4, last / 2, last * 3 / 4].map(|at| values[at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_are_values_in_order() {
        assert_eq!(quartiles(vec![5.0, 1.0, 4.0, 2.0, 3.0]).unwrap(), [2.0, 3.0, 4.0]);
        assert_eq!(quartiles(vec![1.0]).unwrap(), [1.0; 3]);
        assert!(quartiles(Vec::new()).is_err());
    }
}

//! The rates of `[admission]`: how many events and how much CPU a connection and a user may use.

use std::time::Duration;

use super::admission::Limits;
use super::permits::{ConnectionPermit, SocketPermit};
use crate::rate::{self, Meter};
use crate::telemetry::{LimitLabels, Metrics};

/// The key in the configuration, and the label in metrics.
const USER_CPU: &str = "user_cpu";

impl Limits {
    /// Counts one more event of a connection and of its user. If one of them is past its rate, returns the limit and the wait.
    pub fn too_early(
        &self,
        permit: &ConnectionPermit,
        socket_permit: Option<&SocketPermit>,
        metrics: &Metrics,
    ) -> Option<(&'static str, Duration)> {
        if let Err(wait) = self.connection_events.take(&permit.events, metrics) {
            return Some((self.connection_events.name, wait));
        }
        if let Some(wait) = self.cpu_owed(cpu_meter(permit, socket_permit), metrics) {
            return Some((USER_CPU, wait));
        }
        let wait = self.user_events.take(&socket_permit?.meters.events, metrics).err()?;
        Some((self.user_events.name, wait))
    }

    /// Whether a connection must wait before its next CONNECT.
    pub fn connects_too_early(&self, permit: &ConnectionPermit, metrics: &Metrics) -> bool {
        self.cpu_owed(&permit.cpu, metrics).is_some()
    }

    /// How long until the user has paid for the CPU time used; none if nothing is owed. Counts as a refusal.
    fn cpu_owed(&self, meter: &Meter, metrics: &Metrics) -> Option<Duration> {
        self.user_cpu?;
        let wait = meter.owed(rate::now())?;
        metrics.limits_passed.get_or_create(&LimitLabels { limit: USER_CPU, outcome: "refused" }).inc();
        Some(wait)
    }

    /// Charges CPU time to the user.
    pub fn spent_cpu(&self, permit: &ConnectionPermit, socket_permit: Option<&SocketPermit>, time: Duration) {
        if let Some(flow) = self.user_cpu {
            cpu_meter(permit, socket_permit).spend(flow, u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), rate::now());
        }
    }
}

/// The user's meter, or for a visitor the connection's.
fn cpu_meter<'a>(permit: &'a ConnectionPermit, socket_permit: Option<&'a SocketPermit>) -> &'a Meter {
    socket_permit.map_or(&permit.cpu, |socket_permit| &socket_permit.meters.cpu)
}

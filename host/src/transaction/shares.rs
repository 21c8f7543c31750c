//! `[shares]`: the part of a plugin's resources that one user, and all users of one tenant together, may use. Checked before the
//! commit of a client's call, so that a refused call has no effect. Calls of backends have no share.

use super::effects::{Effects, Live};
use super::services::Services;
use crate::budgets::shares::Shares;
use crate::error::{Code, Refusal};
use crate::names::{PluginName, SEPARATOR};
use crate::owners::tenant_of;
use crate::sandbox::imports::budget::Answer;
use crate::telemetry::LimitLabels;

/// Both limits of one resource, with their names.
struct Share<T> {
    user: (&'static str, T),
    tenant: (&'static str, T),
}

/// The period of the shares that are rates.
const MINUTE_MS: u64 = 60_000;

/// Whether a call uses any shared resource. Most calls only emit.
pub fn has_shared(effects: &Effects) -> bool {
    let is_shared = |live: &Live| matches!(live, Live::Arm { .. } | Live::Track(_) | Live::Join { .. });
    effects.stored > 0 || !effects.messages.is_empty() || effects.live.iter().any(is_shared)
}

impl Shares {
    /// Takes the resources of a user's call from the shares, or refuses the call. `is_first` is false if the call runs again
    /// after a conflict: its rates are taken already. `user` is the name within the tenant.
    pub fn take(
        &self,
        services: &Services,
        plugin: &PluginName,
        user: &str,
        effects: &Effects,
        is_first: bool,
    ) -> Result<(), Refusal> {
        self.check_held(services, user, effects)?;
        if !is_first {
            return Ok(());
        }
        let c = &self.config;
        let bytes = Share {
            user: ("shares.user_store_bytes", c.user_store_bytes),
            tenant: ("shares.tenant_store_bytes", c.tenant_store_bytes),
        };
        let messages =
            Share { user: ("shares.user_messages", c.user_messages), tenant: ("shares.tenant_messages", c.tenant_messages) };
        self.rate(services, plugin, user, &bytes, u32::try_from(effects.stored).unwrap_or(u32::MAX))?;
        self.rate(services, plugin, user, &messages, u32::try_from(effects.messages.len()).unwrap_or(u32::MAX))
    }

    fn rate(&self, services: &Services, plugin: &PluginName, user: &str, share: &Share<u32>, points: u32) -> Result<(), Refusal> {
        if points == 0 {
            return Ok(());
        }
        let now = services.clock.steady_ms();
        for ((name, most), owner) in [(share.user, Some(user)), (share.tenant, tenant_of(user))] {
            let Some(owner) = owner.filter(|_| most > 0) else { continue };
            let key = format!("{plugin}{SEPARATOR}{name}{SEPARATOR}{owner}");
            let Answer::RetryAfter(wait) = self.rates.take(&key, points, most, MINUTE_MS, now) else { continue };
            self.passed(services, name);
            return Err(if points > most {
                Refusal::new(Code::TooLarge, "Too much to store")
            } else {
                Refusal { retry_after_ms: Some(wait), ..Refusal::new(Code::RateLimited, "Too much in too short a time") }
            });
        }
        Ok(())
    }

    /// Checks resources that a user holds: timers, presence keys, rooms.
    fn check_held(&self, services: &Services, user: &str, effects: &Effects) -> Result<(), Refusal> {
        let c = &self.config;
        let (mut timers, mut keys, mut joins) = (0, 0, 0);
        for live in &effects.live {
            match live {
                Live::Arm { id, .. } => timers += usize::from(!services.timers.is_waiting(id)),
                Live::Track(track) => keys += usize::from(!services.presences.is_tracked(track)),
                Live::Join { socket, namespace, room } => {
                    let adapter = services.rooms.namespace(namespace);
                    joins += usize::from(adapter.is_some_and(|adapter| adapter.members(|members| !members.is_in(*socket, room))));
                }
                _ => {}
            }
        }
        if timers > 0 {
            let share = Share { user: ("shares.user_timers", c.user_timers), tenant: ("shares.tenant_timers", c.tenant_timers) };
            self.count(services, &share, services.timers.of(user), timers, "Too many timers")?;
        }
        if keys > 0 {
            let share = Share {
                user: ("shares.user_presence_keys", c.user_presence_keys),
                tenant: ("shares.tenant_presence_keys", c.tenant_presence_keys),
            };
            self.count(services, &share, services.presences.of(user), keys, "Present in too many groups")?;
        }
        if joins > 0 {
            let share = Share { user: ("shares.user_rooms", c.user_rooms), tenant: ("shares.tenant_rooms", c.tenant_rooms) };
            self.count(services, &share, rooms_of(services, user, effects), joins, "In too many rooms")?;
        }
        Ok(())
    }

    fn count(
        &self,
        services: &Services,
        share: &Share<usize>,
        (user, tenant): (usize, usize),
        more: usize,
        sentence: &'static str,
    ) -> Result<(), Refusal> {
        for ((name, most), has) in [(share.user, user), (share.tenant, tenant)] {
            if most > 0 && has + more > most {
                self.passed(services, name);
                return Err(Refusal::new(Code::TooLarge, sentence));
            }
        }
        Ok(())
    }

    fn passed(&self, services: &Services, limit: &'static str) {
        services.metrics.limits_passed.get_or_create(&LimitLabels { limit, outcome: "refused" }).inc();
        if let Some(count) = self.log.happened() {
            tracing::warn!(limit, count, "calls were refused: a user or a tenant has taken its share");
        }
    }
}

/// The numbers of rooms that the user and the user's tenant are in, in the namespace of the call's joins.
fn rooms_of(services: &Services, user: &str, effects: &Effects) -> (usize, usize) {
    let namespace = effects.live.iter().find_map(|live| match live {
        Live::Join { namespace, .. } => Some(namespace),
        _ => None,
    });
    let adapter = namespace.and_then(|namespace| services.rooms.namespace(namespace));
    adapter.map_or((0, 0), |adapter| adapter.members(|members| members.rooms_by_owner(user)))
}

//! `budget.wit`: token buckets, shared by all nodes while the cluster answers, and otherwise local to this node.

use crate::budgets::buckets::Taken;
use crate::names;
use crate::sandbox::imports::budget::{Answer, Host};
use crate::sandbox::imports::types::EffectError;
use crate::transaction::state::{State, invalid_name};

impl Host for State {
    async fn take(
        &mut self,
        name: String,
        key: String,
        points: u32,
        capacity: u32,
        period_ms: u64,
    ) -> wasmtime::Result<Result<Answer, EffectError>> {
        self.import()?;
        if self.call.bare {
            return Ok(Err(EffectError::Denied("describe and init have no budgets".into())));
        }
        let checked = names::check("budget", &name).and_then(|()| names::check("key", &key)).map_err(invalid_name);
        if let Err(invalid) = checked {
            return Ok(Err(invalid));
        }
        if capacity == 0 {
            return Ok(Ok(Answer::Taken(u32::MAX)));
        }
        let tenant = match self.tenant() {
            Ok(tenant) => tenant,
            Err(denied) => return Ok(Err(denied)),
        };
        let separator = names::SEPARATOR;
        let key = format!("{}{separator}{name}{separator}{}", self.profile.name, names::scoped(tenant, &key));
        Ok(Ok(self.take_once(key, points, capacity, period_ms).await))
    }
}

impl State {
    async fn take_once(&mut self, key: String, points: u32, capacity: u32, period_ms: u64) -> Answer {
        let replay = &mut self.call.replay;
        let at = replay.next_budget;
        replay.next_budget += 1;
        if let Some(taken) = replay.budgets.get(at).filter(|taken| taken.key == key && taken.points == points) {
            return taken.answer;
        }
        // Not the call's own time, which is by the wall clock and may be set.
        let now = self.services.clock.steady_ms();
        let answer = match &self.services.cluster {
            Some(cluster) if points <= capacity => match cluster.buckets.take(&key, points, capacity, period_ms).await {
                Ok(Ok(left)) => Answer::Taken(left),
                Ok(Err(wait_ms)) => Answer::RetryAfter(wait_ms),
                // Without an answer a node counts by itself.
                Err(_) => self.services.budgets.take(&key, points, capacity, period_ms, now),
            },
            _ => self.services.budgets.take(&key, points, capacity, period_ms, now),
        };
        // A rerun that takes from another budget has diverged: from here on its answers are new.
        let replay = &mut self.call.replay;
        replay.budgets.truncate(at);
        replay.budgets.push(Taken { key, points, answer });
        answer
    }
}

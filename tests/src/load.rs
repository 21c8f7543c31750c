//! A steady load of acknowledged events and their latencies. A client must never send an event before its previous one is
//! acknowledged, so that a delayed answer shows up as late.

use std::cell::Cell;
use std::time::Duration;

use futures_util::future::{join, join_all};
use serde_json::Value;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::Client;

/// Clients that send the same event at a steady pace.
pub struct Load {
    pub clients: Vec<Client>,
    pub event: &'static str,
    /// Of all clients together.
    pub per_second: u32,
}

/// Latencies of the acknowledged events.
#[derive(Debug)]
pub struct Latencies {
    /// Sorted.
    times: Vec<Duration>,
}

impl Load {
    /// Sends until `until` has ended. Every acknowledgement is passed to `holds`, which panics if it is wrong.
    pub async fn during<T>(&mut self, holds: impl Fn(&Value), until: impl Future<Output = T>) -> (T, Latencies) {
        let ended = Cell::new(false);
        let period = Duration::from_secs(1) * u32::try_from(self.clients.len()).expect("a few clients") / self.per_second;
        let (event, start) = (self.event, Instant::now());
        let sending = self.clients.iter_mut().zip(0..).map(async |(client, n)| {
            // Spread over the period, as independent clients are.
            let mut turns = interval_at(start + period * n / 16, period);
            turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut times = Vec::new();
            while !ended.get() {
                turns.tick().await;
                let sent = Instant::now();
                holds(&client.ask(event, Value::Null).await);
                times.push(sent.elapsed());
            }
            times
        });
        let until = async {
            let done = until.await;
            ended.set(true);
            done
        };
        let (done, times) = join(until, join_all(sending)).await;
        let mut times = times.concat();
        times.sort_unstable();
        (done, Latencies { times })
    }

    /// Asserts that no event was acknowledged twice and that all clients are still connected.
    pub async fn expect_no_extra_acks(&mut self) {
        for client in &mut self.clients {
            client.expect_no_ack().await;
        }
    }
}

impl Latencies {
    /// The number of acknowledged events.
    pub fn events(&self) -> usize {
        self.times.len()
    }

    /// The 99th percentile.
    pub fn p99(&self) -> Duration {
        self.times[(self.times.len() * 99 / 100).min(self.times.len() - 1)]
    }
}

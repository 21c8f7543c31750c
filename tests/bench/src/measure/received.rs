//! The messages that each client of a room received, against what the room's one sender sent. It must never count a message that
//! came twice as another one.

use anyhow::{Context, Result, bail, ensure};

use crate::client::Packet;
use crate::stamp;

pub(super) struct Received {
    /// For each client.
    clients: Vec<Sequence>,
}

#[derive(Default)]
struct Sequence {
    /// A bit for each message of the room.
    got: Vec<u64>,
    distinct: u64,
    /// The largest number so far.
    last: Option<u32>,
}

/// The events that the clients received in the end.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Totals {
    /// Percent of what was sent to all clients together.
    pub(super) delivered: f64,
    /// Percent for the client that received the least.
    pub(super) worst: f64,
    pub(super) lost: u64,
}

/// One received message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    InOrder,
    /// A later message of the same sender came before.
    OutOfOrder,
    Doubled,
}

impl Received {
    pub(super) fn of(clients: usize) -> Self {
        Self { clients: (0..clients).map(|_| Sequence::default()).collect() }
    }

    /// Notes a message for a client; `None` for any other packet. Senders, whose index is past the clients', are not noted.
    ///
    /// # Errors
    /// The server refused an event.
    pub(super) fn take(&mut self, client: usize, packet: Packet<'_>) -> Result<Option<Delivery>> {
        let Packet::Event(event) = packet else { return Ok(None) };
        ensure!(!event.starts_with(br#"["error""#), "refused: {}", String::from_utf8_lossy(event));
        let Some(sequence) = self.clients.get_mut(client) else { return Ok(None) };
        Ok(stamp::read(event).map(|stamp| sequence.take(stamp.number)))
    }

    /// `sent` is the number of messages that were sent to a client's room.
    pub(super) fn totals(&self, sent: impl Fn(usize) -> u32) -> Result<Totals> {
        let (mut expected, mut distinct, mut worst) = (0, 0, 100.0f64);
        for (client, sequence) in self.clients.iter().enumerate() {
            let sent = u64::from(sent(client));
            if sequence.distinct > sent {
                bail!("client {client} received {} of {sent} messages", sequence.distinct);
            }
            (expected, distinct) = (expected + sent, distinct + sequence.distinct);
            worst = worst.min(percent(sequence.distinct, sent));
        }
        let lost = u64::checked_sub(expected, distinct).context("more was received than was sent")?;
        Ok(Totals { delivered: percent(distinct, expected), worst, lost })
    }
}

impl Sequence {
    fn take(&mut self, number: u32) -> Delivery {
        let (word, bit) = (number as usize / 64, 1 << (number % 64));
        if self.got.len() <= word {
            self.got.resize(word + 1, 0);
        }
        if self.got[word] & bit != 0 {
            return Delivery::Doubled;
        }
        self.got[word] |= bit;
        self.distinct += 1;
        if self.last.is_some_and(|last| number < last) {
            return Delivery::OutOfOrder;
        }
        self.last = Some(number);
        Delivery::InOrder
    }
}

/// Percent; 100 of nothing.
pub(super) fn percent(part: u64, of: u64) -> f64 {
    if of == 0 { 100.0 } else { part as f64 * 100.0 / of as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(received: &mut Received, client: usize, number: u32) -> Option<Delivery> {
        let event = format!(r#"["chat:message",{{"message":"{}"}},"9c.1"]"#, stamp::text(1, number));
        received.take(client, Packet::Event(event.as_bytes())).unwrap()
    }

    #[test]
    fn lost_doubled_and_late_messages_are_told_apart() {
        let mut received = Received::of(2);
        let of_first = [0, 1, 1, 70, 2].map(|number| receive(&mut received, 0, number));
        let (in_order, late) = (Some(Delivery::InOrder), Some(Delivery::OutOfOrder));
        assert_eq!(of_first, [in_order, in_order, Some(Delivery::Doubled), in_order, late]);
        assert_eq!(receive(&mut received, 1, 0), in_order);
        assert_eq!(receive(&mut received, 2, 0), None, "the sender's own");
        assert_eq!(received.totals(|_| 5).unwrap(), Totals { delivered: 50.0, worst: 20.0, lost: 5 });
        assert!(received.totals(|client| [4, 0][client]).is_err(), "more than was sent");
    }
}

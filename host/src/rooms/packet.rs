//! One event as packets for clients: one with its offset for those that may come back, and one without for the others. Each is encoded
//! once, when it is first needed.

use std::cell::OnceCell;

use hubbub_wire::Message;

use super::Send;
use super::members::Recipient;
use crate::recovery::log::{Log, Logged};

pub(super) struct Packet<'a> {
    namespace: &'a str,
    send: &'a Send<'a>,
    /// The position in the log, with the packet for clients that may come back.
    positioned: Option<(u64, Message)>,
    plain: OnceCell<Message>,
}

impl<'a> Packet<'a> {
    /// The packet of an event at a position that was reserved for it, which is written to the log. `only` is a room of the host.
    pub(super) fn new(namespace: &'a str, send: &'a Send<'a>, position: Option<u64>, log: &Log, only: Option<&str>) -> Self {
        if let Some(at) = send.at {
            let message = Message::event_at(namespace, send.text, &at.offset);
            return Self { namespace, send, positioned: Some((at.position, message)), plain: OnceCell::new() };
        }
        let positioned = position.map(|position| {
            let offset = log.offset(position).to_string();
            let message = Message::event_at(namespace, send.text, &offset);
            if send.volatile {
                log.skip(position);
            } else {
                let (except, only) = (send.except.into(), only.map(Into::into));
                log.write(position, Logged { message: message.clone(), except, except_socket: send.except_socket, only });
            }
            (position, message)
        });
        Self { namespace, send, positioned, plain: OnceCell::new() }
    }

    /// Sends it to a client.
    pub(super) fn deliver(&self, Recipient { socket, since, catch_up, .. }: &Recipient) {
        let since = *since;
        match (&self.positioned, self.send.volatile) {
            (Some((_, message)), volatile) if since > 0 && self.send.at.is_some() => match (self.send.at, catch_up) {
                (Some(at), Some(catch_up)) => catch_up.deliver(socket, (self.namespace, self.send.text), at, message),
                // Its order is that of the sends, and of all nodes.
                _ if volatile => drop(socket.send_volatile(message)),
                _ => drop(socket.send(message)),
            },
            // It came back while the event was on its way, and has got it as one that it missed.
            (Some((position, _)), _) if since > *position => {}
            (Some((position, message)), false) if since > 0 => drop(socket.send_at(message, *position)),
            (Some((position, message)), true) if since > 0 => drop(socket.send_volatile_at(message, *position)),
            (_, false) => drop(socket.send(self.plain())),
            (_, true) => drop(socket.send_volatile(self.plain())),
        }
    }

    fn plain(&self) -> &Message {
        self.plain.get_or_init(|| Message::event(self.namespace, self.send.text))
    }
}

/// Whether the last argument of an event is a text, which a stock client takes for an offset.
pub fn ends_in_text(array: &str) -> bool {
    array.trim_end().strip_suffix(']').is_some_and(|inside| inside.trim_end().ends_with('"'))
}

#[cfg(test)]
mod tests {
    use super::ends_in_text;

    #[test]
    fn a_text_at_the_end_is_found() {
        for (array, ends) in [
            (r#"["name","x"]"#, true),
            (r#"["name","x" ] "#, true),
            (r#"["name"]"#, true),
            (r#"["name",{"a":"x"}]"#, false),
            (r#"["name","x",1]"#, false),
            (r#"["name",["x"]]"#, false),
        ] {
            assert_eq!(ends_in_text(array), ends, "{array}");
        }
    }
}

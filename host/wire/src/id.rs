//! Random ids of 128 bits, in three types that cannot be confused: a [`SocketId`] is public and gives no access; a [`PrivateId`] is
//! known to its client only; the engine's session id is sent to its client only, and is not exported.

use std::cell::RefCell;
use std::fmt;

/// Bytes of an id.
const BYTES: usize = 16;

/// Characters of an id as text.
const CHARS: usize = 22;

/// Random bytes that a thread gets with one system call, since a call for each id is slow.
const DRAWN: usize = 64 * BYTES;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

thread_local! {
    static POOL: RefCell<(Vec<u8>, usize)> = const { RefCell::new((Vec::new(), 0)) };
}

fn random() -> [u8; BYTES] {
    POOL.with_borrow_mut(|(pool, used)| {
        if *used + BYTES > pool.len() {
            pool.resize(DRAWN, 0);
            fill(pool);
            *used = 0;
        }
        let mut id = [0; BYTES];
        let drawn = &mut pool[*used..*used + BYTES];
        id.copy_from_slice(drawn);
        // A used id must not be read from memory later.
        drawn.fill(0);
        *used += BYTES;
        id
    })
}

#[expect(clippy::expect_used, reason = "a system without random numbers must not hand out ids that can be guessed")]
fn fill(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the system has no random numbers");
}

fn encode(id: [u8; BYTES]) -> [u8; CHARS] {
    let bits = u128::from_be_bytes(id);
    let mut text = [0; CHARS];
    for (at, char) in text.iter_mut().enumerate() {
        // The last character holds the last two bits, and four zeros.
        let six = if at == CHARS - 1 { bits << 4 } else { bits >> (122 - 6 * at) };
        *char = ALPHABET[(six & 63) as usize];
    }
    text
}

fn decode(text: &str) -> Option<[u8; BYTES]> {
    let text: [u8; CHARS] = text.as_bytes().try_into().ok()?;
    let mut bits = 0u128;
    for (at, char) in text.into_iter().enumerate() {
        let six = match char {
            b'A'..=b'Z' => char - b'A',
            b'a'..=b'z' => char - b'a' + 26,
            b'0'..=b'9' => char - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        if at == CHARS - 1 {
            // One id has one text.
            if six & 15 != 0 {
                return None;
            }
            bits |= u128::from(six >> 4);
        } else {
            bits |= u128::from(six) << (122 - 6 * at);
        }
    }
    Some(bits.to_be_bytes())
}

macro_rules! id {
    ($(#[$doc:meta])* $visibility:vis $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        $visibility struct $name([u8; BYTES]);

        impl $name {
            /// A new random id.
            $visibility fn random() -> Self {
                Self(random())
            }

            /// Reads the 22 characters that `Display` writes.
            #[allow(dead_code, reason = "not every kind of id is read")]
            $visibility fn parse(text: &str) -> Option<Self> {
                decode(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(std::str::from_utf8(&encode(self.0)).unwrap_or_default())
            }
        }
    };
}

id! {
    /// A socket's public id: `socket.id` of its client.
    pub SocketId
}

id! {
    /// The secret by which a client resumes its socket (`pid`). Only its client may learn it.
    pub PrivateId
}

id! {
    /// The engine's session id (`sid` of the handshake and of the requests). It gives access to the session, so it is not exported and has no `Debug`.
    pub(crate) SessionId
}

impl fmt::Debug for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SocketId({self})")
    }
}

impl fmt::Debug for PrivateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateId(…)")
    }
}

impl SessionId {
    /// Random bits of the id: enough to choose a shard, too few to guess the id.
    pub(crate) fn shard(self) -> usize {
        usize::from(self.0[0])
    }

    /// A number from 0 to 1, of as few bits.
    pub(crate) fn fraction(self) -> f64 {
        f64::from(u16::from_be_bytes([self.0[1], self.0[2]])) / f64::from(u16::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_from_its_text() {
        for _ in 0..1000 {
            let id = SocketId::random();
            let text = id.to_string();
            assert_eq!(text.len(), CHARS);
            assert_eq!(SocketId::parse(&text), Some(id));
        }
        assert_eq!(encode([0xff; BYTES]), *b"_____________________w");
    }

    #[test]
    fn other_texts_are_no_ids() {
        for text in ["", "AAAAAAAAAAAAAAAAAAAAAB", "AAAAAAAAAAAAAAAAAAAA+A", "AAAAAAAAAAAAAAAAAAAAAAA", "ééééééééééé"]
        {
            assert_eq!(SocketId::parse(text), None, "{text}");
        }
    }
}

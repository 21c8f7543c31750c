//! Random bytes from the operating system, good enough for secrets. A handler that runs again after a conflict gets the same bytes.

use crate::host;

/// `N` random bytes, at most 1024. More do not compile.
pub fn bytes<const N: usize>() -> [u8; N] {
    const { assert!(N <= 1024, "at most 1024 random bytes a call") };
    let given = host::random::bytes(N as u32);
    let mut bytes = [0; N];
    bytes.copy_from_slice(&given);
    bytes
}

/// A random number.
pub fn number() -> u64 {
    u64::from_le_bytes(bytes())
}

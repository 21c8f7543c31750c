//! Properties that must hold for any bytes of a client. libFuzzer (`make fuzz`) and the tests call it, and only they compile it. It
//! panics if a property does not hold.

pub(crate) mod frames;
mod packets;
mod session;

pub use frames::frames;
pub use packets::packets;
pub use session::session;

#[cfg(test)]
mod tests;

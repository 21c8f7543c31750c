//! Rooms and who is in them, on this node and (with Redis, which is not there yet) on the others.

pub mod adapter;
pub mod members;
pub mod tap;

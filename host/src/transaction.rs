//! A call as a transaction: what it has read, the effects that it has collected, and their commit.

pub mod commit;
pub mod effects;
pub mod import_log;
pub mod limits;
pub mod once;
pub mod onces;
pub mod profile;
pub mod services;
pub mod shares;
pub mod state;

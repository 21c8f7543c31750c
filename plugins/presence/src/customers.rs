//! The support desk's customers in `/portal`. Their presence is kept, and no client is told of it.

use hubbub_sdk::{
    Result, User,
    presence::{self, Status},
};

const GROUP: &str = "customers";

pub(crate) fn enter(user: &User) -> Result<()> {
    Ok(presence::track(GROUP, &user.id, Status::Online, &())?)
}

/// Every 30 s from everyone: no store, no bus, no emit.
pub(crate) fn heartbeat() -> Result<()> {
    Ok(presence::heartbeat()?)
}

#[cfg(test)]
mod tests;

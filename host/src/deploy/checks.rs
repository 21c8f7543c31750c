//! Checks of a component before it is staged: its version, signature, grants, and the operator's changes to its door policies.

pub mod doors;
pub mod grants;
pub mod signature;
pub mod versions;

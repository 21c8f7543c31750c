//! Limits on what plugins and users may use: token buckets and quotas.

pub mod buckets;
pub mod quota;
pub mod shares;

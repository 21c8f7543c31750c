//! Names of what belongs to one tenant (a company). No two tenants' names are ever the same, whatever ids they share.

use hubbub_sdk::store::key;

/// A room of a tenant's: `conversation:{tenant}/{id}`. The tenant is escaped, so that its end is where the first `/` is; the id
/// stays as it is, so that a long one stays within a room's 256 bytes.
pub(crate) fn room(kind: &str, tenant: &str, id: &str) -> String {
    format!("{kind}:{}/{id}", key([tenant]))
}

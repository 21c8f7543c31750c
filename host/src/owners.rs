//! Counts items by their user and the user's tenant. Independent of what is counted.

use std::collections::HashMap;

use crate::names::{self, SEPARATOR};

/// The number of items of each user and tenant. A user or tenant without items uses no memory.
#[derive(Debug, Default)]
pub struct Owners(HashMap<Box<str>, usize>);

impl Owners {
    /// Adds one item of a user, by the user's name within the tenant.
    pub fn add(&mut self, user: &str) {
        for owner in owners_of(user) {
            match self.0.get_mut(owner) {
                Some(count) => *count += 1,
                None => drop(self.0.insert(owner.into(), 1)),
            }
        }
    }

    /// Removes one item of a user.
    pub fn remove(&mut self, user: &str) {
        for owner in owners_of(user) {
            let Some(count) = self.0.get_mut(owner) else { continue };
            *count -= 1;
            if *count == 0 {
                self.0.remove(owner);
            }
        }
    }

    /// The numbers of the user and of the user's tenant; 0 for a user without a tenant.
    pub fn counts(&self, user: &str) -> (usize, usize) {
        let of = |owner: &str| self.0.get(owner).copied().unwrap_or(0);
        (of(user), tenant_of(user).map_or(0, of))
    }
}

/// The user and the user's tenant. A tenant's own items belong to its user with an empty name, and count once.
fn owners_of(user: &str) -> impl Iterator<Item = &str> {
    let tenant = tenant_of(user).filter(|tenant| *tenant != user);
    std::iter::once(user).chain(tenant)
}

/// The tenant's part of a user's name, with the separator, so that it equals no user's name.
pub fn tenant_of(user: &str) -> Option<&str> {
    let (tenant, _) = names::unscoped(user);
    tenant.map(|tenant| &user[..tenant.len() + SEPARATOR.len_utf8()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_count_for_the_user_and_the_tenant_until_removed() {
        let (mut owners, [ana, bia]) = (Owners::default(), ["ana", "bia"].map(|id| names::scoped(Some("acme"), id)));
        for user in [ana.as_str(), &ana, &bia, "ana"] {
            owners.add(user);
        }
        assert_eq!([owners.counts(&ana), owners.counts(&bia), owners.counts("ana")], [(2, 3), (1, 3), (1, 0)]);
        for user in [ana.as_str(), &ana, &bia, "ana"] {
            owners.remove(user);
        }
        assert!(owners.0.is_empty());
    }
}

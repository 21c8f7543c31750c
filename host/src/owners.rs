//! Counts things by the user that they belong to, and by the user's tenant. Knows nothing of what is counted.

use std::collections::HashMap;

use crate::names::{self, SEPARATOR};

/// How many things each user and each tenant has. A user or tenant that has none takes no memory.
#[derive(Debug, Default)]
pub struct Owners(HashMap<Box<str>, usize>);

impl Owners {
    /// One more of a user's, by the user's name within the tenant.
    pub fn add(&mut self, user: &str) {
        for owner in owners_of(user) {
            match self.0.get_mut(owner) {
                Some(count) => *count += 1,
                None => drop(self.0.insert(owner.into(), 1)),
            }
        }
    }

    /// One less.
    pub fn remove(&mut self, user: &str) {
        for owner in owners_of(user) {
            let Some(count) = self.0.get_mut(owner) else { continue };
            *count -= 1;
            if *count == 0 {
                self.0.remove(owner);
            }
        }
    }

    /// How many the user has, and how many the user's tenant has: none for a user without a tenant.
    pub fn counts(&self, user: &str) -> (usize, usize) {
        let of = |owner: &str| self.0.get(owner).copied().unwrap_or(0);
        (of(user), tenant_of(user).map_or(0, of))
    }
}

/// The user and the user's tenant. What is a tenant's alone belongs to its user without a name, and counts once.
fn owners_of(user: &str) -> impl Iterator<Item = &str> {
    let tenant = tenant_of(user).filter(|tenant| *tenant != user);
    std::iter::once(user).chain(tenant)
}

/// The tenant's part of a user's name, with the separator: no user has that name.
pub fn tenant_of(user: &str) -> Option<&str> {
    let (tenant, _) = names::unscoped(user);
    tenant.map(|tenant| &user[..tenant.len() + SEPARATOR.len_utf8()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_things_are_the_tenants_too_and_nothing_is_left_behind() {
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

//! Maps and sets that a client cannot aim collisions at: the standard ones hash with fixed seeds in a component. Their order
//! differs from call to call; sort, or use a `BTreeMap`, before it shows.

use std::hash::BuildHasher;

use crate::random;

/// A map with a seed of its own from `random`. Made by `HashMap::default()`.
pub type HashMap<K, V> = std::collections::HashMap<K, V, RandomState>;

/// A set with a seed of its own from `random`. Made by `HashSet::default()`.
pub type HashSet<T> = std::collections::HashSet<T, RandomState>;

/// One map's seed. Each map asks for its own, so that a run after a conflict asks for the same and gets the same.
#[derive(Debug, Clone)]
pub struct RandomState(u64, u64);

impl Default for RandomState {
    fn default() -> Self {
        Self(random::number(), random::number())
    }
}

impl BuildHasher for RandomState {
    #[expect(deprecated, reason = "the only SipHash of the standard library that takes a seed")]
    type Hasher = std::hash::SipHasher;

    #[expect(deprecated, reason = "the only SipHash of the standard library that takes a seed")]
    fn build_hasher(&self) -> Self::Hasher {
        std::hash::SipHasher::new_with_keys(self.0, self.1)
    }
}

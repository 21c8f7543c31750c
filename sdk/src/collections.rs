//! Maps and sets with random seeds, so that a client cannot choose keys that collide. In a component the standard maps hash with
//! fixed seeds. The order of entries differs from call to call: sort them, or use a `BTreeMap`, before a client sees them.

use std::hash::BuildHasher;

use crate::random;

/// A map with a random seed. Made by `HashMap::default()`.
pub type HashMap<K, V> = std::collections::HashMap<K, V, RandomState>;

/// A set with a random seed. Made by `HashSet::default()`.
pub type HashSet<T> = std::collections::HashSet<T, RandomState>;

/// The seed of one map. It comes from [`random`], so that a run after a conflict gets the same seed.
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

//! The namespaces of an event or of rooms, as a constant states them.

/// One namespace or several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Namespaces {
    One(&'static str),
    Each(&'static [&'static str]),
}

impl Namespaces {
    pub(crate) fn iter(self) -> impl Iterator<Item = &'static str> {
        let (one, each): (Option<&'static str>, &'static [&'static str]) = match self {
            Self::One(namespace) => (Some(namespace), &[]),
            Self::Each(namespaces) => (None, namespaces),
        };
        one.into_iter().chain(each.iter().copied())
    }
}

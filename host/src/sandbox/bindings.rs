//! Rust types and traits generated from `wit/`: the form of the contract that the rest of the host uses, for every version. Only
//! what the generator omits is written by hand.
#![allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, clippy::unwrap_used)]

wasmtime::component::bindgen!({
    path: "../wit",
    world: "plugin",
    imports: {
        // Reads may wait for storage or other nodes; all other imports answer at once.
        "hubbub:plugin/store@0.2.0.get": async | trappable,
        "hubbub:plugin/store@0.2.0.get-many": async | trappable,
        "hubbub:plugin/store@0.2.0.scan": async | trappable,
        "hubbub:plugin/store@0.2.0.counter": async | trappable,
        "hubbub:plugin/timers@0.2.0.after": async | trappable,
        "hubbub:plugin/timers@0.2.0.cancel": async | trappable,
        "hubbub:plugin/rooms@0.2.0.size": async | trappable,
        "hubbub:plugin/presence@0.2.0.list": async | trappable,
        "hubbub:plugin/presence@0.2.0.count": async | trappable,
        "hubbub:plugin/budget@0.2.0.take": async | trappable,
        default: trappable,
    },
    // A call's arguments and answer can be stored as JSON.
    additional_derives: [PartialEq, serde::Serialize, serde::Deserialize],
    exports: { default: async },
});

use exports::hubbub::plugin::handler::Hooks;

/// The generator derives nothing for flags.
impl serde::Serialize for Hooks {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        (self.contains(Self::CONNECT), self.contains(Self::DISCONNECT)).serialize(to)
    }
}

impl<'de> serde::Deserialize<'de> for Hooks {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (connect, disconnect) = <(bool, bool)>::deserialize(from)?;
        let given = |given: bool, flag: Self| if given { flag } else { Self::empty() };
        Ok(given(connect, Self::CONNECT) | given(disconnect, Self::DISCONNECT))
    }
}

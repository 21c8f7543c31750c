//! Rust types and traits made from `wit/`. Nothing is written by hand here.
#![allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, clippy::unwrap_used)]

wasmtime::component::bindgen!({
    path: "../wit",
    world: "plugin",
    imports: {
        // Reads may wait for storage, and for the other nodes; everything else answers at once.
        "hubbub:plugin/store@0.1.0.get": async | trappable,
        "hubbub:plugin/store@0.1.0.scan": async | trappable,
        "hubbub:plugin/store@0.1.0.counter": async | trappable,
        "hubbub:plugin/timers@0.1.0.after": async | trappable,
        "hubbub:plugin/timers@0.1.0.cancel": async | trappable,
        "hubbub:plugin/rooms@0.1.0.size": async | trappable,
        "hubbub:plugin/presence@0.1.0.list": async | trappable,
        "hubbub:plugin/presence@0.1.0.count": async | trappable,
        "hubbub:plugin/budget@0.1.0.take": async | trappable,
        default: trappable,
    },
    exports: { default: async },
});

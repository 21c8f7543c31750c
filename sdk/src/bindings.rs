//! The bindings that `wit-bindgen` generates from `wit/`: the contract's types, imports and export. Plugins never use them directly,
//! but through the module of the same noun.
#![allow(missing_docs, unsafe_code, unreachable_pub, unused_qualifications, clippy::all)]

wit_bindgen::generate!({
    path: "wit",
    world: "plugin",
    pub_export_macro: true,
    export_macro_name: "export_handler",
    default_bindings_module: "hubbub_sdk::bindings",
    runtime_path: "wit_bindgen::rt",
    additional_derives: [PartialEq],
    generate_all,
});

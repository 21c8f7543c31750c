//! Makes a component of a core module that was built with the SDK. It must never leave a partly written file.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use wasmparser::{Parser, Payload};
use wit_component::ComponentEncoder;

/// The custom sections in which `wit-bindgen` stores the contract for the encoder.
const CONTRACT_SECTION: &str = "component-type";

/// Import modules of wasm-bindgen: a dependency was built for a browser's JavaScript.
const BROWSER_MODULES: [&str; 3] = ["__wbindgen_placeholder__", "__wbindgen_externref_xform__", "wbg"];

/// Why a module cannot become a component.
#[derive(Debug, thiserror::Error)]
pub enum ComponentError {
    #[error("it exports no plugin: does it use #[hubbub_sdk::plugin]?")]
    NotAPlugin,
    #[error(
        "one of its dependencies calls a browser's JavaScript (through wasm-bindgen), which no server has. Often it is a \
         default feature, as in `chrono`, `uuid`, `getrandom` and `time`; `cargo tree -i wasm-bindgen --target all` shows which. \
         Leave that feature out: a plugin's time is `hubbub_sdk::clock`, its randomness `hubbub_sdk::random`"
    )]
    Browser,
    #[error("it does not fit the plugin contract: {0}")]
    Contract(String),
    #[error("the compiled module cannot be read: {0}")]
    Unreadable(String),
}

/// Wraps a module, and checks that the result is a valid component.
pub(super) fn componentize(module: &[u8]) -> Result<Vec<u8>, ComponentError> {
    let mut contract = false;
    for payload in Parser::new(0).parse_all(module) {
        match payload.map_err(|error| ComponentError::Unreadable(error.to_string()))? {
            Payload::CustomSection(section) => contract |= section.name().starts_with(CONTRACT_SECTION),
            Payload::ImportSection(imports) => {
                let mut imports = imports.into_imports();
                if imports.any(|import| import.is_ok_and(|import| BROWSER_MODULES.contains(&import.module))) {
                    return Err(ComponentError::Browser);
                }
            }
            _ => {}
        }
    }
    if !contract {
        return Err(ComponentError::NotAPlugin);
    }
    ComponentEncoder::default()
        .module(module)
        .and_then(|encoder| encoder.validate(true).encode())
        .map_err(|error| ComponentError::Contract(format!("{error:#}")))
}

/// Replaces a file atomically: a reader gets all of the old bytes or all of the new ones.
pub(super) fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    // Beside its target, because a rename cannot cross file systems; with a unique name for concurrent builds.
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}-{}.part", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    let part = Path::new(&name);
    let written = std::fs::write(part, bytes).and_then(|()| std::fs::rename(part, path));
    if written.is_err() {
        // The first error is the one that is returned.
        let _ = std::fs::remove_file(part);
    }
    written
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::scratch::Scratch;
    use super::*;

    /// A module without sections.
    const EMPTY: [u8; 8] = *b"\0asm\x01\0\0\0";

    /// One import of a function from this module.
    fn importing(module: &str) -> Vec<u8> {
        let mut section = vec![1, module.len() as u8];
        section.extend_from_slice(module.as_bytes());
        section.extend_from_slice(&[1, b'f', 0, 0]);
        let mut bytes = EMPTY.to_vec();
        bytes.extend_from_slice(&[1, 4, 1, 0x60, 0, 0]);
        bytes.extend_from_slice(&[2, section.len() as u8]);
        bytes.extend_from_slice(&section);
        bytes
    }

    #[test]
    fn a_module_that_is_no_plugin_has_the_likely_reason() {
        assert!(matches!(componentize(&EMPTY), Err(ComponentError::NotAPlugin)));
        assert!(matches!(componentize(&importing("__wbindgen_placeholder__")), Err(ComponentError::Browser)));
        assert!(matches!(componentize(&importing("env")), Err(ComponentError::NotAPlugin)));
        assert!(matches!(componentize(b"\0asm\x02"), Err(ComponentError::Unreadable(_))));
    }

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let scratch = Scratch::new();
        let path = scratch.path().join("deep/in/chat.wasm");
        write_atomically(&path, b"one").unwrap();
        write_atomically(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}

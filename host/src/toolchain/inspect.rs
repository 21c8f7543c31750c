//! Inspects a component file: it is parsed and validated, and must never be run.

use std::fmt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wasmparser::{Encoding, Parser, Payload, Validator, WasmFeatures};

use crate::shown;

/// The plugin contract's package.
const CONTRACT: &str = "hubbub:plugin/";

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 256 * 1024 * 1024;

/// The metadata of a component file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// SHA-256 of the file, in hex.
    pub digest: String,
    /// In bytes.
    pub size: u64,
    /// The imported interfaces, in the file's order.
    pub imports: Vec<String>,
    /// The exported interfaces, in the file's order.
    pub exports: Vec<String>,
    /// The version of the plugin contract that it was built against; `None`: it exports no plugin.
    pub contract: Option<String>,
    /// Whether it imports WASI, which the host does not provide.
    pub wasi: bool,
}

/// Why a file cannot be inspected.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error("{} cannot be read: {why}", path.display())]
    File { path: PathBuf, why: std::io::Error },
    #[error("{} is larger than {} MiB", path.display(), MAX_FILE >> 20)]
    TooLarge { path: PathBuf },
    #[error("{} is a core module, not a component: build its crate with `hubbub plugin build`", path.display())]
    CoreModule { path: PathBuf },
    #[error("{} is no valid component: {why}", path.display())]
    Invalid { path: PathBuf, why: String },
}

/// Reads and validates the component in `path`.
pub fn inspect(path: &Path) -> Result<Inspection, InspectError> {
    let file_error = |why| InspectError::File { path: path.to_owned(), why };
    if std::fs::metadata(path).map_err(file_error)?.len() > MAX_FILE {
        return Err(InspectError::TooLarge { path: path.to_owned() });
    }
    let bytes = std::fs::read(path).map_err(file_error)?;
    if Parser::is_core_wasm(&bytes) {
        return Err(InspectError::CoreModule { path: path.to_owned() });
    }
    if !Parser::is_component(&bytes) {
        let why = "it does not begin with the magic bytes of one".to_owned();
        return Err(InspectError::Invalid { path: path.to_owned(), why });
    }
    read(&bytes).map_err(|error| InspectError::Invalid { path: path.to_owned(), why: error.to_string() })
}

/// Parses and validates the bytes of a component.
pub(crate) fn read(bytes: &[u8]) -> wasmparser::Result<Inspection> {
    Validator::new_with_features(WasmFeatures::default()).validate_all(bytes)?;
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    // Only the component's own imports and exports, not those of nested modules and components.
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::Version { encoding: Encoding::Module | Encoding::Component, .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    imports.push(import?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    exports.push(export?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(Inspection {
        digest: Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect(),
        size: bytes.len() as u64,
        contract: exports.iter().find_map(|name| Some(name.strip_prefix(CONTRACT)?.split_once('@')?.1.to_owned())),
        wasi: imports.iter().any(|name| name.starts_with("wasi:")),
        imports,
        exports,
    })
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |names: &[String]| names.iter().map(|name| shown::line(name)).collect::<Vec<_>>().join("\n          ");
        let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { shown(names) };
        writeln!(f, "digest    sha256:{}", self.digest)?;
        writeln!(f, "size      {} KiB", self.size.div_ceil(1024))?;
        writeln!(f, "contract  {}", self.contract.as_deref().unwrap_or("none: it exports no plugin"))?;
        writeln!(
            f,
            "wasi      {}",
            if self.wasi { "yes: no server loads it; build it for wasm32-unknown-unknown" } else { "no" }
        )?;
        writeln!(f, "imports   {}", list(&self.imports))?;
        write!(f, "exports   {}", list(&self.exports))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::scratch::Scratch;
    use super::*;

    /// The smallest component: its header alone.
    const EMPTY: [u8; 8] = *b"\0asm\x0d\0\x01\0";

    /// An empty component that imports an empty instance under this name.
    fn importing(name: &str) -> Vec<u8> {
        let mut bytes = EMPTY.to_vec();
        bytes.extend_from_slice(&[7, 3, 1, 0x42, 0]);
        let mut section = vec![1, 0, name.len() as u8];
        section.extend_from_slice(name.as_bytes());
        section.extend_from_slice(&[5, 0]);
        bytes.extend_from_slice(&[10, section.len() as u8]);
        bytes.extend_from_slice(&section);
        bytes
    }

    #[test]
    fn a_components_imports_and_exports_are_listed() {
        let inspection = read(&importing("wasi:clocks/wall-clock@0.2.6")).unwrap();
        assert_eq!(inspection.imports, ["wasi:clocks/wall-clock@0.2.6"]);
        assert!(inspection.wasi && inspection.contract.is_none());
        let inspection = read(&importing("hubbub:plugin/store@0.1.0")).unwrap();
        assert!(!inspection.wasi && inspection.contract.is_none(), "an import is no plugin");
        assert_eq!(inspection.digest.len(), 64);
        assert!(inspection.to_string().contains("contract  none"), "{inspection}");
    }

    #[test]
    fn a_file_that_is_no_component_is_refused() {
        let scratch = Scratch::new();
        let file = |bytes: &[u8]| {
            let path = scratch.path().join("file.wasm");
            std::fs::write(&path, bytes).unwrap();
            inspect(&path).unwrap_err().to_string()
        };
        assert!(file(b"\0asm\x01\0\0\0").contains("is a core module"));
        assert!(file(b"hello").contains("is no valid component"));
        assert!(inspect(&scratch.path().join("none")).unwrap_err().to_string().contains("cannot be read"));
    }
}

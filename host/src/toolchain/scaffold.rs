//! Creates a new plugin's crate from a template that builds, passes its tests and runs. It must never overwrite a file.

use std::path::{Path, PathBuf};

use crate::names::PluginName;

/// The manifest in a checkout, where the workspace defines the versions and the profile.
const IN_CHECKOUT: &str = include_str!("template/checkout.toml");
/// The manifest of a crate outside a checkout.
const STANDALONE: &str = include_str!("template/alone.toml");
const LIB: &str = include_str!("template/lib.rs");
/// The plugin's name in the templates.
const PLACEHOLDER: &str = "plugin-name";
const SDK_PLACEHOLDER: &str = "sdk-path";

/// Names that a crate cannot have: Rust's keywords, and the crates that every plugin depends on.
const RESERVED: [&str; 20] = [
    "abstract",
    "alloc",
    "as",
    "async",
    "core",
    "crate",
    "fn",
    "hubbub",
    "hubbub-sdk",
    "impl",
    "mod",
    "proc-macro",
    "self",
    "serde",
    "serde-json",
    "schemars",
    "static",
    "std",
    "test",
    "use",
];

/// Why a plugin was not created.
#[derive(Debug, thiserror::Error)]
pub enum NewError {
    #[error("`{name}` cannot be a plugin's name: {why}")]
    Name { name: String, why: String },
    #[error("{} exists already", path.display())]
    Exists { path: PathBuf },
    #[error("{} is not in a checkout of Hubbub: name the SDK's folder with `--sdk PATH` (the folder `sdk` of a checkout)", dir.display())]
    NoSdk { dir: PathBuf },
    #[error("{} is not the SDK: it has no Cargo.toml of the crate `hubbub-sdk`", path.display())]
    NotTheSdk { path: PathBuf },
    #[error("{} cannot be written: {why}", path.display())]
    File { path: PathBuf, why: std::io::Error },
}

/// Creates the crate `NAME` in the folder `parent`, and returns its folder. In the folder `plugins` of a checkout it becomes a member
/// of the workspace; elsewhere it is a workspace of its own that depends on the SDK by path.
pub fn new(name: &str, parent: &Path, sdk: Option<&Path>) -> Result<PathBuf, NewError> {
    check_name(name)?;
    let file_error = |path: &Path| {
        let path = path.to_owned();
        move |why| NewError::File { path, why }
    };
    let parent = resolved(parent).map_err(file_error(parent))?;
    let checkout = checkout_of(&parent);
    let manifest = match (&checkout, sdk) {
        (Some(root), None) if parent == root.join("plugins") => IN_CHECKOUT.to_owned(),
        (_, Some(sdk)) => standalone(sdk)?,
        (Some(root), None) => standalone(&root.join("sdk"))?,
        (None, None) => return Err(NewError::NoSdk { dir: parent }),
    };
    let dir = parent.join(name);
    if dir.exists() {
        return Err(NewError::Exists { path: dir });
    }
    // The checks above create nothing, so that a refusal leaves nothing behind.
    let first_made = dir.ancestors().take_while(|folder| !folder.exists()).last().unwrap_or(&dir).to_owned();
    match write(&dir, &manifest, name) {
        Err(error @ NewError::File { .. }) => {
            // It may fail for the same cause.
            let _ = std::fs::remove_dir_all(first_made);
            Err(error)
        }
        Err(error) => Err(error),
        Ok(()) => Ok(dir),
    }
}

fn write(dir: &Path, manifest: &str, name: &str) -> Result<(), NewError> {
    let file_error = |path: &Path| {
        let path = path.to_owned();
        move |why| NewError::File { path, why }
    };
    let parent = dir.parent().unwrap_or(dir);
    std::fs::create_dir_all(parent).map_err(file_error(parent))?;
    // It fails if another process has created the folder meanwhile.
    std::fs::create_dir(dir).map_err(|why| match why.kind() {
        std::io::ErrorKind::AlreadyExists => NewError::Exists { path: dir.to_owned() },
        _ => NewError::File { path: dir.to_owned(), why },
    })?;
    for (path, text) in [("Cargo.toml", manifest), ("src/lib.rs", LIB)] {
        let path = dir.join(path);
        let written = std::fs::create_dir_all(path.parent().unwrap_or(dir));
        written.and_then(|()| std::fs::write(&path, fill(text, name))).map_err(file_error(&path))?;
    }
    Ok(())
}

/// The absolute folder, with the links of its existing part resolved.
fn resolved(folder: &Path) -> std::io::Result<PathBuf> {
    let folder = std::path::absolute(folder)?;
    for existing in folder.ancestors() {
        if let Ok(real) = existing.canonicalize() {
            return Ok(real.join(folder.strip_prefix(existing).unwrap_or(Path::new(""))));
        }
    }
    Ok(folder)
}

fn check_name(name: &str) -> Result<(), NewError> {
    let refused = |why: String| Err(NewError::Name { name: name.to_owned(), why });
    match PluginName::parse(name) {
        Err(error) => refused(error.to_string()),
        Ok(_) if RESERVED.contains(&name) => refused("this name is reserved".into()),
        // A crate's name may not end with `-`, and `--` is misread as `-`.
        Ok(_) if name.ends_with('-') || name.contains("--") => refused("a `-` must be between two words".into()),
        Ok(_) => Ok(()),
    }
}

/// Fills in the plugin's name and that of its type (`chat-room` → `ChatRoom`).
fn fill(text: &str, name: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
    };
    let type_name: String = name.split('-').map(capital).collect();
    text.replace(PLACEHOLDER, name).replace("PluginName", &type_name)
}

fn standalone(sdk: &Path) -> Result<String, NewError> {
    let not_the_sdk = || NewError::NotTheSdk { path: sdk.to_owned() };
    let sdk = sdk.canonicalize().map_err(|_| not_the_sdk())?;
    let name = read_toml(&sdk.join("Cargo.toml")).and_then(|table| Some(table.get("package")?.get("name")?.as_str()?.to_owned()));
    if name.as_deref() != Some("hubbub-sdk") {
        return Err(not_the_sdk());
    }
    // Escaped as a TOML string: a path may contain quotes and backslashes.
    Ok(STANDALONE.replace(&format!("\"{SDK_PLACEHOLDER}\""), &toml::Value::from(sdk.to_string_lossy().as_ref()).to_string()))
}

/// The checkout of Hubbub around a folder: a workspace with the members `plugins/*` and the dependency `hubbub-sdk`.
fn checkout_of(dir: &Path) -> Option<PathBuf> {
    let is_checkout = |root: &&Path| {
        let workspace = read_toml(&root.join("Cargo.toml")).and_then(|table| table.get("workspace").cloned());
        workspace.is_some_and(|workspace| {
            let members = workspace.get("members").and_then(|members| members.as_array());
            let plugins = members.is_some_and(|members| members.iter().any(|member| member.as_str() == Some("plugins/*")));
            plugins && workspace.get("dependencies").is_some_and(|all| all.get("hubbub-sdk").is_some())
        })
    };
    dir.ancestors().find(is_checkout).map(Path::to_owned)
}

fn read_toml(path: &Path) -> Option<toml::Table> {
    std::fs::read_to_string(path).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::scratch::Scratch;
    use super::*;

    fn checkout() -> Scratch {
        let scratch = Scratch::new();
        scratch.write(
            "Cargo.toml",
            "[workspace]\nmembers = [\"plugins/*\"]\n[workspace.dependencies]\nhubbub-sdk = { path = \"sdk\" }\n",
        );
        scratch.write("sdk/Cargo.toml", "[package]\nname = \"hubbub-sdk\"\n");
        scratch.write("plugins/chat/Cargo.toml", "");
        scratch
    }

    fn manifest(dir: &Path) -> toml::Table {
        read_toml(&dir.join("Cargo.toml")).unwrap()
    }

    #[test]
    fn a_crate_in_a_checkout_uses_the_workspace() {
        let checkout = checkout();
        let dir = new("chat-room", &checkout.path().join("plugins"), None).unwrap();
        assert_eq!(dir, checkout.path().join("plugins/chat-room"));
        let manifest = manifest(&dir);
        assert_eq!(manifest["package"]["name"].as_str(), Some("chat-room"));
        assert!(manifest.get("workspace").is_none() && manifest.get("profile").is_none());
        let code = std::fs::read_to_string(dir.join("src/lib.rs")).unwrap();
        assert!(code.contains("ChatRoom") && !code.contains("PluginName") && !code.contains("plugin-name"));
    }

    #[test]
    fn a_crate_elsewhere_is_a_workspace_of_its_own() {
        let (checkout, other) = (checkout(), Scratch::new());
        let sdk = checkout.path().join("sdk");
        for dir in [new("echo", other.path(), Some(&sdk)).unwrap(), new("echo", &checkout.path().join("mine"), None).unwrap()] {
            let manifest = manifest(&dir);
            assert_eq!(manifest["dependencies"]["hubbub-sdk"]["path"].as_str(), sdk.to_str());
            assert!(manifest.contains_key("workspace") && manifest["profile"]["plugin"]["panic"].as_str() == Some("abort"));
        }
        let error = new("echo", other.path(), Some(other.path())).unwrap_err();
        assert!(matches!(error, NewError::NotTheSdk { .. }), "{error}");
        let error = new("other", other.path(), None).unwrap_err();
        assert!(matches!(error, NewError::NoSdk { .. }), "{error}");
    }

    #[test]
    fn a_refusal_leaves_nothing_behind() {
        let scratch = Scratch::new();
        let folder = scratch.path().join("deep/plugins");
        for sdk in [None, Some(scratch.path())] {
            new("echo", &folder, sdk).unwrap_err();
        }
        new("No Name", &folder, None).unwrap_err();
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);

        // A file in place of a folder.
        let checkout = checkout();
        checkout.write("file", "");
        let error = new("echo", &checkout.path().join("file/plugins"), None).unwrap_err();
        assert!(matches!(error, NewError::File { .. }), "{error}");
        assert!(checkout.path().join("file").is_file());
    }

    #[test]
    fn nothing_is_overwritten() {
        let checkout = checkout();
        let error = new("chat", &checkout.path().join("plugins"), None).unwrap_err();
        assert!(matches!(error, NewError::Exists { .. }), "{error}");
        assert_eq!(std::fs::read_to_string(checkout.path().join("plugins/chat/Cargo.toml")).unwrap(), "");
    }

    #[test]
    fn names_that_cannot_be_crates_or_plugins_are_refused() {
        for name in ["", "Chat", "2chat", "chat_room", "../chat", "chat-", "a--b", "std", "hubbub-sdk", &"x".repeat(65)] {
            assert!(matches!(check_name(name), Err(NewError::Name { .. })), "{name}");
        }
        assert!(check_name("chat-room-2").is_ok());
    }
}

//! Makes a new plugin's crate from a template that builds, passes its tests and runs as it is. It never overwrites a file.

use std::path::{Path, PathBuf};

use crate::names::PluginName;

/// The crate where the workspace brings the versions and the profile.
const IN_CHECKOUT: &str = include_str!("template/checkout.toml");
/// The crate that stands alone.
const ALONE: &str = include_str!("template/alone.toml");
const LIB: &str = include_str!("template/lib.rs");
/// What both manifests and the code say in the plugin's place.
const PLACEHOLDER: &str = "plugin-name";
const SDK_PLACEHOLDER: &str = "sdk-path";

/// Names that a crate cannot have: Rust's own words, and the crates that every plugin stands on.
const TAKEN: [&str; 20] = [
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

/// Why no plugin was made.
#[derive(Debug, thiserror::Error)]
pub enum NewError {
    #[error("`{name}` cannot be a plugin's name: {why}")]
    Name { name: String, why: String },
    #[error("{} is there already", path.display())]
    Exists { path: PathBuf },
    #[error("{} is not in a checkout of Hubbub: say where the SDK is with `--sdk PATH` (the folder `sdk` of a checkout)", dir.display())]
    NoSdk { dir: PathBuf },
    #[error("{} is not the SDK: it has no Cargo.toml of the crate `hubbub-sdk`", path.display())]
    NotTheSdk { path: PathBuf },
    #[error("{} cannot be written: {why}", path.display())]
    File { path: PathBuf, why: std::io::Error },
}

/// Makes the crate `NAME` in the folder `parent`, and returns its folder. In the folder `plugins` of a checkout the workspace
/// takes it in by itself; anywhere else the crate stands alone and depends on the SDK by its path.
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
        (_, Some(sdk)) => alone(sdk)?,
        (Some(root), None) => alone(&root.join("sdk"))?,
        (None, None) => return Err(NewError::NoSdk { dir: parent }),
    };
    let dir = parent.join(name);
    if dir.exists() {
        return Err(NewError::Exists { path: dir });
    }
    // Nothing has been made so far: a refusal leaves nothing behind.
    let first_made = dir.ancestors().take_while(|folder| !folder.exists()).last().unwrap_or(&dir).to_owned();
    match write(&dir, &manifest, name) {
        Err(error @ NewError::File { .. }) => {
            // The same cause may keep it from being removed.
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
    // Fails where it is there, whoever made it in the meantime.
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

/// The folder with links resolved, as far as it is there.
fn resolved(folder: &Path) -> std::io::Result<PathBuf> {
    let folder = std::path::absolute(folder)?;
    for there in folder.ancestors() {
        if let Ok(real) = there.canonicalize() {
            return Ok(real.join(folder.strip_prefix(there).unwrap_or(Path::new(""))));
        }
    }
    Ok(folder)
}

fn check_name(name: &str) -> Result<(), NewError> {
    let refused = |why: String| Err(NewError::Name { name: name.to_owned(), why });
    match PluginName::parse(name) {
        Err(error) => refused(error.to_string()),
        Ok(_) if TAKEN.contains(&name) => refused("Rust keeps this name for something else".into()),
        // A crate's name may not end in it, and two in a row read as one.
        Ok(_) if name.ends_with('-') || name.contains("--") => refused("a `-` stands between two words".into()),
        Ok(_) => Ok(()),
    }
}

/// The text with the plugin's name, and its type's (`chat-room` → `ChatRoom`), in their places.
fn fill(text: &str, name: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
    };
    let type_name: String = name.split('-').map(capital).collect();
    text.replace(PLACEHOLDER, name).replace("PluginName", &type_name)
}

fn alone(sdk: &Path) -> Result<String, NewError> {
    let not_it = || NewError::NotTheSdk { path: sdk.to_owned() };
    let sdk = sdk.canonicalize().map_err(|_| not_it())?;
    let name = read_toml(&sdk.join("Cargo.toml")).and_then(|table| Some(table.get("package")?.get("name")?.as_str()?.to_owned()));
    if name.as_deref() != Some("hubbub-sdk") {
        return Err(not_it());
    }
    // As TOML writes a string: a path may hold quotes and backslashes.
    Ok(ALONE.replace(&format!("\"{SDK_PLACEHOLDER}\""), &toml::Value::from(sdk.to_string_lossy().as_ref()).to_string()))
}

/// The checkout of Hubbub that a folder is in: a workspace whose members are `plugins/*` and that brings the SDK.
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
    fn in_a_checkout_the_workspace_brings_everything() {
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
    fn elsewhere_the_crate_stands_alone() {
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

        // A file where a folder is wanted.
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

//! Configured doors, compared with the plugin's own.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::call::routes::{Routes, check_owners};
use crate::sandbox::exports::{Description, Hooks, Namespace, Tenancy, TokenPolicy};

/// A plugin that owns `/hub` and takes part in `/portal`.
fn manifest() -> Manifest {
    let door = exports::Door {
        token: TokenPolicy::Required,
        claims: vec!["userId".into()],
        roles: vec!["ADMIN".into()],
        missing: "no token".into(),
        invalid: "bad token".into(),
        forbidden: "wrong role".into(),
        authorize: false,
    };
    let description = Description {
        name: "desk".into(),
        version: "1.0.0".into(),
        data_version: 1,
        reads_data_versions: vec![],
        tenancy: Tenancy::None,
        namespaces: vec![Namespace { path: "/hub".into(), door: Some(door) }, Namespace { path: "/portal".into(), door: None }],
        rooms: vec![],
        events: vec![],
        emits: vec![],
        topics: vec![],
        schedules: vec![],
        hooks: Hooks::empty(),
        takes: Vec::new(),
        tenant_keys: Vec::new(),
    };
    Manifest::check(description, &desk()).unwrap()
}

fn desk() -> PluginName {
    PluginName::parse("desk").unwrap()
}

fn doors(toml: &str) -> Doors {
    Doors::new([(desk(), toml::from_str(toml).unwrap())].into())
}

#[test]
fn a_configured_key_replaces_only_its_own_value() {
    let mut manifest = manifest();
    let configured = doors("[\"/hub\"]\nroles = []\nforbidden = \"Staff only\"");
    assert!(configured.apply(&mut manifest, &[]).unwrap().is_empty());
    let door = manifest.namespaces[0].door.as_ref().unwrap();
    assert_eq!((door.roles.len(), &door.claims[..], &*door.forbidden), (0, &["userId".to_owned()][..], "Staff only"));
    assert_eq!((&*door.missing, &*door.invalid, door.token), ("no token", "bad token", TokenPolicy::Required));

    let configured = doors("\"/hub\" = { claims = [\"team\"], missing = \"m\", invalid = \"i\" }");
    configured.apply(&mut manifest, &[]).unwrap();
    let door = manifest.namespaces[0].door.as_ref().unwrap();
    assert_eq!((&door.claims[..], &*door.missing, &*door.invalid), (&["team".to_owned()][..], "m", "i"));
}

#[test]
fn a_namespace_that_the_plugin_does_not_own_is_returned() {
    let misplaced = doors("\"/portal\" = {}\n\"/hubb\" = {}").apply(&mut manifest(), &[]).unwrap();
    assert_eq!(misplaced, ["/hubb", "/portal"]);
    let error = check_owners(&desk(), &manifest(), &misplaced, &Routes::default(), |_| false).unwrap_err().to_string();
    assert_eq!(error, r#"plugins.desk.doors."/hubb": no plugin has this namespace; the doors of desk are "/hub""#);
}

#[test]
fn configured_doors_apply_to_the_plugin_that_took_them_over() {
    let chat = PluginName::parse("chat").unwrap();
    let configured = "\"/hub\" = { roles = [] }\n\"/chat\" = { roles = [\"x\"] }";
    let configured = Doors::new([(chat.clone(), toml::from_str(configured).unwrap())].into());
    let mut successor = manifest();
    assert!(configured.apply(&mut successor, std::slice::from_ref(&chat)).unwrap().is_empty());
    assert!(successor.namespaces[0].door.as_ref().unwrap().roles.is_empty());
    let mut other = manifest();
    configured.apply(&mut other, &[]).unwrap();
    assert_eq!(other.namespaces[0].door.as_ref().unwrap().roles, ["ADMIN"]);
    let long = format!("\"/hub\" = {{ missing = {:?} }}", "x".repeat(1025));
    let wrong = Doors::new([(chat.clone(), toml::from_str(&long).unwrap())].into());
    let error = wrong.apply(&mut manifest(), &[chat]).unwrap_err().to_string();
    assert!(error.starts_with(r#"plugins.chat.doors."/hub": "#), "{error}");
}

#[test]
fn an_unknown_door_key_is_reported() {
    for key in ["role = []", "token = \"optional\"", "roles = \"ADMIN\""] {
        let error = toml::from_str::<Configured>(&format!("[\"/hub\"]\n{key}")).unwrap_err().to_string();
        assert!(error.contains(key.split(' ').next().unwrap()), "{error}");
    }
}

#[test]
fn a_door_past_the_limits_is_refused() {
    let long = format!("\"/hub\" = {{ missing = {:?} }}", "x".repeat(1025));
    let many = format!("\"/hub\" = {{ roles = {:?} }}", vec!["r"; 65]);
    let empty = r#""/hub" = { claims = [""] }"#;
    for (toml, why) in [(&*long, "1 KiB"), (&*many, "roles"), (empty, "is empty")] {
        let error = doors(toml).apply(&mut manifest(), &[]).unwrap_err().to_string();
        assert!(error.starts_with(r#"plugins.desk.doors."/hub": "#) && error.contains(why), "{error}");
    }
}

#[test]
fn configured_doors_of_a_plugin_that_is_not_deployed_are_refused() {
    assert!(Doors::new([(desk(), Configured::new())].into()).check_deployed(|_| false).is_ok());
    let configured = doors("\"/hub\" = {}");
    assert!(configured.check_deployed(|plugin| *plugin == desk()).is_ok());
    let error = configured.check_deployed(|_| false).unwrap_err().to_string();
    assert_eq!(error, "plugins.desk.doors: no plugin desk is deployed");
}

//! Descriptions at and beyond their limits.
#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn schemas_are_limited_each_and_in_total() {
    let of = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    let mut schemas = Schemas::default();
    for _ in 0..MAX_SCHEMAS / MAX_SCHEMA {
        assert!(schemas.check("said", &of(MAX_SCHEMA)).is_ok());
    }
    assert!(matches!(schemas.check("said", "true"), Err(ManifestError::LongSchemas)));
    assert!(matches!(Schemas::default().check("said", &of(MAX_SCHEMA + 1)), Err(ManifestError::LongSchema(_))));
}

fn description() -> Description {
    let door = Door {
        token: exports::TokenPolicy::Optional,
        claims: vec!["c".into(); MAX_CLAIMS],
        roles: vec!["r".into(); MAX_ROLES],
        missing: "x".repeat(MAX_SENTENCE),
        invalid: String::new(),
        forbidden: String::new(),
        authorize: false,
    };
    let namespace = |n| exports::Namespace { path: format!("/{n}"), door: Some(door.clone()) };
    let room = |n| exports::RoomPattern { namespace: "/0".into(), pattern: format!("r{n}") };
    let event = |n| exports::HandledEvent {
        namespace: "/0".into(),
        name: format!("e{n}"),
        payload: "true".into(),
        reply: None,
        on_failure: Some("x".repeat(MAX_SENTENCE)),
        once: Some("k".repeat(MAX_FIELD)),
    };
    let emit = |n| exports::EmittedEvent { namespace: "/0".into(), name: format!("e{n}"), payload: "true".into() };
    let schedule = |n| Schedule { key: format!("s{n}"), every_ms: MIN_EVERY_MS, scope: exports::ScheduleScope::Once };
    Description {
        name: "full".into(),
        version: "1.0.0".into(),
        data_version: 1,
        reads_data_versions: vec![1; MAX_DATA_VERSIONS],
        tenancy: exports::Tenancy::None,
        namespaces: (0..MAX_NAMESPACES).map(namespace).collect(),
        rooms: (0..MAX_ROOMS).map(room).collect(),
        events: (0..MAX_EVENTS).map(event).collect(),
        emits: (0..MAX_EMITS).map(emit).collect(),
        topics: (0..MAX_TOPICS).map(|n| format!("t{n}")).collect(),
        schedules: (0..MAX_SCHEDULES).map(schedule).collect(),
        hooks: Hooks::empty(),
        takes: (0..MAX_TAKES).map(|n| exports::Taken { from: "other".into(), prefix: format!("t{n}/") }).collect(),
        tenant_keys: (0..MAX_TAKES)
            .map(|n| exports::TenantKeys { without: format!("k{n}/"), with: format!("of/{{tenant}}/k{n}/") })
            .collect(),
    }
}

#[test]
fn a_description_beyond_a_limit_is_refused() {
    fn twice<T: Clone>(list: &mut Vec<T>) {
        list.push(list[0].clone());
    }
    let check = |description| Manifest::check(description, &PluginName::parse("full").unwrap());
    assert!(check(description()).is_ok());
    let more: [fn(&mut Description); 10] = [
        |d| twice(&mut d.namespaces),
        |d| twice(&mut d.rooms),
        |d| twice(&mut d.events),
        |d| twice(&mut d.emits),
        |d| twice(&mut d.topics),
        |d| twice(&mut d.schedules),
        |d| twice(&mut d.reads_data_versions),
        |d| twice(&mut d.takes),
        |d| twice(&mut d.namespaces[0].door.as_mut().unwrap().claims),
        |d| twice(&mut d.namespaces[0].door.as_mut().unwrap().roles),
    ];
    for one_more in more {
        let mut description = description();
        one_more(&mut description);
        assert!(matches!(check(description), Err(ManifestError::TooMany { .. })));
    }
    let longer: [fn(&mut Description); 2] =
        [|d| d.namespaces[0].door.as_mut().unwrap().missing.push('x'), |d| d.events[0].on_failure.as_mut().unwrap().push('x')];
    for longer in longer {
        let mut description = description();
        longer(&mut description);
        assert!(matches!(check(description), Err(ManifestError::LongSentence(_))));
    }
    for field in [String::new(), "k".repeat(MAX_FIELD + 1)] {
        let mut description = description();
        description.events[0].once = Some(field);
        assert!(matches!(check(description), Err(ManifestError::Once { .. })));
    }
}

#[test]
fn taken_prefixes_must_not_overlap_or_be_the_plugins_own() {
    let check = |takes: &[(&str, &str)]| {
        let takes = takes.iter().map(|(from, prefix)| exports::Taken { from: (*from).into(), prefix: (*prefix).into() });
        check_takes(takes.collect(), &PluginName::parse("desk").unwrap())
    };
    assert_eq!(check(&[("chat", "a/"), ("chat", "b/"), ("mail", "a/")]).unwrap().len(), 3);
    let wrong: [&[(&str, &str)]; 8] = [
        &[("desk", "a/")],
        &[("ingest-kafka", "a/")],
        &[("Chat", "a/")],
        &[("chat", "")],
        &[("chat", "\0timer/")],
        &[("chat", "%t/acme/")],
        &[("chat", "a/"), ("chat", "a/b/")],
        &[("chat", "a/b/"), ("chat", "a/")],
    ];
    for takes in wrong {
        assert!(matches!(check(takes), Err(ManifestError::Takes(..))), "{takes:?}");
    }
}

#[test]
fn a_version_has_three_numbers() {
    assert!(check_version("1.2.3").is_ok() && check_version("0.1.0-rc.1+abc").is_ok());
    for wrong in ["", "1", "1.2", "1.2.x", "v1.2.3"] {
        assert!(check_version(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn tenant_key_prefixes_must_not_match_moved_keys() {
    let check = |keys: &[(&str, &str)]| {
        let given = keys.iter().map(|(without, with)| exports::TenantKeys { without: (*without).into(), with: (*with).into() });
        let name = PluginName::parse("full").unwrap();
        Manifest::check(Description { tenant_keys: given.collect(), ..description() }, &name).map(|manifest| manifest.tenant_keys)
    };
    let keys = check(&[("a/user/", "a/of/{tenant}/")]).unwrap();
    assert_eq!(keys[0].of_tenant("a/user/u1/x", "a/%"), "a/of/a%2F%25/u1/x");
    for wrong in [
        &[("", "{tenant}/")][..],
        &[("a/", "b/")],
        &[("a/", "{tenant}{tenant}")],
        &[("a/", "a/{tenant}/")],
        &[("a/", "x/{tenant}/"), ("a/b", "y/{tenant}/")],
    ] {
        assert!(matches!(check(wrong), Err(ManifestError::TenantKeys(..))), "{wrong:?}");
    }
}

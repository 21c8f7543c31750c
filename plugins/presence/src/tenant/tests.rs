//! A tenant's presence in `/`: its users get only each other's changes.

use std::time::Duration;

use hubbub_sdk::harness::{Harness, user, visitor};
use serde_json::json;

use crate::Presence;

#[test]
fn the_tenant_gets_the_first_device_and_the_last() {
    let app = Harness::<Presence>::new();
    let eve = app.connect("/", user("eve").tenant("acme"));
    let [ana, phone] = [(), ()].map(|()| app.connect("/", user("ana").tenant("acme")));
    eve.expect("user_online", json!({ "user_id": "eve" }));
    eve.expect("user_online", json!({ "user_id": "ana" }));
    phone.disconnect();
    eve.expect_nothing();
    ana.disconnect();
    eve.expect("user_offline", json!({ "user_id": "ana" }));
    eve.expect_nothing();
}

#[test]
fn a_broken_connection_is_offline_after_the_grace_period() {
    let app = Harness::<Presence>::new();
    let (eve, ana) = (app.connect("/", user("eve").tenant("acme")), app.connect("/", user("ana").tenant("acme")));
    eve.forget();
    ana.break_connection();
    app.advance(Duration::from_secs(59));
    eve.expect_nothing();
    app.advance(Duration::from_secs(1));
    eve.expect("user_offline", json!({ "user_id": "ana" }));
}

#[test]
fn the_presence_of_two_tenants_stays_apart() {
    let app = Harness::<Presence>::new();
    let (eve, guest) = (app.connect("/", user("eve").tenant("acme")), app.connect("/", visitor()));
    let (loner, _rival) = (app.connect("/", user("ana")), app.connect("/", user("eve").tenant("rival")));
    eve.expect("user_online", json!({ "user_id": "eve" }));
    [eve, guest, loner].iter().for_each(|client| client.expect_nothing());
}

#[test]
fn visitors_and_users_without_a_tenant_are_not_tracked() {
    let app = Harness::<Presence>::new();
    let eve = app.connect("/", user("eve").tenant("acme"));
    eve.forget();
    let (guest, loner) = (app.connect("/", visitor()), app.connect("/", user("ana")));
    guest.disconnect();
    loner.disconnect();
    eve.expect_nothing();
}

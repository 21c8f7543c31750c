//! A company's presence: the first device, the last device, and no event to other companies.

use std::time::Duration;

use hubbub_sdk::harness::{Client, Harness, user};
use serde_json::json;

use crate::Presence;

fn connect(app: &Harness<Presence>, id: &str, company: &str) -> Client<Presence> {
    app.connect("/conversations", user(id).claim("companyId", company))
}

#[test]
fn the_company_gets_the_first_device_and_the_last() {
    let app = Harness::<Presence>::new();
    let eve = connect(&app, "eve", "acme");
    eve.expect("status:online", json!({ "userId": "eve" }));
    let (ana, phone) = (connect(&app, "ana", "acme"), connect(&app, "ana", "acme"));
    eve.expect("status:online", json!({ "userId": "ana" }));
    ana.disconnect();
    eve.expect_nothing();
    phone.disconnect();
    eve.expect("status:offline", json!({ "userId": "ana" }));
    eve.expect_nothing();
}

#[test]
fn a_broken_connection_is_offline_after_the_grace_period() {
    let app = Harness::<Presence>::new();
    let (eve, ana) = (connect(&app, "eve", "acme"), connect(&app, "ana", "acme"));
    eve.forget();
    ana.break_connection();
    app.advance(Duration::from_secs(59));
    eve.expect_nothing();
    app.advance(Duration::from_secs(1));
    eve.expect("status:offline", json!({ "userId": "ana" }));
    eve.expect_nothing();
}

#[test]
fn a_client_without_heartbeats_stays_online() {
    let app = Harness::<Presence>::new();
    let (eve, ana) = (connect(&app, "eve", "acme"), connect(&app, "ana", "acme"));
    eve.forget();
    app.advance(Duration::from_secs(120));
    eve.expect_nothing();
    ana.disconnect();
    eve.expect("status:offline", json!({ "userId": "ana" }));
}

#[test]
fn counts_of_two_companies_stay_apart() {
    let app = Harness::<Presence>::new();
    let (eve, rival) = (connect(&app, "eve", "acme"), connect(&app, "eve", "rival"));
    eve.forget();
    rival.disconnect();
    let _ana = connect(&app, "ana", "rival");
    eve.expect_nothing();
}

//! A heartbeat counts only for its customer, and no event about customers is sent.

use std::time::Duration;

use hubbub_sdk::{
    harness::{Harness, user},
    presence::{self, Status},
};

use super::GROUP;
use crate::Presence;

/// The status of the only customer.
fn status(app: &Harness<Presence>) -> Option<Status> {
    app.inside(|| presence::list::<()>(GROUP, "", 1)).ok()?.first().map(|member| member.status)
}

#[test]
fn a_heartbeat_keeps_the_customers_own_presence_fresh() {
    let app = Harness::<Presence>::new();
    let eve = app.connect("/hub", user("eve").role("ATTENDANT"));
    let carl = app.connect("/portal", user("carl"));
    eve.forget();
    assert_eq!(status(&app), Some(Status::Online));
    app.advance(Duration::from_secs(89));
    carl.emit_bare("heartbeat").expect_ok();
    eve.emit_bare("heartbeat").expect_ok();
    app.advance(Duration::from_secs(89));
    assert_eq!(status(&app), Some(Status::Online));
    app.advance(Duration::from_secs(1));
    assert_eq!(status(&app), Some(Status::Away));
    carl.disconnect();
    assert_eq!(status(&app), None);
    let told = ["attendant:online", "attendant:away", "attendant:offline"].map(|event| eve.received(event));
    assert_eq!(told.map(|events| events.len()), [0, 1, 0], "eve herself is away");
    carl_gets_nothing(&app);
}

fn carl_gets_nothing(app: &Harness<Presence>) {
    let (carl, dora) = (app.connect("/portal", user("carl")), app.connect("/portal", user("dora")));
    dora.disconnect();
    carl.expect_nothing();
}

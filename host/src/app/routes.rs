//! The routes of both ports: the public one with the API for backends and the pages, and the operator's.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::*;
use crate::admin::{self, Admin, status, taps, watchers};
use crate::config::Mode;
use crate::rooms::tap::Payloads;
use crate::server::{api, demo, docs, watch, web};
use crate::socket;

/// The routes of the public port.
pub(super) fn public(app: &App, port: u16) -> Routes {
    let docs = docs::Docs::new(app.gateway.registry.clone(), port, app.gateway.keyring.get().claim_names());
    let web = Arc::new(web::Web {
        gateway: app.gateway.clone(),
        wire: socket::wire(&app.gateway, watch::take_over),
        started: Instant::now(),
        docs,
        origins: app.front.origins.clone(),
    });
    let api = Arc::new(api::Api {
        gateway: app.gateway.clone(),
        bus: app.bus.clone(),
        keys: app.config.api.keys.iter().map(|key| key.expose().to_owned()).collect(),
        writer: app.writer.clone(),
    });
    let checks = web::checks(web.clone());
    let mut all = web::routes(web).merge(api::routes(api));
    if app.mode != Mode::Serve {
        let (people, secret, writer) = (Mutex::default(), app.config.auth.signing_secret(), app.writer.clone());
        let demo = demo::Demo { gateway: app.gateway.clone(), bus: app.bus.clone(), writer, secret, people };
        all = all.merge(demo::routes(Arc::new(demo)));
    }
    Routes { all, checks }
}

/// The operator's routes, with the status that is sent there.
pub(super) fn operators(app: &App, status: status::Latest, tasks: &mut JoinSet<()>) -> Routes {
    let (config, gateway) = (&app.config, &app.gateway);
    let (token, limit) = (config.admin.token.as_ref().map(|token| token.expose().to_owned()), config.admin.watchers);
    let taps = taps::Config { most: config.admin.taps, queue: config.admin.tap_queue };
    gateway.services.rooms.taps.allow(config.admin.tap_payloads.unwrap_or_default());
    let watchers = watchers::Watchers { token: token.clone(), limit, queue: config.admin.watcher_queue.max(1), taps };
    let (live, io) = watchers::build(watchers, gateway);
    tasks.spawn(watchers::run(io, status.clone(), gateway.services.metrics.clone()));
    let admin = Arc::new(Admin {
        gateway: gateway.clone(),
        releases: app.releases.clone(),
        token: token.clone(),
        max_component: config.sandbox.component,
        status,
        live,
        shows_payloads: config.admin.tap_payloads == Some(Payloads::Full),
        sources: app.outsides.0.clone(),
        systems: app.outsides.1.clone(),
    });
    Routes { checks: admin::checks(admin.clone()), all: admin::routes(admin) }
}

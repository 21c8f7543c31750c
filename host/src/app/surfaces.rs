//! Builds the public port and the operator's: host names, origins, limits and routes.

use std::sync::Arc;

use axum::Router;

use super::Front;
use crate::admin;
use crate::config::Config;
use crate::server::body::Pace;
use crate::server::guard::{Answer, Guard, LogLimits};
use crate::server::hosts::{HostError, Hosts};
use crate::server::http1::{Port, Waits};
use crate::server::origin::Origins;
use crate::server::web;
use crate::socket::Gateway;
use crate::socket::tcp_permits::TcpPermits;

/// The allowed host names of both ports.
pub(super) struct Names {
    public: Hosts,
    admin: Hosts,
}

impl Names {
    pub(super) fn load(config: &Config) -> Result<Self, HostError> {
        let public = config.gateway.hosts.as_deref().map_or(Ok(Hosts::all()), |hosts| Hosts::load("gateway.hosts", hosts));
        Ok(Self { public: public?, admin: Hosts::load("admin.hosts", &config.admin.hosts)? })
    }
}

/// The routes of a port.
pub(super) struct Routes {
    pub(super) all: Router,
    /// Those that still answer at the connection limit.
    pub(super) checks: Router,
}

/// The parts that both ports are built from.
pub(super) struct Surfaces<'a> {
    pub(super) config: &'a Config,
    pub(super) gateway: &'a Gateway,
    pub(super) front: &'a Front,
}

/// The part of a port that differs from the other port.
struct PortParts {
    name: &'static str,
    hosts: Hosts,
    origins: Origins,
    open: fn(&str) -> bool,
    answer: Answer,
    connections: (&'static str, u64),
}

impl Surfaces<'_> {
    pub(super) fn public(&self, routes: Routes) -> Arc<Port> {
        let parts = PortParts {
            name: "public",
            hosts: self.front.names.public.clone(),
            origins: self.front.origins.clone(),
            open: web::is_open,
            answer: web::answer,
            connections: ("tcp_connections", self.config.gateway.tcp_connections),
        };
        self.port(parts, routes)
    }

    /// The operator's port. Only its own pages are an allowed origin.
    pub(super) fn admin(&self, routes: Routes) -> Arc<Port> {
        let parts = PortParts {
            name: "admin",
            hosts: self.front.names.admin.clone(),
            origins: Origins::default(),
            open: |_| false,
            answer: admin::answer,
            connections: ("admin_tcp_connections", self.config.admin.tcp_connections),
        };
        self.port(parts, routes)
    }

    fn port(&self, parts: PortParts, routes: Routes) -> Arc<Port> {
        let (config, metrics) = (&self.config.gateway, &self.gateway.services.metrics);
        let waits = Waits {
            first: config.connect_timeout,
            head: config.head_timeout,
            idle: config.http_idle,
            write: config.write_timeout,
            body: Pace { least: config.body_timeout, rate: config.body_rate },
        };
        let PortParts { name, hosts, origins, open, answer, connections } = parts;
        let trusted = &self.gateway.trusted_proxies;
        Arc::new(Port {
            name,
            // Otherwise axum does it at every request.
            routes: routes.all.with_state(()),
            checks: routes.checks.with_state(()),
            has_clients: name == "public",
            guard: Guard {
                listener: name,
                hosts,
                origins,
                open,
                answer,
                metrics: metrics.clone(),
                log_limits: LogLimits::default(),
            },
            tcp_permits: TcpPermits::new(name, connections, config.address_tcp_connections, trusted, metrics.clone()),
            descriptors: self.front.descriptors,
            waits,
            metrics: metrics.clone(),
            log_limits: Default::default(),
        })
    }
}

//! Stages components: compiles, describes, configures and warms them, so that they could be live. Never changes a live release.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use super::checks::doors::{DoorError, Doors};
use super::checks::grants::{Grants, NotGranted};
use super::checks::versions::{LeastVersions, TooOld};
use super::history::digest;
use crate::budgets::quota::Usage;
use crate::call::breaker::{self, Breakers};
use crate::call::counters::CallCounters;
use crate::call::manifest::{Manifest, ManifestError};
use crate::call::pool::{Config as PoolConfig, NoInstance, Pool};
use crate::call::release::Release;
use crate::capability::add_imports;
use crate::names::PluginName;
use crate::sandbox::exports::Description;
use crate::sandbox::{Fault, Sandbox, SandboxError, Template, within};
use crate::telemetry::PluginMetrics;
use crate::transaction::profile::{Profile, Tenancy};
use crate::transaction::services::Services;
use crate::transaction::state::State;

/// How long `describe` and `init` may take.
const STAGE_TIME: Duration = Duration::from_secs(1);

/// Why a component is not staged, with the step that failed.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    #[error("name: `ingest-…` and `egress-…` are the server's own")]
    Reserved,
    #[error("compile: {0}")]
    Sandbox(#[from] SandboxError),
    #[error("grant: {0}")]
    Grant(#[from] NotGranted),
    #[error("describe: {0}")]
    Describe(Fault),
    #[error("describe: {0}")]
    Manifest(#[from] ManifestError),
    #[error("version: {0}")]
    Version(#[from] TooOld),
    #[error("door: {0}")]
    Door(#[from] DoorError),
    #[error("init: {0}")]
    Init(#[from] NoInstance),
    #[error("compile: the compiler panicked")]
    Panic,
}

/// Stages components.
pub struct Stage {
    pub sandbox: Arc<Sandbox>,
    pub services: Arc<Services>,
    pub pool: PoolConfig,
    pub breaker: breaker::Config,
    pub grants: Grants,
    pub doors: Doors,
    pub versions: LeastVersions,
}

impl Stage {
    /// Stages one component under a name, with the plugin's configuration.
    pub async fn stage(
        &self,
        name: &PluginName,
        component: Vec<u8>,
        config: serde_json::Map<String, serde_json::Value>,
    ) -> Result<Arc<Release>, StageError> {
        if name.is_hosts() {
            return Err(StageError::Reserved);
        }
        let digest = digest(&component);
        let template = self.compile(component).await?;
        self.grants.check(name, &template.imports())?;
        let config = Arc::new(config);
        let description = self.run_describe(&template, profile(name, config.clone())).await?;
        let mut manifest = Manifest::check(description, name)?;
        self.versions.check(name, &manifest.version)?;
        let from: BTreeSet<_> = manifest.takes.iter().map(|taken| taken.from.clone()).collect();
        let from: Vec<_> = from.into_iter().collect();
        for from in from.iter().filter(|from| self.grants.names(from) && !self.grants.names(name)) {
            self.grants.check(from, &template.imports())?;
            tracing::warn!(
                plugin = %name,
                "plugins.{from}.grants applies to the plugin {name} as well, which takes its data: write what {name} may import as \
                 plugins.{name}.grants"
            );
        }
        let inherits_doors = if self.doors.names(name) { Vec::new() } else { from.clone() };
        let misplaced_doors = self.doors.apply(&mut manifest, &inherits_doors)?;

        let profile = Arc::new(Profile {
            version: manifest.version.clone(),
            tenancy: manifest.tenancy,
            default_tenant: self.services.default_tenant.clone(),
            namespaces: manifest.namespaces.iter().map(|namespace| namespace.pattern.clone()).collect(),
            rooms: manifest.rooms.clone(),
            metrics: Arc::new(self.services.metrics.release(name, &manifest.version)),
            usage: self.usage(name, &from),
            ..profile(name, config)
        });
        let world = template.world();
        let pool = Pool::new(template, self.services.clone(), profile.clone(), self.pool.clone());
        // The first instance shows that `init` accepts the configuration, and is warm for the first event.
        pool.warm().await?;
        let breakers = Breakers::new(&self.breaker);
        let counters = CallCounters::default();
        Ok(Arc::new(Release { manifest, misplaced_doors, inherits_doors, profile, pool, digest, world, counters, breakers }))
    }

    /// Reads a component's description only: it is not configured, and could not be live. `name` is its expected name, if known.
    pub async fn describe(&self, name: Option<&PluginName>, component: Vec<u8>) -> Result<Manifest, StageError> {
        let template = self.compile(component).await?;
        let unnamed = PluginName::parse("unnamed").map_err(ManifestError::from)?;
        let description = self.run_describe(&template, profile(name.unwrap_or(&unnamed), Arc::default())).await?;
        let own = PluginName::parse(&description.name).map_err(ManifestError::from)?;
        Ok(Manifest::check(description, name.unwrap_or(&own))?)
    }

    fn usage(&self, name: &PluginName, takes_from: &[PluginName]) -> Arc<Usage> {
        let usage = self.services.quotas.of_successor(name, takes_from, &self.services.metrics);
        let stats = self.services.storage.stats();
        usage.at_most(stats.file_bytes.saturating_add(stats.log_bytes));
        usage
    }

    async fn compile(&self, component: Vec<u8>) -> Result<Template<State>, StageError> {
        let sandbox = self.sandbox.clone();
        // Compilation uses a core for a second, so it never runs on a thread that serves sockets.
        let template = tokio::task::spawn_blocking(move || {
            let template = sandbox.template::<State>(&component, add_imports);
            crate::memory::trim();
            template
        });
        Ok(template.await.map_err(|_| StageError::Panic)??)
    }

    async fn run_describe(&self, template: &Template<State>, unknown: Profile) -> Result<Description, StageError> {
        let state = State::new(self.services.clone(), Arc::new(unknown), template.memory());
        let mut instance = within(STAGE_TIME, pin!(template.instantiate(state))).await.map_err(StageError::Describe)?;
        within(STAGE_TIME, pin!(instance.describe())).await.map_err(StageError::Describe)
    }
}

/// The profile of a component before its description is known.
fn profile(name: &PluginName, config: Arc<serde_json::Map<String, serde_json::Value>>) -> Profile {
    Profile {
        name: name.clone(),
        version: "?".into(),
        tenancy: Tenancy::None,
        default_tenant: None,
        namespaces: Vec::new(),
        rooms: Vec::new(),
        config,
        metrics: Arc::new(PluginMetrics::detached()),
        usage: Arc::new(Usage::detached(name.clone())),
    }
}

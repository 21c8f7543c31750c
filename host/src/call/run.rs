//! One call, from lease to commit: runs the handler and commits its effects, and reruns it if what it read has changed. A failed
//! call has no visible effects.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::deployed_plugin::DeployedPlugin;
use super::error::CallError;
use super::job::{Job, invoke, tenant};
use super::judge::{count, judge, report};
use super::observers::Sample;
use super::pool::Lease;
use super::release::Release;
use crate::budgets::quota::Passed;
use crate::error::{Code, INTERNAL, Refusal};
use crate::json;
use crate::sandbox::{Fault, Limit, metered, within};
use crate::storage::{CommitError, HandledId, MAX_SET_BYTES};
use crate::telemetry::Outcome;
use crate::telemetry::traces::Span;
use crate::transaction::effects::{Effects, Live};
use crate::transaction::once::Once;
use crate::transaction::services::Services;
use crate::transaction::state::{Replay, name_of};
use crate::transaction::{commit, shares};

/// The most reruns after conflicts.
const MAX_CONFLICTS: u32 = 5;

/// A call that has taken effect.
#[derive(Debug)]
pub struct Done {
    pub reply: Option<String>,
    /// After `Connect`: effects that must wait until the client is connected.
    pub deferred: Vec<Live>,
}

/// Calls a plugin's release, in the span `trace`.
pub async fn call(
    services: &Arc<Services>,
    deployed: &DeployedPlugin,
    job: Job<'_>,
    trace: Option<&Span>,
) -> Result<Done, CallError> {
    let mut cpu = Duration::ZERO;
    call_metered(services, deployed, job, trace, &mut cpu).await
}

/// Calls a plugin's release, and adds its CPU time to `cpu`, with any outcome.
pub async fn call_metered(
    services: &Arc<Services>,
    deployed: &DeployedPlugin,
    job: Job<'_>,
    trace: Option<&Span>,
    cpu: &mut Duration,
) -> Result<Done, CallError> {
    let _running = deployed.begin_call();
    let (began, source) = (Instant::now(), job.source());
    let once = match job {
        Job::Event { caller, event, once: Some(field), .. } => {
            Once::of(services, caller, event, field).map_err(CallError::Refused)?
        }
        _ => None,
    };
    let _turn = match &once {
        Some(once) => once.lock(services).await,
        None => None,
    };
    let now_ms = services.clock.now_ms();
    let mut replay = Replay::default();
    // Sends the observed call when it is dropped, at the end of the call.
    let mut sample = deployed.observers.sample(|| deployed.canary()?.shadow().map(|shadow| shadow.inbox().clone()));
    for reruns in 0..=MAX_CONFLICTS {
        if let Some(once) = &once {
            let unavailable = |_| unserved(trace, "storage does not answer");
            if let Some(reply) = Box::pin(once.repeated(services)).await.map_err(unavailable)? {
                return Ok(Done { reply: Some(reply), deferred: Vec::new() });
            }
        }
        let picked = if job.is_for_active() { deployed.live() } else { deployed.pick(job.key(), job.event()) };
        let Some(release) = picked else { return Err(unserved(trace, "no release is live")) };
        let breaker = release.breakers.of(source);
        if !breaker.allows_subject(began, || job.subject()) {
            return Err(unserved(trace, if breaker.is_held() { QUARANTINED } else { BREAKER_OPEN }));
        }
        let span = trace.map(|trace| traced(trace, &release, reruns));
        let watch = Watch { span: span.as_ref(), sample: sample.as_deref_mut() };
        let result = attempt(services, &release, job, once.as_ref(), now_ms, &mut replay, watch, cpu).await;
        match result {
            Err(Attempt::Conflict) => {
                release.profile.metrics.conflicts.inc();
                span.inspect(|span| span.outcome("conflict", false));
            }
            Err(Attempt::Error(error)) => {
                count(&release, job, began, error.outcome(), [trace, span.as_ref()]);
                judge(services, &release, job, &error);
                report(&release, job, trace, &error);
                return Err(error);
            }
            Ok(done) => {
                count(&release, job, began, Outcome::Ok, [trace, span.as_ref()]);
                release.counters.passed();
                breaker.answered();
                return Ok(done);
            }
        }
    }
    Err(unserved(trace, "the keys that it read kept changing"))
}

/// Why a call is not made while a circuit breaker is open.
const BREAKER_OPEN: &str = "the release keeps faulting, and is not called for a while";
const QUARANTINED: &str = "the release is quarantined";

/// An error that is not the release's.
fn unserved(trace: Option<&Span>, why: &'static str) -> CallError {
    if let Some(trace) = trace {
        trace.outcome(Outcome::Unavailable.as_str(), true);
    }
    CallError::Unavailable(why)
}

/// Begins the span of one run of a call.
fn traced(trace: &Span, release: &Release, reruns: u32) -> Span {
    let (plugin, version) = (release.profile.name.as_str(), release.profile.version.as_str());
    if reruns == 0 {
        trace.text("hubbub.plugin", plugin);
        trace.text("hubbub.version", version);
    }
    let span = trace.child(format!("call {plugin}@{version}"));
    span.number("hubbub.rerun", reruns.into());
    span
}

/// Handles messages together: in order in one instance, with one commit for all. All take effect or none. If none, nothing is
/// reported, since handling them one by one shows which failed. `traces`: the parent span of each.
pub async fn call_together(
    services: &Arc<Services>,
    deployed: &DeployedPlugin,
    jobs: &[Job<'_>],
    traces: &[Option<Span>],
) -> Result<(), CallError> {
    let _running = deployed.begin_call();
    let Some(release) = deployed.live() else { return Err(CallError::Unavailable("no release is live")) };
    let began = Instant::now();
    let is_open = |job: &Job<'_>| !release.breakers.of(job.source()).allows(began);
    if deployed.canary().is_some() || deployed.observers.is_observed() || jobs.iter().any(is_open) {
        return Err(CallError::Unavailable("each call must run by itself"));
    }
    let spans: Vec<_> = traces.iter().map(|trace| trace.as_ref().map(|trace| traced(trace, &release, 0))).collect();
    let usage = &release.profile.usage;
    usage.measure_store(&*services.storage, MAX_SET_BYTES as u64).await;
    let mut lease = release.pool.lease().await?;
    for (at, job) in jobs.iter().enumerate() {
        let (tenant, now_ms) = (tenant(&release, *job)?, services.clock.now_ms());
        let guest = lease.instance().guest();
        match at {
            0 => guest.begin(None, tenant, now_ms, job.hops(), Replay::default()),
            _ => guest.continue_with(tenant, now_ms, job.hops()),
        }
        guest.call.trace = spans[at].as_ref().map(Span::parent);
        run(services, &release, &mut lease, *job, spans[at].as_ref()).await.0??;
    }
    let (effects, _) = lease.instance().guest().finish();
    lease.give_back();
    commit::fan_out(services, usage, &effects.live).map_err(quota_error)?;
    usage.wrote(effects.stored);
    let plugin = &release.profile.name;
    let handled = jobs.iter().filter_map(Job::handled).map(|id| HandledId { plugin: plugin.clone(), id }).collect();
    // The commit is part of one trace; the spans of the other messages link to it.
    let mut others = spans.iter().flatten();
    let first = others.next();
    others.for_each(|other| first.into_iter().for_each(|first| first.link(other.parent())));
    let committed = commit::commit(services, plugin, effects, handled, None, first).await;
    committed.map_err(|error| CallError::Failed(error.to_string()))?;
    for (job, spans) in jobs.iter().zip(traces.iter().zip(&spans)) {
        count(&release, *job, began, Outcome::Ok, [spans.0.as_ref(), spans.1.as_ref()]);
        release.counters.passed();
        release.breakers.of(job.source()).answered();
    }
    Ok(())
}

/// The observers of one run.
struct Watch<'a> {
    span: Option<&'a Span>,
    /// The observation for a recording or a shadow.
    sample: Option<&'a mut Sample>,
}

enum Attempt {
    Conflict,
    Error(CallError),
}

impl<E: Into<CallError>> From<E> for Attempt {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

#[expect(clippy::too_many_arguments, reason = "called once; each is a part of one call")]
async fn attempt(
    services: &Arc<Services>,
    release: &Arc<Release>,
    job: Job<'_>,
    once: Option<&Once>,
    now_ms: u64,
    replay: &mut Replay,
    watch: Watch<'_>,
    spent: &mut Duration,
) -> Result<Done, Attempt> {
    let Watch { span, sample } = watch;
    let tenant = tenant(release, job)?;
    let usage = &release.profile.usage;
    usage.measure_store(&*services.storage, MAX_SET_BYTES as u64).await;
    let mut lease = release.pool.lease().await?;
    let caller = job.caller().cloned();
    lease.instance().guest().begin(caller, tenant, now_ms, job.hops(), std::mem::take(replay));
    lease.instance().guest().call.trace = span.map(Span::parent);
    if let Job::Timer { stored: Some(stored), .. } = job {
        lease.instance().guest().settle(stored);
    }
    let timed = release.counters.is_timed().then(Instant::now);
    if let Some(sample) = &sample {
        sample.begin(lease.instance().guest());
    }
    let (answer, cpu) = run(services, release, &mut lease, job, span).await;
    *spent += cpu;
    if let Some(sample) = sample {
        sample.end(release, job, lease.instance().guest(), &answer, cpu);
    }
    // It waited for an import (storage or other nodes): not the release's fault, so it must not open a breaker.
    if matches!(answer, Err(Fault::Limit(Limit::Time))) && cpu < services.limits.call_time / 2 {
        return Err(CallError::Unavailable("an import was not answered in time").into());
    }
    // A message that fails because storage is unavailable is not at fault, and must not become a dead letter.
    if lease.instance().guest().call.storage_away && matches!(answer, Err(Fault::Trap(_)) | Ok(Err(CallError::Failed(_)))) {
        return Err(CallError::Unavailable("storage does not answer").into());
    }
    let answer = match (answer?, lease.instance().guest().call.over) {
        // A refusal in the plugin's own words is kept.
        (Err(CallError::Refused(refusal)), Some(sentence)) if refusal.message == INTERNAL => {
            Err(CallError::Refused(Refusal::new(Code::TooLarge, sentence)))
        }
        (answer, _) => answer,
    };
    if let Some(began) = timed {
        release.counters.time(began.elapsed());
    }
    let (mut effects, answers) = lease.instance().guest().finish();
    *replay = answers;
    usage.note_effects(effects.count());
    lease.give_back();
    let reply = answer?;
    if let Some(reply) = &reply {
        if reply.len() > services.limits.effect_bytes {
            return Err(CallError::Answer(format!("the reply is longer than {} bytes", services.limits.effect_bytes)).into());
        }
        json::check(reply).map_err(|e| CallError::Answer(format!("the reply is {e}")))?;
    }
    if commit::joins_too_many(services, &effects.live) {
        return Err(CallError::Refused(Refusal::new(Code::TooLarge, "In too many rooms")).into());
    }
    if let Some(user) = job.caller().and_then(|caller| caller.user.as_ref()).filter(|_| shares::has_shared(&effects)) {
        let (user, is_first) = (name_of(user), !std::mem::replace(&mut replay.shared, true));
        let taken = services.shares.take(services, &release.profile.name, &user, &effects, is_first);
        taken.map_err(CallError::Refused)?;
    }
    commit::fan_out(services, usage, &effects.live).map_err(quota_error)?;
    usage.wrote(effects.stored);
    let deferred = match job {
        Job::Authorize { .. } => return Ok(Done { reply: None, deferred: Vec::new() }),
        Job::Connect { .. } => defer(&mut effects),
        _ => Vec::new(),
    };
    let handled = job.handled().map(|id| HandledId { plugin: release.profile.name.clone(), id });
    let handled = handled.into_iter().collect();
    let first_reply = once.map(|once| once.record(services, reply.as_deref(), &effects));
    match commit::commit(services, &release.profile.name, effects, handled, first_reply, span).await {
        Ok(()) => Ok(Done { reply, deferred }),
        Err(CommitError::Conflict) => Err(Attempt::Conflict),
        Err(CommitError::AlreadyHandled) => Err(CallError::AlreadyHandled.into()),
        Err(CommitError::Unavailable(_)) => Err(CallError::Unavailable("storage does not answer").into()),
        Err(error) => Err(CallError::Failed(error.to_string()).into()),
    }
}

/// Runs the handler, and counts its CPU time, with any outcome.
async fn run(
    services: &Services,
    release: &Release,
    lease: &mut Lease,
    job: Job<'_>,
    span: Option<&Span>,
) -> (Result<Result<Option<String>, CallError>, Fault>, Duration) {
    let invoked = pin!(invoke(lease.instance(), job));
    let limited = pin!(within(services.limits.call_time, invoked));
    let (answer, cpu) = metered(limited).await;
    release.profile.metrics.cpu.add(cpu);
    release.profile.usage.spent_cpu(cpu);
    if let Some(span) = span {
        span.number("hubbub.cpu_us", cpu.as_micros() as u64);
    }
    (answer, cpu)
}

/// The error for an exceeded quota: temporary, or permanent for this call.
fn quota_error(passed: Passed) -> CallError {
    match passed.wait {
        Some(_) => CallError::OverQuota(passed),
        None => CallError::Refused(Refusal::new(Code::TooLarge, "Too much for too many")),
    }
}

/// Takes out the effects that must wait until the client is connected.
fn defer(effects: &mut Effects) -> Vec<Live> {
    let (later, now) = std::mem::take(&mut effects.live).into_iter().partition(Live::follows_connect);
    effects.live = now;
    later
}

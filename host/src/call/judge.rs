//! Judges a call that has ended: counts it, logs an error, and counts the error against the release if the release caused it.
//! Does not change the call's effects.

use std::time::Instant;

use super::error::CallError;
use super::job::Job;
use super::pool::NoInstance;
use super::release::Release;
use crate::budgets::quota::Kind;
use crate::error::Code;
use crate::sandbox::{Fault, Limit};
use crate::telemetry::Outcome;
use crate::telemetry::traces::Span;
use crate::transaction::services::Services;

/// Counts an error against the release if the release caused it: not a refusal, bad data or an error of the host. Only faults
/// open a circuit breaker; a comparison with another release counts failures as well.
pub(crate) fn judge(services: &Services, release: &Release, job: Job<'_>, error: &CallError) {
    let breaker = release.breakers.of(job.source());
    // Repeated failures of one message count once. An instance that does not start fails for any message.
    let counts = !job.is_retry() || matches!(error, CallError::NotStarted(_));
    match error {
        CallError::Fault(_) | CallError::Answer(_) | CallError::NotStarted(_) if counts => {
            release.counters.failed(job.subject());
            fault(services, release, job, error);
        }
        CallError::Failed(_) => {
            if counts {
                release.counters.failed(job.subject());
            }
            breaker.answered();
        }
        CallError::Refused(refusal) => {
            if refusal.code == Code::Internal {
                release.counters.failed(job.subject())
            } else {
                release.counters.passed()
            }
            breaker.answered();
        }
        // Not the release's fault, or a retry of a call that was counted.
        _ => {}
    }
}

#[cold]
fn fault(services: &Services, release: &Release, job: Job<'_>, error: &CallError) {
    let (source, (export, subject)) = (job.source(), job.name());
    let cause = format_args!("{export} {subject}: {error}");
    let Some(wait) = release.breakers.of(source).faulted(Instant::now(), job.subject(), &cause) else { return };
    let profile = &release.profile;
    services.metrics.breaker_opened(&profile.name, source.as_str());
    let release = format_args!("{}@{}", profile.name, profile.version);
    tracing::warn!(release = %release, source = %source, "a circuit breaker is open for {wait:?}: {cause}");
}

/// Counts a call with its outcome, and records the outcome on its spans.
pub(crate) fn count(release: &Release, job: Job<'_>, began: Instant, outcome: Outcome, spans: [Option<&Span>; 2]) {
    let (metrics, took) = (&release.profile.metrics, began.elapsed());
    metrics.called(outcome, took);
    if matches!(job, Job::Event { .. }) {
        metrics.events.inc();
        metrics.seconds.observe(took);
    }
    for span in spans.into_iter().flatten() {
        span.outcome(outcome.as_str(), outcome.is_error());
    }
}

/// Logs an error with its release, export and subject.
pub(crate) fn report(release: &Release, job: Job<'_>, trace: Option<&Span>, error: &CallError) {
    let profile = &release.profile;
    if error.outcome() == Outcome::Fault {
        profile.metrics.faults.inc();
    }
    match error {
        CallError::Fault(fault) | CallError::NotStarted(NoInstance::Fault(fault)) => match fault {
            Fault::Limit(Limit::Memory) => profile.usage.passed(Kind::Memory),
            Fault::Limit(Limit::Effects) => profile.usage.passed(Kind::Effects),
            _ => {}
        },
        // The dead letter has the error.
        CallError::InvalidData(_) if matches!(job, Job::Message { .. }) => return,
        CallError::Refused(refusal) => return profile.metrics.refused(refusal.code),
        // The quota was logged and counted before.
        CallError::OverQuota(_) => return profile.metrics.refused(Code::RateLimited),
        CallError::AlreadyHandled => return,
        _ => {}
    }
    let (export, subject) = job.name();
    let user = job.caller().and_then(|caller| caller.user.as_ref()).map_or("-", |user| user.id.as_str());
    tracing::warn!(
        release = %format_args!("{}@{}", profile.name, profile.version),
        trace_id = trace.map(|trace| tracing::field::display(trace.parent().trace_id())),
        export,
        subject,
        user,
        "a call took no effect: {error}"
    );
}

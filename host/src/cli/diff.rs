//! `hubbub plugin diff OLD NEW`: what a new component would change when it is deployed. It must run nothing of either but `describe`.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context;

use super::{print, start};
use crate::call::manifest::Manifest;
use crate::config::Config;
use crate::toolchain::{self, Inspection};
use crate::{app, shown};

struct Side {
    inspection: Inspection,
    manifest: Manifest,
}

pub(super) fn run(old: &Path, new: &Path) -> anyhow::Result<()> {
    let (old, new) = start::runtime()?.block_on(async { anyhow::Ok((read(old).await?, read(new).await?)) })?;
    for line in report(&old, &new) {
        print(&shown::line(&line))?;
    }
    Ok(())
}

async fn read(file: &Path) -> anyhow::Result<Side> {
    let inspection = toolchain::inspect(file)?;
    let component = std::fs::read(file).with_context(|| file.display().to_string())?;
    let stage = app::offline_stage(&Config::default())?;
    let manifest = stage.describe(None, component).await.with_context(|| file.display().to_string())?;
    Ok(Side { inspection, manifest })
}

fn report(old: &Side, new: &Side) -> Vec<String> {
    let (a, b) = (&old.manifest, &new.manifest);
    let mut lines = vec![format!("{} {} -> {} {}", a.name, a.version, b.name, b.version)];
    let contract = |side: &Side| side.inspection.contract.clone().unwrap_or_default();
    if contract(old) != contract(new) {
        lines.push(format!("contract {} -> {}", contract(old), contract(new)));
    }
    let texts = |list: &[String]| list.iter().cloned().collect::<BTreeSet<_>>();
    // Without versions: they differ in every import of another contract.
    let imports = |side: &Side| -> BTreeSet<String> {
        side.inspection.imports.iter().map(|import| import.split('@').next().unwrap_or_default().to_owned()).collect()
    };
    changed(&mut lines, "import", &imports(old), &imports(new));
    let events = |side: &Manifest| -> BTreeSet<String> {
        side.events.iter().map(|event| format!("{} in {}", event.name, event.namespace)).collect()
    };
    changed(&mut lines, "event", &events(a), &events(b));
    schemas(&mut lines, a, b);
    let emits = |side: &Manifest| -> BTreeSet<String> {
        side.emits.iter().map(|event| format!("{} in {}", event.name, event.namespace)).collect()
    };
    changed(&mut lines, "emitted event", &emits(a), &emits(b));
    changed(&mut lines, "topic", &texts(&a.topics), &texts(&b.topics));
    let rooms = |side: &Manifest| -> BTreeSet<String> {
        side.rooms.iter().map(|(namespace, room)| format!("{} in {}", room.text, namespace.text)).collect()
    };
    changed(&mut lines, "room", &rooms(a), &rooms(b));
    let takes = |side: &Manifest| -> BTreeSet<String> {
        side.takes.iter().map(|taken| format!("{}… of {}", taken.prefix, taken.from)).collect()
    };
    changed(&mut lines, "taken data", &takes(a), &takes(b));
    if a.data_version != b.data_version {
        lines.push(format!("data version {} -> {}", a.data_version, b.data_version));
    }
    lines.push(verdict(a, b));
    lines
}

fn changed(lines: &mut Vec<String>, what: &str, old: &BTreeSet<String>, new: &BTreeSet<String>) {
    lines.extend(new.difference(old).map(|one| format!("+ {what} {one}")));
    lines.extend(old.difference(new).map(|one| format!("- {what} {one}")));
}

/// Events that both handle, with different payloads or replies.
fn schemas(lines: &mut Vec<String>, old: &Manifest, new: &Manifest) {
    for event in &new.events {
        let before = old.events.iter().find(|before| before.name == event.name && before.namespace == event.namespace);
        if let Some(before) = before
            && (before.payload != event.payload || before.reply != event.reply)
        {
            lines.push(format!("~ event {} in {}: another payload or reply", event.name, event.namespace));
        }
    }
}

fn verdict(old: &Manifest, new: &Manifest) -> String {
    if old.name != new.name {
        return "It may not replace it: it is another plugin.".into();
    }
    match (new.reads_data_of(old), old.reads_data_of(new)) {
        (true, true) => "It may replace it, and it may be rolled back.".into(),
        (true, false) => "It may replace it, without a way back: the old one cannot read the new one's data.".into(),
        _ => "It may not replace it: it cannot read the old one's data.".into(),
    }
}

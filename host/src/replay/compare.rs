//! Compares two runs of one call by meaning: JSON is compared by value, and effects that the host refused are ignored.

use serde::Serialize;
use serde_json::{Value, json};

use super::replayer::Replayed;
use crate::call::recorded_call::{Outcome, RecordedCall};
use crate::transaction::import_log::{ImportCall, Kind, is_alike, normal, remove_split_lists};

/// One difference. The compared values are in `was`, `is`, or both.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    pub what: What,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub was: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is: Option<Value>,
}

/// The kind of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// It trapped or exceeded a limit, and did not before.
    Trap,
    /// Another reply, refusal or failure.
    Outcome,
    EffectChanged,
    EffectAdded,
    EffectGone,
    /// The same effects, in another order.
    Order,
    /// It called an import for which the recording has no answer, and received an empty one.
    AskedMore,
    /// It did not call an import that was called before. Only informative: this has no visible effect.
    AskedLess,
}

impl What {
    /// Whether the call counts as different.
    pub fn matters(self) -> bool {
        self != Self::AskedLess
    }
}

/// All differences, the most important first. `again` is the old build's own replay of the call. If given, it is compared in
/// place of the recorded outcome, since the old build may also differ from a recording with hidden texts.
pub fn compare(call: &RecordedCall, again: Option<&Replayed>, played: &Replayed) -> Vec<Difference> {
    let mut found = Vec::new();
    let old = again.map_or(&call.outcome, |again| &again.outcome);
    outcome(&mut found, old, &played.outcome);
    // Effects that a trapped run had collected never happen.
    let effects = |outcome: &Outcome, asked: &[ImportCall]| -> Vec<Value> {
        let made = asked.iter().filter(|one| one.kind == Kind::Effect && !one.is_refused() && !is_trap(outcome));
        made.map(describe).collect()
    };
    let was = effects(old, again.map_or(&call.imports, |again| &again.effects));
    let is_hidden = again.is_none() && played.is_hidden;
    effects_differ(&mut found, was, effects(&played.outcome, &played.effects), is_hidden);
    let more = played.missing.iter().filter(|asked| again.is_none_or(|again| !again.missing.contains(asked)));
    found.extend(more.map(|asked| Difference { what: What::AskedMore, was: None, is: Some(describe(asked)) }));
    if !is_trap(&played.outcome) {
        let less = played.unasked.iter().filter(|asked| asked.kind != Kind::Effect);
        let less = less.filter(|asked| again.is_none_or(|again| !again.unasked.contains(asked)));
        found.extend(less.map(|asked| Difference { what: What::AskedLess, was: Some(describe(asked)), is: None }));
    }
    found
}

fn is_trap(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Trapped(_))
}

fn describe(asked: &ImportCall) -> Value {
    json!({ "import": asked.import, "args": asked.args.iter().map(normal).collect::<Value>() })
}

fn outcome(found: &mut Vec<Difference>, was: &Outcome, is: &Outcome) {
    let (old, new) = (normal(&was.to_value()), normal(&is.to_value()));
    if old != new {
        let what = if is_trap(is) { What::Trap } else { What::Outcome };
        found.push(Difference { what, was: Some(old), is: Some(new) });
    }
}

fn effects_differ(found: &mut Vec<Difference>, mut was: Vec<Value>, mut is: Vec<Value>, is_hidden: bool) {
    if was == is {
        return;
    }
    if is_same_in_another_order(&was, &is) {
        let (was, is) = (Value::Array(was), Value::Array(is));
        return found.push(Difference { what: What::Order, was: Some(was), is: Some(is) });
    }
    // Effects of both runs are no difference, at any position.
    let same = |old: &Value, new: &Value| old == new || (is_hidden && is_like(old, new));
    is.retain(|new| match was.iter().position(|old| same(old, new)) {
        Some(at) => {
            was.remove(at);
            false
        }
        None => true,
    });
    if is_hidden {
        remove_split_lists(&mut was, &mut is);
    }
    for old in was {
        // Two effects of the same import count as one changed effect.
        let is = is.iter().position(|new| new["import"] == old["import"]).map(|at| is.remove(at));
        let what = if is.is_some() { What::EffectChanged } else { What::EffectGone };
        found.push(Difference { what, was: Some(old), is });
    }
    found.extend(is.into_iter().map(|new| Difference { what: What::EffectAdded, was: None, is: Some(new) }));
}

/// Whether two effects are equal except for a key that was derived from a hidden text.
fn is_like(old: &Value, new: &Value) -> bool {
    let parts = |effect: &'_ Value| Some((effect["import"].as_str()?.to_owned(), effect["args"].as_array()?.clone()));
    let (Some(old), Some(new)) = (parts(old), parts(new)) else { return false };
    is_alike((&old.0, &old.1), (&new.0, &new.1))
}

fn is_same_in_another_order(was: &[Value], is: &[Value]) -> bool {
    let sorted = |values: &[Value]| {
        let mut texts: Vec<String> = values.iter().map(Value::to_string).collect();
        texts.sort_unstable();
        texts
    };
    was.len() == is.len() && sorted(was) == sorted(is)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn emit(to: &str, args: &str) -> Value {
        json!({ "import": "emitter.to_room", "args": [to, args] })
    }

    fn kinds(was: Vec<Value>, is: Vec<Value>) -> Vec<What> {
        let mut found = Vec::new();
        effects_differ(&mut found, was, is, false);
        found.into_iter().map(|difference| difference.what).collect()
    }

    #[test]
    fn effects_are_changed_added_removed_or_reordered() {
        let (a, b, put) = (emit("a", "1"), emit("b", "1"), json!({ "import": "store.put", "args": ["k"] }));
        assert_eq!(kinds(vec![a.clone(), put.clone()], vec![a.clone(), put.clone()]), []);
        assert_eq!(kinds(vec![a.clone(), put.clone()], vec![put.clone(), a.clone()]), [What::Order]);
        assert_eq!(kinds(vec![a.clone(), put.clone()], vec![put.clone(), b.clone()]), [What::EffectChanged]);
        assert_eq!(kinds(vec![a.clone()], vec![a.clone(), put.clone()]), [What::EffectAdded]);
        assert_eq!(kinds(vec![a.clone(), put], vec![a]), [What::EffectGone]);
    }

    #[test]
    fn replies_are_compared_as_json_values() {
        let mut found = Vec::new();
        let reply = |text: &str| Outcome::Ok(Some(text.to_owned()));
        outcome(&mut found, &reply(r#"{"a":1,"b":2}"#), &reply(r#"{ "b":2,"a":1 }"#));
        assert!(found.is_empty(), "{found:?}");
        outcome(&mut found, &reply("{}"), &Outcome::Trapped("it trapped".into()));
        assert_eq!(found[0].what, What::Trap);
    }
}

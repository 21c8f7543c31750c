//! One group as one transaction in two round trips: the first takes the lock and reads, the second writes and commits. The caller
//! decides whether a group without an answer is retried.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::convert::Infallible;

use bytes::Bytes;
use tokio_postgres::{Error, Row};

use super::super::group::{Before, Group, Key, Written};
use super::super::queue::{Admin, Outcome, Work};
use super::super::{FirstReply, HandledId, Write};
use super::connection::{Connection, Failed};
use super::first_replies;
use super::rows::{self, Messages, Writes, signed};
use crate::names::PluginName;

/// Handled ids that one group deletes in addition to the number added, so that their number shrinks.
const SWEEP: usize = 2048;

/// The writer's connection.
pub(super) struct Session {
    pub(super) connection: Connection,
    pub(super) writes: Writes,
}

/// The writer of a group, and the group's number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tag {
    pub(super) writer: [u8; 16],
    pub(super) number: u64,
}

/// The inputs of a group besides its work.
pub(super) struct Inputs {
    pub(super) tag: Tag,
    pub(super) now_ms: u64,
    /// The time stored with handled ids and with the tag, from `Clock::stamp_ms`.
    pub(super) stamp_ms: u64,
    /// Ids that were handled before may be deleted; none if this group does not clean up.
    pub(super) forget: Option<(u64, usize)>,
    /// Dead letters that are kept.
    pub(super) letters: usize,
    /// All rows up to this one were removed from the outbox.
    pub(super) outbox_done: u64,
}

/// The result of a group.
#[derive(Debug, Clone)]
pub(super) struct Done {
    /// Of each job, with whether it is a set.
    pub(super) outcomes: Vec<(bool, Outcome)>,
    pub(super) outbox_done: u64,
    pub(super) letters_dropped: usize,
    pub(super) replies_dropped: usize,
    pub(super) handled: usize,
}

/// The state that the rules need, read under the lock.
struct Known {
    values: HashMap<Key, Bytes>,
    handled: HashSet<HandledId>,
    /// Owners and keys of first replies.
    replied: HashSet<(String, String)>,
}

impl Before for &Known {
    type Error = Infallible;

    fn value(&self, key: &Key) -> Result<Option<Bytes>, Infallible> {
        Ok(self.values.get(key).cloned())
    }

    fn is_handled(&self, handled: &HandledId) -> Result<bool, Infallible> {
        Ok(self.handled.contains(handled))
    }

    fn is_replied(&self, reply: &FirstReply) -> Result<bool, Infallible> {
        Ok(!self.replied.is_empty() && self.replied.contains(&(reply.owner.clone(), reply.key.clone())))
    }
}

/// Everything that the group may read or change, each once.
#[derive(Default)]
struct Touched<'a> {
    keys: BTreeSet<(&'a PluginName, &'a str)>,
    handled: BTreeSet<(&'a PluginName, &'a str)>,
    first_replies: Vec<&'a FirstReply>,
    /// The most numbers that are used.
    numbers: i64,
}

impl<'a> Touched<'a> {
    fn by(work: &'a [Work]) -> Self {
        let mut touched = Self::default();
        for work in work {
            match work {
                Work::Set(set) => {
                    touched.keys.extend(set.reads.iter().map(|(key, _)| (&set.plugin, key.as_str())));
                    for write in &set.writes {
                        match write {
                            Write::Add { key, .. } => drop(touched.keys.insert((&set.plugin, key))),
                            Write::Append { .. } => touched.numbers += 1,
                            Write::Put { .. } | Write::Delete { .. } => {}
                        }
                    }
                    touched.numbers += set.messages.len() as i64;
                    touched.first_replies.extend(&set.first_reply);
                    touched.handled.extend(set.handled.iter().map(|handled| (&handled.plugin, handled.id.as_str())));
                }
                Work::Admin(Admin::DeadLetter(_) | Admin::ReviveDeadLetter(_)) => touched.numbers += 1,
                Work::Admin(_) => {}
            }
        }
        touched
    }
}

/// Runs a group. `unconfirmed` is the result of an earlier attempt that may have been committed without an answer; this attempt stores
/// its own result there before it commits.
pub(super) async fn run(
    session: &Session,
    work: &[Work],
    inputs: &Inputs,
    unconfirmed: &mut Option<Done>,
) -> Result<Done, Failed> {
    let touched = Touched::by(work);
    let (taken, known, last) = begin(session, &touched, inputs.tag, unconfirmed.is_some()).await?;
    // The lock is held, so the earlier attempt has ended, and its effect is visible.
    if let Some(done) = unconfirmed.take()
        && last == Some(inputs.tag.number)
    {
        session.connection.client.batch_execute("ROLLBACK").await?;
        return Ok(done);
    }
    let mut next = (taken - touched.numbers + 1).unsigned_abs();
    let mut group = Group::new(&known, &mut next);
    let mut done = Done {
        outcomes: Vec::with_capacity(work.len()),
        outbox_done: inputs.outbox_done,
        letters_dropped: 0,
        replies_dropped: 0,
        handled: 0,
    };
    for todo in work {
        let outcome = match todo {
            // The original is kept for another attempt.
            Work::Set(set) => match group.add(set.clone()) {
                Ok(added) => (true, added.map(|()| true)),
                Err(never) => match never {},
            },
            Work::Admin(op) => (false, Ok(admin(session, op, &mut group, inputs, &mut done).await?)),
        };
        done.outcomes.push(outcome);
    }
    let written = group.finish();
    done.handled = written.handled.len();
    *unconfirmed = Some(done.clone());
    done.replies_dropped = end(session, &written, inputs, &done).await?;
    *unconfirmed = None;
    Ok(done)
}

/// The first round trip.
async fn begin(session: &Session, touched: &Touched<'_>, tag: Tag, again: bool) -> Result<(i64, Known, Option<u64>), Failed> {
    let (client, writes) = (&session.connection.client, &session.writes);
    let (plugins, keys): (Vec<_>, Vec<_>) = touched.keys.iter().map(|(plugin, key)| (plugin.as_str(), key.as_bytes())).unzip();
    let (owners, ids): (Vec<_>, Vec<_>) = touched.handled.iter().map(|(plugin, id)| (plugin.as_str(), id.as_bytes())).unzip();
    let repliers: Vec<_> = touched.first_replies.iter().map(|reply| reply.owner.as_bytes()).collect();
    let replies: Vec<_> = touched.first_replies.iter().map(|reply| reply.key.as_bytes()).collect();
    let since: Vec<_> = touched.first_replies.iter().map(|reply| signed(reply.bounds.since_ms)).collect();
    // Sent in this order, all before the first answer; each reads the state committed before it starts.
    let (begun, taken, last, values, handled, replied) = tokio::join!(biased;
        client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED"),
        async { client.query_one(&writes.take, &[&touched.numbers]).await },
        async { if again { client.query(&writes.last, &[&tag.writer.as_slice()]).await } else { nothing() } },
        async { if keys.is_empty() { nothing() } else { client.query(&writes.values, &[&plugins, &keys]).await } },
        async { if ids.is_empty() { nothing() } else { client.query(&writes.handled, &[&owners, &ids]).await } },
        async {
            if replies.is_empty() { nothing() } else { client.query(&writes.replied, &[&repliers, &replies, &since]).await }
        },
    );
    begun?;
    let taken = taken?.try_get(0)?;
    let last = last?.first().map(|row| rows::number(row, 0)).transpose()?;
    let keys: Vec<(&PluginName, &str)> = touched.keys.iter().copied().collect();
    let mut known = Known { values: HashMap::new(), handled: HashSet::new(), replied: HashSet::new() };
    for row in values? {
        let (plugin, key) = keys[position(&row)?];
        known.values.insert((plugin.clone(), key.to_owned()), rows::bytes(&row, 1)?);
    }
    let ids: Vec<(&PluginName, &str)> = touched.handled.iter().copied().collect();
    for row in handled? {
        let (plugin, id) = ids[position(&row)?];
        known.handled.insert(HandledId { plugin: plugin.clone(), id: id.to_owned() });
    }
    for row in replied? {
        let reply = touched.first_replies[position(&row)?];
        known.replied.insert((reply.owner.clone(), reply.key.clone()));
    }
    Ok((taken, known, last))
}

fn nothing() -> Result<Vec<Row>, Error> {
    Ok(Vec::new())
}

/// PostgreSQL counts from one.
fn position(row: &Row) -> Result<usize, Failed> {
    Ok(row.try_get::<_, i64>(0)?.unsigned_abs().saturating_sub(1) as usize)
}

/// The host's own operations, each in its own round trip, except the removal of outbox rows.
async fn admin(
    session: &Session,
    op: &Admin,
    group: &mut Group<'_, &Known>,
    inputs: &Inputs,
    done: &mut Done,
) -> Result<bool, Failed> {
    let (client, writes) = (&session.connection.client, &session.writes);
    Ok(match op {
        Admin::OutboxDone(seq) => {
            let more = *seq > done.outbox_done;
            done.outbox_done = done.outbox_done.max(*seq);
            more
        }
        Admin::DeadLetter(letter) => {
            let new = writes.put_letter(client, group.number(), inputs.now_ms, letter).await? > 0;
            if new {
                let dropped = client.execute(&writes.cap_letters, &[&signed(inputs.letters as u64)]).await?;
                done.letters_dropped += usize::try_from(dropped).unwrap_or(usize::MAX);
            }
            new
        }
        Admin::RemoveDeadLetter(seq) => client.execute(&writes.remove_letter, &[&signed(*seq)]).await? > 0,
        Admin::ReviveDeadLetter(seq) => {
            let taken = client.query_opt(&writes.take_letter, &[&signed(*seq)]).await?;
            let taken = taken.as_ref().map(rows::letter).transpose()?.map(|row| row.letter);
            let exists = taken.is_some();
            taken.into_iter().for_each(|letter| group.publish(letter.message.addressed(&letter.plugin)));
            exists
        }
        Admin::PutBlob(name, value) => client.execute(&writes.put_blob, &[&name.as_bytes(), &value.as_ref()]).await? > 0,
        Admin::PutBlobs(values) => {
            for (name, value) in values {
                match value {
                    Some(value) => client.execute(&writes.put_blob, &[&name.as_bytes(), &value.as_ref()]).await?,
                    None => client.execute(&writes.remove_blob, &[&name.as_bytes()]).await?,
                };
            }
            true
        }
        Admin::HandOver(all) => {
            writes.hand_over(client, all).await?;
            true
        }
        Admin::RemoveBlob(name) => client.execute(&writes.remove_blob, &[&name.as_bytes()]).await? > 0,
    })
}

/// The second round trip. After an error of any statement the commit undoes the group. Returns the number of first replies that were
/// deleted before their time.
async fn end(session: &Session, written: &Written, inputs: &Inputs, done: &Done) -> Result<usize, Failed> {
    let (client, writes) = (&session.connection.client, &session.writes);
    let (mut put, mut deleted) = ((Vec::new(), Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    for ((plugin, key), value) in &written.values {
        match value {
            Some(value) => {
                put.0.push(plugin.as_str());
                put.1.push(key.as_bytes());
                put.2.push(value.as_ref());
            }
            None => {
                deleted.0.push(plugin.as_str());
                deleted.1.push(key.as_bytes());
            }
        }
    }
    let messages = Messages::of(written.messages.iter().map(|(seq, message)| (*seq, message)));
    let (owners, ids): (Vec<_>, Vec<_>) =
        written.handled.iter().map(|handled| (handled.plugin.as_str(), handled.id.as_bytes())).unzip();
    let (stamp, number) = (signed(inputs.stamp_ms), signed(inputs.tag.number));
    let published = !messages.seq.is_empty();
    let (puts, deletes, sent, handled, replies, swept, emptied, tagged, notified, committed) = tokio::join!(biased;
        async { if put.0.is_empty() { Ok(0) } else { client.execute(&writes.put, &[&put.0, &put.1, &put.2]).await } },
        async { if deleted.0.is_empty() { Ok(0) } else { client.execute(&writes.delete, &[&deleted.0, &deleted.1]).await } },
        async { if published { messages.insert(client, &writes.put_messages).await } else { Ok(0) } },
        async { if ids.is_empty() { Ok(0) } else { client.execute(&writes.put_handled, &[&owners, &ids, &stamp]).await } },
        first_replies::put(client, writes, &written.first_replies, inputs.stamp_ms),
        async {
            match inputs.forget {
                Some((before_ms, added)) => {
                    client.execute(&writes.sweep_handled, &[&signed(before_ms), &signed((added + SWEEP) as u64)]).await
                }
                None => Ok(0),
            }
        },
        async {
            let more = done.outbox_done > inputs.outbox_done;
            if more { client.execute(&writes.outbox_done, &[&signed(done.outbox_done)]).await } else { Ok(0) }
        },
        async { client.execute(&writes.written, &[&inputs.tag.writer.as_slice(), &number, &stamp]).await },
        async { if published { client.execute(&writes.notify, &[]).await } else { Ok(0) } },
        client.batch_execute("COMMIT"),
    );
    for result in [puts, deletes, sent, handled, swept, emptied, tagged, notified] {
        result?;
    }
    let dropped = replies?;
    committed?;
    Ok(usize::try_from(dropped).unwrap_or(usize::MAX))
}

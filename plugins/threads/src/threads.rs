//! A support desk's threads: attendants in `/hub` and customers in `/portal` share the room `thread:{threadId}`, one in each
//! namespace. Nothing said is stored here (the product's backend hears of it and does), and no customer gets into another's
//! thread, nor a tenant's user into that of another tenant, or of none. Messages are plain text: a client must show them as text,
//! never as HTML.

use hubbub_sdk::{
    Caller, Event, Json, Message, Refusal, Result, User, bus, clock,
    emitter::Emits,
    payload::{Id, IdOr, PublishedId, published_id},
    rooms,
    store::{self, tenant_key},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const HUB: &str = "/hub";
const PORTAL: &str = "/portal";

/// The most characters of a message.
const MAX_CHARACTERS: usize = 2000;

// Each event once a namespace: they are sent by `in_both`, and listed under both.
pub(crate) const TYPING: Emits<UserTyping> = Emits::new(HUB, "thread:typing");
pub(crate) const TYPING_PORTAL: Emits<UserTyping> = Emits::new(PORTAL, "thread:typing");
pub(crate) const CURSOR: Emits<UserCursor> = Emits::new(HUB, "thread:cursor");
pub(crate) const CURSOR_PORTAL: Emits<UserCursor> = Emits::new(PORTAL, "thread:cursor");
pub(crate) const MESSAGE: Emits<Said> = Emits::new(HUB, "thread:message");
pub(crate) const MESSAGE_PORTAL: Emits<Said> = Emits::new(PORTAL, "thread:message");
pub(crate) const STATUS: Emits<Status> = Emits::new(HUB, "thread:status");
pub(crate) const STATUS_PORTAL: Emits<Status> = Emits::new(PORTAL, "thread:status");
pub(crate) const ACCEPTED: Emits<Accepted> = Emits::new(HUB, "chat:accepted");
pub(crate) const ACCEPTED_PORTAL: Emits<Accepted> = Emits::new(PORTAL, "chat:accepted");
pub(crate) const ENDED: Emits<Ended> = Emits::new(HUB, "chat:ended");
pub(crate) const ENDED_PORTAL: Emits<Ended> = Emits::new(PORTAL, "chat:ended");

/// `{threadId}`, or the bare id.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ThreadId {
    thread_id: Id,
}

impl From<Id> for ThreadId {
    fn from(thread_id: Id) -> Self {
        Self { thread_id }
    }
}

/// `thread.upserted`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Upserted {
    #[serde(deserialize_with = "published_id")]
    thread_id: Id,
    customer: Customer,
}

#[derive(Deserialize)]
struct Customer {
    #[serde(deserialize_with = "published_id")]
    id: Id,
}

/// A thread as it is stored.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Thread {
    customer_id: Id,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UserTyping {
    thread_id: Id,
    user_id: String,
    user_name: String,
    is_typing: bool,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Cursor {
    thread_id: Id,
    x: f64,
    y: f64,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UserCursor {
    thread_id: Id,
    user_id: String,
    x: f64,
    y: f64,
}

/// `thread:send`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Send {
    thread_id: Id,
    content: String,
}

/// A message of a thread.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Said {
    id: PublishedId,
    thread_id: PublishedId,
    user_id: PublishedId,
    content: String,
    created_at: String,
}

/// `thread.sent`: what the product's backend is told of a message.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sent<'a> {
    thread_id: &'a str,
    id: &'a str,
    user_id: &'a str,
    content: &'a str,
}

/// `thread.message`. Where the backend has stored it already, it knows its id and time.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Published {
    id: Option<PublishedId>,
    thread_id: PublishedId,
    user_id: PublishedId,
    content: String,
    created_at: Option<String>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    thread_id: PublishedId,
    status: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Accepted {
    thread_id: PublishedId,
    /// As published.
    attendant: Json<Attendant>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "the documents' type of what is passed on as it came")]
struct Attendant {
    id: Id,
    name: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ended {
    thread_id: PublishedId,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

fn room(thread: &str) -> String {
    format!("thread:{thread}")
}

/// The host keeps a tenant's rooms apart by itself; keys are the plugin's own to keep apart.
fn thread_key(tenant: Option<&str>, thread: &str) -> String {
    tenant_key(tenant, ["threads", thread])
}

/// Whether a text is long enough to say something and short enough to be read.
fn fits(text: &str) -> bool {
    !text.trim().is_empty() && text.chars().count() <= MAX_CHARACTERS
}

fn not_authorized() -> Refusal {
    Refusal::forbidden("Not authorized")
}

/// To the thread's room in both namespaces.
fn in_both<T: Serialize>(event: Emits<T>, thread: &str, payload: &T) -> Result<()> {
    let room = room(thread);
    event.to_room(&room, payload)?;
    Ok(event.within(PORTAL).to_room(&room, payload)?)
}

/// Whoever owned the thread before leaves its room at once.
pub(crate) fn upserted(message: &Message, Upserted { thread_id, customer }: Upserted) -> Result<()> {
    let key = thread_key(message.tenant.as_deref(), &thread_id);
    let before: Option<Thread> = store::get(&key)?;
    if let Some(before) = before.filter(|before| before.customer_id != customer.id) {
        rooms::leave_user(PORTAL, &before.customer_id, &room(&thread_id))?;
    }
    Ok(store::put(&key, &Thread { customer_id: customer.id })?)
}

/// Attendants join any thread that is known, customers their own. A thread whose `thread.upserted` is still on its way is
/// refused: nobody knows yet whose it is.
pub(crate) fn join(caller: &Caller, IdOr(ThreadId { thread_id }): IdOr<ThreadId>) -> Result<()> {
    let user = caller.user()?;
    let key = thread_key(user.tenant.as_deref(), &thread_id);
    let thread: Thread = store::get(&key)?.ok_or_else(not_authorized)?;
    if caller.namespace == PORTAL && *thread.customer_id != *user.id {
        return Err(not_authorized());
    }
    Ok(rooms::join(&room(&thread_id))?)
}

pub(crate) fn leave(thread: &ThreadId) -> Result<()> {
    Ok(rooms::leave(&room(&thread.thread_id))?)
}

/// The room's name vouches for who is in it: no storage is asked.
fn must_have_joined(thread: &str) -> Result<()> {
    if rooms::joined(&room(thread))? { Ok(()) } else { Err(not_authorized()) }
}

pub(crate) fn typing(user: &User, IdOr(ThreadId { thread_id }): IdOr<ThreadId>, is_typing: bool) -> Result<()> {
    must_have_joined(&thread_id)?;
    let user_name = user.display_name().to_owned();
    let typing = UserTyping { thread_id, user_id: user.id.clone(), user_name, is_typing };
    in_both(TYPING.except_caller().volatile(), &typing.thread_id, &typing)
}

pub(crate) fn cursor(user: &User, Cursor { thread_id, x, y }: Cursor) -> Result<()> {
    must_have_joined(&thread_id)?;
    let cursor = UserCursor { thread_id, user_id: user.id.clone(), x, y };
    in_both(CURSOR.except_caller().volatile(), &cursor.thread_id, &cursor)
}

pub(crate) fn send(user: &User, event: &Event, Send { thread_id, content }: Send) -> Result<()> {
    if !fits(&content) {
        return Err(Refusal::invalid("Invalid message"));
    }
    must_have_joined(&thread_id)?;
    let sent = Sent { thread_id: &thread_id, id: &event.id, user_id: &user.id, content: &content };
    bus::publish_keyed("thread.sent", &thread_id, &sent)?;
    let created_at = clock::rfc3339(clock::now());
    let (id, user_id) = (event.id.clone().into(), user.id.clone().into());
    let said = Said { id, thread_id: thread_id.into(), user_id, content, created_at };
    in_both(MESSAGE, &said.thread_id, &said)
}

/// A message that the backend has. It goes to the room alone, and not back to the backend.
pub(crate) fn message(message: &Message, published: Published) -> Result<()> {
    let Published { id, thread_id, user_id, content, created_at } = published;
    let id = id.unwrap_or_else(|| message.id.clone().into());
    let created_at = created_at.unwrap_or_else(|| clock::rfc3339(message.at));
    let said = Said { id, thread_id, user_id, content, created_at };
    in_both(MESSAGE, &said.thread_id, &said)
}

pub(crate) fn status(status: &Status) -> Result<()> {
    in_both(STATUS, &status.thread_id, status)
}

pub(crate) fn accepted(accepted: &Accepted) -> Result<()> {
    in_both(ACCEPTED, &accepted.thread_id, accepted)
}

pub(crate) fn ended(ended: &Ended) -> Result<()> {
    in_both(ENDED, &ended.thread_id, ended)
}

#[cfg(test)]
mod tests;

//! Threads of a support desk: attendants in `/hub` and customers in `/portal` talk in a thread that the product's backend opens. The
//! backend gets each message, and `history` stores it too. A customer never joins another customer's thread, and a tenant's
//! user never joins a thread of another tenant. Messages are plain text: a client must show them as text, never as HTML.

mod history;

use hubbub_sdk::{
    Caller, Event, Json, Refusal, Result, User, bus, clock,
    emitter::Emits,
    payload::{Id, IdOr, PublishedId, published_id},
    plugin,
    rooms::{self, Room},
    store::{self, tenant_key},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const PORTAL: &str = "/portal";

/// Every event and room is in both namespaces.
const BOTH: &[&str] = &["/hub", PORTAL];

/// The most characters of a message.
const MAX_CHARACTERS: usize = 2000;

const THREAD: Room = Room::in_each(BOTH, "thread:{id}");

const TYPING: Emits<UserTyping> = Emits::in_each(BOTH, "thread:typing");
const CURSOR: Emits<UserCursor> = Emits::in_each(BOTH, "thread:cursor");
const MESSAGE: Emits<Json<Message>> = Emits::in_each(BOTH, "thread:message");
const STATUS: Emits<Status> = Emits::in_each(BOTH, "thread:status");
const ACCEPTED: Emits<Accepted> = Emits::in_each(BOTH, "chat:accepted");
const ENDED: Emits<Ended> = Emits::in_each(BOTH, "chat:ended");

/// The plugin, without settings.
#[derive(Default)]
pub struct Threads;

/// `{threadId}`, or the bare id.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ThreadId {
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
struct Upserted {
    #[serde(deserialize_with = "published_id")]
    thread_id: Id,
    customer: Customer,
}

#[derive(Deserialize)]
struct Customer {
    #[serde(deserialize_with = "published_id")]
    id: Id,
}

/// A stored thread.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Thread {
    customer_id: Id,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct UserTyping {
    thread_id: Id,
    user_id: String,
    user_name: String,
    is_typing: bool,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Cursor {
    thread_id: Id,
    x: f64,
    y: f64,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct UserCursor {
    thread_id: Id,
    user_id: String,
    x: f64,
    y: f64,
}

/// `thread:send`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Send {
    thread_id: Id,
    content: String,
    /// A repeat with the same one takes effect once.
    #[schemars(length(min = 1, max = 64))]
    client_id: Option<String>,
}

/// `thread:message`.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Message {
    id: PublishedId,
    thread_id: PublishedId,
    user_id: PublishedId,
    content: String,
    created_at: String,
    /// The sender's, if one was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
}

/// `thread.sent`: a client's message, for the backend.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sent<'a> {
    thread_id: &'a str,
    id: &'a str,
    user_id: &'a str,
    content: &'a str,
}

/// `thread.message`: a message of the backend, which may have an id and a time already.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PublishedMessage {
    id: Option<PublishedId>,
    thread_id: PublishedId,
    user_id: PublishedId,
    content: String,
    created_at: Option<String>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Status {
    thread_id: PublishedId,
    status: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Accepted {
    thread_id: PublishedId,
    /// As published.
    attendant: Json<Attendant>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "the schema of a value that is sent as published")]
struct Attendant {
    id: Id,
    name: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Ended {
    thread_id: PublishedId,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[plugin(name = "threads", tenancy = "optional", namespaces = ["/hub", "/portal"])]
#[tenant_keys("threads/")]
#[takes("chat", prefix = "threads/")]
#[door("/hub", token = "required", roles = ["ATTENDANT", "ADMIN"], missing = "Token invalido", invalid = "Token invalido",
    forbidden = "Token invalido")]
#[door("/portal", token = "required", missing = "Token invalido", invalid = "Token invalido", forbidden = "Token invalido")]
#[rooms(THREAD)]
#[emits(TYPING, CURSOR, MESSAGE, STATUS, ACCEPTED, ENDED)]
#[parts(history)]
impl Threads {
    /// Attendants join any known thread, customers their own. A thread is known from its `thread.upserted` on.
    #[on("join:thread")]
    fn join(caller: &Caller, user: &User, IdOr(ThreadId { thread_id }): IdOr<ThreadId>) -> Result<()> {
        check_access(caller, user, &thread_id)?;
        THREAD.of(&thread_id).join()
    }

    #[on("leave:thread")]
    fn leave(IdOr(ThreadId { thread_id }): IdOr<ThreadId>) -> Result<()> {
        THREAD.of(&thread_id).leave()
    }

    #[on("typing:start")]
    fn start_typing(user: &User, IdOr(ThreadId { thread_id }): IdOr<ThreadId>) -> Result<()> {
        send_typing(user, thread_id, true)
    }

    #[on("typing:stop")]
    fn stop_typing(user: &User, IdOr(ThreadId { thread_id }): IdOr<ThreadId>) -> Result<()> {
        send_typing(user, thread_id, false)
    }

    #[on("cursor:move")]
    fn move_cursor(user: &User, Cursor { thread_id, x, y }: Cursor) -> Result<()> {
        let room = joined_room(&thread_id)?;
        CURSOR.except_caller().volatile().to_room(&room, &UserCursor { thread_id, user_id: user.id.clone(), x, y })
    }

    #[on("thread:send", once = "clientId", invalid = "Invalid message")]
    fn send(user: &User, event: &Event, Send { thread_id, content, client_id }: Send) -> Result<()> {
        if content.trim().is_empty() || content.chars().count() > MAX_CHARACTERS {
            return Err(Refusal::invalid("Invalid message"));
        }
        let room = joined_room(&thread_id)?;
        let sent = Sent { thread_id: &thread_id, id: &event.id, user_id: &user.id, content: &content };
        bus::publish_keyed("thread.sent", &thread_id, &sent)?;
        let created_at = clock::rfc3339(clock::now());
        let (id, user_id) = (event.id.clone().into(), user.id.clone().into());
        let message = Message { id, thread_id: thread_id.into(), user_id, content, created_at, client_id };
        history::store_and_send(user.tenant.as_deref(), &room, &message)
    }

    /// The previous customer of the thread leaves its room at once.
    #[on_message("thread.upserted")]
    fn upserted(message: &hubbub_sdk::Message, Upserted { thread_id, customer }: Upserted) -> Result<()> {
        let key = thread_key(message.tenant.as_deref(), &thread_id);
        let before: Option<Thread> = store::get(&key)?;
        if let Some(before) = before.filter(|before| before.customer_id != customer.id) {
            rooms::leave_user(PORTAL, &before.customer_id, &THREAD.of(&thread_id))?;
        }
        store::put(&key, &Thread { customer_id: customer.id })
    }

    /// Sends the message to the room, and not to the backend, which has it already. A message that is published twice is sent twice and
    /// stored once.
    #[on_message("thread.message")]
    fn message(message: &hubbub_sdk::Message, published: PublishedMessage) -> Result<()> {
        let PublishedMessage { id, thread_id, user_id, content, created_at } = published;
        let id = id.unwrap_or_else(|| message.id.clone().into());
        let created_at = created_at.unwrap_or_else(|| clock::rfc3339(message.at));
        let room = THREAD.of(&thread_id);
        let published = Message { id, thread_id, user_id, content, created_at, client_id: None };
        history::store_and_send(message.tenant.as_deref(), &room, &published)
    }

    #[on_message("thread.status")]
    fn status(status: Status) -> Result<()> {
        STATUS.to_room(&THREAD.of(&status.thread_id), &status)
    }

    #[on_message("chat.accepted")]
    fn accepted(accepted: Accepted) -> Result<()> {
        ACCEPTED.to_room(&THREAD.of(&accepted.thread_id), &accepted)
    }

    #[on_message("chat.ended")]
    fn ended(ended: Ended) -> Result<()> {
        ENDED.to_room(&THREAD.of(&ended.thread_id), &ended)
    }
}

fn send_typing(user: &User, thread_id: Id, is_typing: bool) -> Result<()> {
    let room = joined_room(&thread_id)?;
    let user_name = user.display_name().to_owned();
    let typing = UserTyping { thread_id, user_id: user.id.clone(), user_name, is_typing };
    TYPING.except_caller().volatile().to_room(&room, &typing)
}

/// Refuses a user that may not join and read the thread.
fn check_access(caller: &Caller, user: &User, thread: &str) -> Result<()> {
    let thread: Thread = store::get(&thread_key(user.tenant.as_deref(), thread))?.ok_or_else(not_authorized)?;
    if caller.namespace == PORTAL && *thread.customer_id != *user.id {
        return Err(not_authorized());
    }
    Ok(())
}

/// The thread's room, or a refusal if the caller has not joined it. Storage is not read.
fn joined_room(thread: &str) -> Result<Room> {
    let room = THREAD.of(thread);
    if room.joined()? { Ok(room) } else { Err(not_authorized()) }
}

fn not_authorized() -> Refusal {
    Refusal::forbidden("Not authorized")
}

/// The host keeps the rooms of tenants apart. The keys name the tenant here.
fn thread_key(tenant: Option<&str>, thread: &str) -> String {
    tenant_key(tenant, ["threads", thread])
}

#[cfg(test)]
mod tests;

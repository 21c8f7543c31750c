//! Threads of a support desk, or of one for each tenant: attendants in `/hub` and customers in `/portal` talk in a thread that the
//! product's backend opens. This page is the list of what clients and backends may say and what happens then; it must never hold a
//! rule of its own.

mod threads;

use hubbub_sdk::{Caller, Event, Message, Result, payload::IdOr, plugin};

/// The plugin, without settings.
#[derive(Default)]
pub struct Threads;

#[plugin(name = "threads", tenancy = "optional")]
#[tenant_keys("threads/")]
#[takes("chat", prefix = "threads/")]
#[door("/hub", token = "required", roles = ["ATTENDANT", "ADMIN"], missing = "Token invalido", invalid = "Token invalido",
    forbidden = "Token invalido")]
#[door("/portal", token = "required", missing = "Token invalido", invalid = "Token invalido", forbidden = "Token invalido")]
#[room("/hub", "thread:{id}")]
#[room("/portal", "thread:{id}")]
#[emits(threads::TYPING, threads::CURSOR, threads::MESSAGE, threads::STATUS, threads::ACCEPTED, threads::ENDED)]
#[emits(threads::TYPING_PORTAL, threads::CURSOR_PORTAL, threads::MESSAGE_PORTAL)]
#[emits(threads::STATUS_PORTAL, threads::ACCEPTED_PORTAL, threads::ENDED_PORTAL)]
impl Threads {
    #[on("join:thread", namespace = "/hub")]
    #[on("join:thread", namespace = "/portal")]
    fn join_thread(caller: &Caller, thread: IdOr<threads::ThreadId>) -> Result<()> {
        threads::join(caller, thread)
    }

    #[on("leave:thread", namespace = "/hub")]
    #[on("leave:thread", namespace = "/portal")]
    fn leave_thread(thread: IdOr<threads::ThreadId>) -> Result<()> {
        threads::leave(&thread)
    }

    #[on("typing:start", namespace = "/hub")]
    #[on("typing:start", namespace = "/portal")]
    fn start_typing(caller: &Caller, thread: IdOr<threads::ThreadId>) -> Result<()> {
        threads::typing(caller.user()?, thread, true)
    }

    #[on("typing:stop", namespace = "/hub")]
    #[on("typing:stop", namespace = "/portal")]
    fn stop_typing(caller: &Caller, thread: IdOr<threads::ThreadId>) -> Result<()> {
        threads::typing(caller.user()?, thread, false)
    }

    #[on("cursor:move", namespace = "/hub")]
    #[on("cursor:move", namespace = "/portal")]
    fn move_cursor(caller: &Caller, cursor: threads::Cursor) -> Result<()> {
        threads::cursor(caller.user()?, cursor)
    }

    #[on("thread:send", namespace = "/hub", invalid = "Invalid message")]
    #[on("thread:send", namespace = "/portal", invalid = "Invalid message")]
    fn send_to_thread(caller: &Caller, event: &Event, message: threads::Send) -> Result<()> {
        threads::send(caller.user()?, event, message)
    }

    #[on_message("thread.upserted")]
    fn thread_upserted(message: &Message, thread: threads::Upserted) -> Result<()> {
        threads::upserted(message, thread)
    }

    #[on_message("thread.message")]
    fn thread_message(message: &Message, said: threads::Published) -> Result<()> {
        threads::message(message, said)
    }

    #[on_message("thread.status")]
    fn thread_status(status: threads::Status) -> Result<()> {
        threads::status(&status)
    }

    #[on_message("chat.accepted")]
    fn chat_accepted(accepted: threads::Accepted) -> Result<()> {
        threads::accepted(&accepted)
    }

    #[on_message("chat.ended")]
    fn chat_ended(ended: threads::Ended) -> Result<()> {
        threads::ended(&ended)
    }
}

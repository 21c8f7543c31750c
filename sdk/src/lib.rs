//! Write Hubbub plugins in Rust.
//!
//! A plugin handles some of the events of a realtime server. The host holds the sockets, checks tokens, stores and delivers; the
//! plugin decides. A plugin is an `impl` block with an attribute, and `cargo test` tests it.
//!
//! # A plugin in twenty lines
//!
//! ```
//! use hubbub_sdk::{Result, User, emitter::Emits, payload::Id, plugin, rooms::Room, store};
//! use schemars::JsonSchema;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize, JsonSchema)]
//! struct Vote { poll: Id, choice: Id }
//!
//! #[derive(Serialize, JsonSchema)]
//! struct Counted { poll: Id, choice: Id, votes: i64 }
//!
//! const POLL: Room = Room::new("/polls", "poll:{id}");
//! const COUNTED: Emits<Counted> = Emits::new("/polls", "poll:counted");
//!
//! #[derive(Default)]
//! struct Polls;
//!
//! #[plugin(name = "polls", version = "1.0.0")]
//! #[door("/polls", token = "required", missing = "Please sign in")]
//! #[rooms(POLL)]
//! #[emits(COUNTED)]
//! impl Polls {
//!     #[on("poll:vote", reply)]
//!     fn vote(user: &User, Vote { poll, choice }: Vote) -> Result<Counted> {
//!         let room = POLL.of(&poll);
//!         room.join()?;
//!         store::put(&store::key(["by", &poll, &user.id]), &choice)?;
//!         let votes = store::key(["votes", &poll, &choice]);
//!         store::add(&votes, 1)?;
//!         let counted = Counted { poll, choice, votes: store::counter(&votes)? };
//!         COUNTED.except_caller().to_room(&room, &counted)?;
//!         Ok(counted)
//!     }
//! }
//!
//! // And its test, beside it.
//! # use hubbub_sdk::harness::{Harness, user};
//! # use serde_json::json;
//! let app = Harness::<Polls>::new();
//! let (ana, ben) = (app.connect("/polls", user("ana")), app.connect("/polls", user("ben")));
//! let vote = json!({ "poll": "lunch", "choice": "soup" });
//! ana.emit("poll:vote", vote.clone()).expect_reply(json!({ "poll": "lunch", "choice": "soup", "votes": 1 }));
//! ben.emit("poll:vote", vote).expect_reply(json!({ "poll": "lunch", "choice": "soup", "votes": 2 }));
//! ana.expect("poll:counted", json!({ "poll": "lunch", "choice": "soup", "votes": 2 }));
//! ben.emit("poll:vote", json!({ "poll": "lunch" })).expect_refusal("invalid", "choice: missing");
//! ```
//!
//! # Rules for every handler
//!
//! - **A handler is a transaction.** Its effects (writes, joins, emits, messages, timers) happen after it has returned `Ok`: all of
//!   them, writes first, or none. Within the call, reads see the effects so far.
//! - **A handler keeps no state.** Many instances serve the events, and any instance is replaced at any time. Durable data goes to
//!   [`store`]; shared data goes to [`rooms`], [`presence`] or the [`bus`]. The [`harness`] finds hidden state.
//! - **A handler may run again.** If another call changed a key that it read, its effects are dropped and it runs again, with the same
//!   clock, random bytes and budget answers. It must depend on nothing but its arguments and its imports.
//! - **A handler refuses with a [`Refusal`]**: a code and one sentence for the client. Every function of this crate that can fail
//!   returns one: storage that does not answer is `unavailable`, and a mistake of the plugin is `internal`, with its detail in the log
//!   only.
//! - **A handler cannot hurt others.** A call has 20 ms of CPU, 5 s of time, 32 MiB of memory, 256 effects, 1 MiB of effects and 10 000
//!   imports. A call over a limit ends as a trap, and so does a panic, after its message and place are logged.
//!
//! # The attributes
//!
//! On the block, after `#[plugin(..)]`:
//!
//! | attribute | meaning |
//! |---|---|
//! | `#[plugin(name = "..", ..)]` | the plugin. Also `version` (default: the crate's), `data_version` (1), `reads_data_versions` (`[]`), `tenancy` (`"none"`, `"required"` or `"optional"`), and `namespace` or `namespaces` for handlers that name none |
//! | `#[door("/ns", token = "required", ..)]` | the plugin owns the namespace. `token = "optional"` lets visitors in. Also `claims = [..]`, `roles = [..]`, and the sentences `missing`, `invalid`, `forbidden` |
//! | `#[namespace("/ns")]` | the plugin takes part in a namespace of another plugin. Also `missing`: the sentence for a visitor where a user is needed |
//! | `#[rooms(A, b::B)]` | constants of type [`rooms::Room`]: only this plugin joins sockets to these rooms. `#[room("/ns", "poll:{id}")]` states one without a constant |
//! | `#[emits(A, b::B)]` | constants of type [`emitter::Emits`]: the events that the plugin sends |
//! | `#[tenant_keys("inbox/")]` | stored keys with this prefix name no tenant, and a tenant's keys are [`store::tenant_key`]s; `with = "inbox/of/{tenant}/"` states another form. The host moves the keys to the operator's default tenant |
//! | `#[takes("chat", prefix = "threads/")]` | stored data of another plugin that this plugin continues. The host moves it once, before the plugin is live for the first time |
//! | `#[parts(a, b::c)]` | modules with further blocks of the plugin, see below |
//!
//! On methods. A method takes `&self` (the configuration) or no receiver, then the parameters it needs, in any order:
//!
//! | attribute | parameters | result |
//! |---|---|---|
//! | `init` by its name | the configuration, with `deny_unknown_fields` | `Result<Self, String>` or `Self`. Without `init`, the plugin is `Default` and has no configuration |
//! | `#[on("event", ..)]` | `&`[`Caller`], `&`[`User`], `&`[`Event`], and the event's arguments by position, at most four | `Result<()>`, acknowledged with `{}`, or `Result<T>` with the acknowledgement |
//! | `#[on_connect("/ns")]` | `&Caller`, `&User` | `Result<()>` |
//! | `#[on_disconnect("/ns")]` | `&Caller`, `&User`, [`DisconnectReason`] | nothing or `Result<()>` |
//! | `#[authorize("/ns")]` | `&Caller`, `&User`, the client's `auth` without its token | `Result<()>`. Effects are dropped |
//! | `#[on_message("topic")]` | `&`[`Message`], its data | `Result<()>`. A failure is tried again, see below |
//! | `#[on_timer("key")]`, `#[on_timer("key:{param}")]` | `&`[`Timer`], its payload | `Result<()>`. A failure is tried again |
//! | `#[schedule("key", every_ms = 1000, scope = "once")]` | `&Timer` | the same. The other scope is `"each_node"` |
//!
//! A method with a `&User` refuses visitors as `unauthenticated`, with the namespace's sentence `missing`. One with an
//! `Option<&User>` is called for visitors too; `#[on_connect]` needs it in a namespace that lets visitors in. A plugin with one
//! namespace need not name it.
//!
//! `#[on]` also takes `namespace = "/ns"` or `namespaces = ["/a", "/b"]`, `reply` (the acknowledgement is also emitted to the sender,
//! under the event's name, or under another by `reply = "name"`), `invalid = ".."` (the sentence for a payload that does not fit,
//! instead of one that names the field), `on_failure = ".."` (the sentence for a trap, or storage that does not answer), and
//! `once = ".."` (a repeated event takes effect once, see below).
//!
//! A message becomes a dead letter at once if its data does not fit the handler's type, or if the handler refuses it as
//! [`Refusal::invalid`]. The operator sees the wrong field (`invalid data: pollId: missing`), and the release is not blamed. After any
//! other refusal or a trap the message is tried again; after five failures (`bus.max_failures`) it becomes a dead letter too.
//!
//! # An event that takes effect once
//!
//! A client that gets no acknowledgement cannot know whether its event took effect, and sends it again. `once = "clientId"` names the
//! payload's field by which a repeat is recognized:
//!
//! ```
//! # use hubbub_sdk::{Result, User, plugin, store};
//! # use schemars::JsonSchema;
//! # use serde::Deserialize;
//! #[derive(Deserialize, JsonSchema)]
//! #[serde(rename_all = "camelCase")]
//! struct Gift {
//!     coins: i64,
//!     #[schemars(length(min = 1, max = 64))]
//!     client_id: Option<String>,
//! }
//!
//! # #[derive(Default)] struct Gifts;
//! # #[plugin(name = "gifts", version = "1.0.0")]
//! # #[door("/", token = "required")]
//! # impl Gifts {
//! #[on("gift:send", once = "clientId")]
//! fn send(user: &User, gift: Gift) -> Result<()> {
//!     store::add(&store::key(["given", &user.id]), gift.coins)
//! }
//! # }
//! # use hubbub_sdk::harness::{Harness, user};
//! # use serde_json::json;
//! let app = Harness::<Gifts>::new();
//! let ana = app.connect("/", user("ana"));
//! for _ in 0..2 {
//!     ana.emit("gift:send", json!({ "coins": 5, "clientId": "g1" })).expect_ok();
//! }
//! assert_eq!(app.inside(|| store::counter("given/ana")), Ok(5));
//! ```
//!
//! - **A repeat** has the same user, tenant, namespace, event name and key. It is not given to the handler: it gets the first reply
//!   again, with the events that the first call sent to its caller, whatever its other fields are. It takes no budget.
//! - **For 24 h** (`once.keep`), over reconnects, restarts and nodes. The host keeps 1 MiB of records for a user and 256 MiB for a plugin
//!   (`once.user_bytes`, `once.plugin_bytes`), outside the plugin's quota; past that the oldest are dropped.
//! - **Only an ok is remembered.** A refused event may be sent again with the same key.
//! - **The key** is a text of 1 to 64 characters; any other is refused as `invalid`. An event without one takes effect each time, and so
//!   does a visitor's.
//! - **It costs a commit**: the record is written in the handler's transaction. For a handler that stores nothing otherwise, an event with
//!   a key waits for the disk.
//!
//! # A plugin of several blocks
//!
//! Each module of a plugin holds its own handlers: `#[plugin(part)]` on a block, and the module in `#[parts(..)]`. A part takes
//! `namespace` or `namespaces`, for its handlers that name none, and the attributes `#[rooms]`, `#[emits]` and `#[tenant_keys]`. A
//! module holds one part. An event belongs to one handler; connects, disconnects and messages go to every part that handles them, in
//! the order of `#[parts(..)]`, in one transaction.
//!
//! ```
//! use hubbub_sdk::{Result, plugin};
//!
//! #[derive(Default)]
//! struct Desk;
//!
//! #[plugin(name = "desk", version = "1.0.0")]
//! #[door("/hub", token = "required")]
//! #[namespace("/portal")]
//! #[parts(threads)]
//! impl Desk {}
//!
//! mod threads {
//!     use super::*;
//!     use hubbub_sdk::{emitter::Emits, rooms::Room};
//!
//!     const BOTH: &[&str] = &["/hub", "/portal"];
//!     const THREAD: Room = Room::in_each(BOTH, "thread:{threadId}");
//!     const ENDED: Emits<str> = Emits::in_each(BOTH, "thread:ended");
//!
//!     #[plugin(part, namespaces = ["/hub", "/portal"])]
//!     #[rooms(THREAD)]
//!     #[emits(ENDED)]
//!     impl Desk {
//!         #[on("thread:join")]
//!         fn join(thread: String) -> Result<()> {
//!             THREAD.of(&thread).join()
//!         }
//!
//!         #[on_message("thread.ended")]
//!         fn ended(thread: String) -> Result<()> {
//!             ENDED.to_room(&THREAD.of(&thread), &thread)
//!         }
//!     }
//! }
//! # use hubbub_sdk::harness::{Harness, user};
//! # fn main() {
//! # let app = Harness::<Desk>::new();
//! # let ana = app.connect("/portal", user("ana"));
//! # ana.emit("thread:join", "t1".into()).expect_ok();
//! # app.publish("thread.ended", "t1".into());
//! # ana.expect("thread:ended", "t1".into());
//! # }
//! ```
//!
//! # Mistakes
//!
//! Mistakes are errors at their own place:
//!
//! ```compile_fail
//! # use hubbub_sdk::{Result, plugin};
//! # #[derive(Default)] struct Ping;
//! #[plugin(name = "ping", version = "1.0.0")]
//! #[door("/", token = "required")]
//! impl Ping {
//!     #[on("ping", namespace = "/pings")] // the plugin takes part in no namespace "/pings": add `#[door("/pings", …)]` …
//!     fn ping() -> Result<()> { Ok(()) }
//! }
//! ```
//!
//! ```compile_fail
//! # use hubbub_sdk::{Result, plugin};
//! # #[derive(Default)] struct Ping { count: u64 }
//! #[plugin(name = "ping", version = "1.0.0")]
//! #[door("/", token = "required")]
//! impl Ping {
//!     #[on("ping")]
//!     fn ping(&mut self) -> Result<()> { Ok(()) } // expected `&self`: a plugin keeps no state, it may be replaced at any time
//! }
//! ```
//!
//! ```compile_fail
//! # use hubbub_sdk::{Result, plugin};
//! # #[derive(Default)] struct Ping;
//! struct Opaque;
//!
//! #[plugin(name = "ping", version = "1.0.0")]
//! #[door("/", token = "required")]
//! impl Ping {
//!     #[on("ping")]
//!     fn ping(payload: Opaque) -> Result<()> { Ok(()) } // the trait `Deserialize` is not implemented for `Opaque`
//! }
//! ```
//!
//! # In a component
//!
//! The crate is a `cdylib` (and an `rlib`, for its tests), built for `wasm32-unknown-unknown`. There the standard library has no
//! system below it:
//!
//! | instead of | use |
//! |---|---|
//! | `SystemTime::now`, `Instant::now`, `chrono::Utc::now`: they panic, and fail the test | [`clock`] |
//! | `rand`, `getrandom`, `uuid` with `v4`: they do not build | [`random`], and `uuid::Builder::from_random_bytes(random::bytes())` |
//! | `println!`, `eprintln!`: they print nothing | [`log`] |
//! | `std`'s maps, which hash with fixed seeds | [`collections`] |
//! | `thread::sleep`, `thread::spawn`, files, the environment: they fail or panic | [`timers`], [`store`], [`config`] |
//!
//! A component imports only the capabilities that it calls, and the operator grants what it imports.
#![deny(missing_docs)]

// The attribute generates `::hubbub_sdk::…`, also in this crate's own tests.
extern crate self as hubbub_sdk;

pub mod budget;
pub mod bus;
pub mod clock;
pub mod collections;
pub mod config;
pub mod emitter;
pub mod history;
pub mod log;
pub mod metrics;
pub mod payload;
pub mod presence;
pub mod random;
pub mod rooms;
pub mod store;
pub mod timers;

mod caller;
mod host;
mod json;
mod namespaces;
mod plugin;
mod refusal;

#[cfg(not(target_arch = "wasm32"))]
pub mod harness;

#[doc(hidden)]
pub mod bindings;
#[doc(hidden)]
pub mod glue;

pub use bindings::exports::hubbub::plugin::handler::{DisconnectReason, Event};
pub use bus::Message;
pub use caller::{Caller, User};
pub use hubbub_sdk_macros::plugin;
pub use json::Json;
pub use plugin::Plugin;
pub(crate) use refusal::EffectError;
pub use refusal::{Refusal, RefusalCode, Result};
pub use timers::Timer;

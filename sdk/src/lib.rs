//! Write Hubbub plugins in Rust.
//!
//! A plugin handles some of the events of a realtime server: the host holds the sockets, checks tokens, stores and delivers; the
//! plugin decides. It is one `impl` block with an attribute, and it is tested by plain `cargo test`.
//!
//! # A plugin in twenty lines
//!
//! ```
//! use hubbub_sdk::{Caller, Result, emitter::Emits, payload::Id, plugin, rooms, store};
//! use schemars::JsonSchema;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize, JsonSchema)]
//! struct Vote { poll: Id, choice: Id }
//!
//! #[derive(Serialize, JsonSchema)]
//! struct Counted { poll: Id, choice: Id, votes: i64 }
//!
//! const COUNTED: Emits<Counted> = Emits::new("/polls", "poll:counted");
//!
//! #[derive(Default)]
//! struct Polls;
//!
//! #[plugin(name = "polls", version = "1.0.0")]
//! #[door("/polls", token = "required", missing = "Please sign in")]
//! #[room("/polls", "poll:{id}")]
//! #[emits(COUNTED)]
//! impl Polls {
//!     #[on("poll:vote", reply)]
//!     fn vote(caller: &Caller, Vote { poll, choice }: Vote) -> Result<Counted> {
//!         let room = format!("poll:{poll}");
//!         rooms::join(&room)?;
//!         store::put(&store::key(["by", &poll, &caller.user()?.id]), &choice)?;
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
//! # What holds for every handler
//!
//! - **It is a transaction.** Writes, joins, emits, messages and timers happen after it has returned `Ok`, all of them, writes
//!   first, or none. What it asks sees what it has done so far.
//! - **It keeps no state.** Many instances serve the events, and any is replaced at any time. What must last goes to [`store`],
//!   what must be shared to [`rooms`], [`presence`] or the [`bus`]. The [`harness`] finds state that hides.
//! - **It may run again.** If another call changed what it read, its effects are dropped and it runs anew, with the same
//!   clock, random bytes and budget answers. It must depend on nothing but its arguments and its imports.
//! - **It says no with a [`Refusal`]**, a code and one sentence for the client. Errors of imports become one by `?`: storage
//!   that is away is `unavailable`, a mistake of the plugin's is `internal`, with its detail in the log alone.
//! - **It cannot hurt others.** 20 ms of CPU, 5 s in all, 32 MiB, 256 effects, 1 MiB of effects, 10 000 imports; a call over a
//!   limit is ended as a trap, and so is a panic, whose message and place are logged before.
//!
//! # The attribute
//!
//! Above the block, `#[plugin(..)]` first:
//!
//! | attribute | what it says |
//! |---|---|
//! | `#[plugin(name = "..", ..)]` | also `version` (the crate's own), `data_version` (1), `reads_data_versions` (`[]`), `tenancy` (`"none"`, `"required"` or `"optional"`) |
//! | `#[door("/ns", token = "required", ..)]` | the plugin owns the namespace. `token = "optional"` lets visitors in. Also `claims = [..]`, `roles = [..]`, and the sentences `missing`, `invalid`, `forbidden` |
//! | `#[namespace("/ns")]` | the plugin takes part in a namespace that another owns |
//! | `#[tenant_keys("inbox/")]` | stored keys that begin so name no tenant, and those of a tenant are [`store::tenant_key`]s; another form is given by `with = "inbox/of/{tenant}/"`. The host moves them to the operator's default tenant |
//! | `#[takes("chat", prefix = "threads/")]` | stored data of another plugin that this one goes on with: the host moves it once, before this one is first live |
//! | `#[room("/ns", "poll:{id}")]` | rooms that this plugin alone joins sockets to: a literal start and one parameter, or a literal alone |
//! | `#[emits(A, b::B)]` | the constants of type [`emitter::Emits`] that it sends |
//!
//! On methods, which take `&self` (the configuration) or nothing, then what they need, in any order:
//!
//! | attribute | the method may take | and returns |
//! |---|---|---|
//! | `init` by its name | the configuration, `deny_unknown_fields` | `Result<Self, String>` or `Self`; without it, the plugin is `Default` and takes no configuration |
//! | `#[on("event", ..)]` | `&`[`Caller`], `&`[`Event`], and the event's arguments by position: one payload, several, or none | `Result<()>`, acknowledged with `{}`, or `Result<T>` with the acknowledgement |
//! | `#[on_connect("/ns")]` | `&Caller` | `Result<()>` |
//! | `#[on_disconnect("/ns")]` | `&Caller`, [`DisconnectReason`] | nothing or `Result<()>` |
//! | `#[authorize("/ns")]` | `&Caller`, the client's `auth` without its token | `Result<()>`; effects are dropped |
//! | `#[on_message("topic")]` | `&`[`Message`], its data | `Result<()>`; a failure is tried again, see below |
//! | `#[on_timer("key")]`, `#[on_timer("key:{param}")]` | `&`[`Timer`], its payload | `Result<()>`; a failure is tried again |
//! | `#[schedule("key", every_ms = 1000, scope = "once")]` | `&Timer` | the same; the other scope is `"each_node"` |
//!
//! `#[on]` also takes `namespace = "/ns"` (where there is more than one), `reply` (the acknowledgement is also emitted to the
//! sender, under the event's name, or under another by `reply = "name"`), `invalid = ".."` (the sentence for a payload that does
//! not fit, instead of one that names the field), and `on_failure = ".."` (the sentence for a trap, or storage that is away).
//!
//! A message is a dead letter at once if its data does not fit the handler's type, or if the handler refuses it as [`Refusal::invalid`]:
//! an operator sees which field is wrong (`invalid data: pollId: missing`), and nothing is held against the release. After any other
//! refusal, or a trap, it is tried again; after five times (`bus.max_failures`) it is a dead letter too, and the next one is handled.
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
//! system to ask:
//!
//! | not | but |
//! |---|---|
//! | `SystemTime::now`, `Instant::now`, `chrono::Utc::now`: they panic, and fail the test | [`clock`] |
//! | `rand`, `getrandom`, `uuid` with `v4`: they do not build | [`random`], and `uuid::Builder::from_random_bytes(random::bytes())` |
//! | `println!`, `eprintln!`: they go nowhere | [`log`] |
//! | `std`'s maps, which hash with fixed seeds | [`collections`] |
//! | `thread::sleep`, `thread::spawn`, files, the environment: they fail or panic | [`timers`], [`store`], [`config`] |
//!
//! A component imports only the capabilities that it calls, and the operator grants what it imports.
#![deny(missing_docs)]

// The attribute writes `::hubbub_sdk::…`, in this crate's own tests too.
extern crate self as hubbub_sdk;

pub mod budget;
pub mod bus;
pub mod clock;
pub mod collections;
pub mod config;
pub mod emitter;
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
pub use refusal::{EffectError, Refusal, RefusalCode, Result};
pub use timers::Timer;

//! The trait behind `#[plugin]`, which implements it. It is not implemented by hand.

use crate::Refusal;
use crate::bindings::exports::hubbub::plugin::handler;
use crate::bindings::hubbub::plugin::types;

/// A plugin, as `#[plugin]` implements it. The calls and their contracts are those of `wit/plugin.wit`.
pub trait Plugin: Sized + 'static {
    /// The plugin's description.
    fn describe() -> handler::Description;

    /// Makes the plugin from its configuration, one JSON object. The error is for the operator.
    fn init(config: &str) -> Result<Self, String>;

    /// The last check of a door policy with `#[authorize]`.
    fn authorize(&self, caller: types::Caller, auth: String) -> Result<(), Refusal>;

    /// A socket is connecting.
    fn on_connect(&self, caller: types::Caller) -> Result<(), Refusal>;

    /// An event. The result is the acknowledgement.
    fn on_event(&self, caller: types::Caller, event: handler::Event) -> Result<Option<String>, Refusal>;

    /// A socket has disconnected.
    fn on_disconnect(&self, caller: types::Caller, reason: handler::DisconnectReason);

    /// A message from the bus or from the host.
    fn on_message(&self, message: handler::Message) -> Result<(), Refusal>;

    /// A timer or schedule is due.
    fn on_timer(&self, timer: handler::DueTimer) -> Result<(), Refusal>;
}

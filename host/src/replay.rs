//! Recording of calls, and replay of recorded calls: for `hubbub record`, `hubbub replay` and shadow releases. Never changes live
//! state.

pub mod compare;
pub mod recording;
pub mod redact;
pub mod replayer;
pub mod shadow;

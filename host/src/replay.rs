//! Recording of calls, and running recorded calls again: for `hubbub record`, `hubbub replay` and shadow releases. It never
//! touches live state.

pub mod compare;
pub mod recording;
pub mod redact;
pub mod replayer;
pub mod shadow;

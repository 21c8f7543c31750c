//! Moves, interrupted anywhere, lose nothing and move nothing else.

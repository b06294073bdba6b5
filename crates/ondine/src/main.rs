//! The `ondine` command.
fn main() {}

//! Developer tasks: `cargo xtask tidy`.
fn main() {}

//! What is told while pictures are drawn.

use std::time::Duration;

use ondine_graph::NDArray;

/// What happens during [`Drawing::draw`](super::Drawing::draw).
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A stage begins.
    Stage(&'a str),
    /// A denoising step is done.
    Step {
        /// How many are done.
        done: usize,
        /// How many there are.
        total: usize,
        /// How long it took.
        time: Duration,
        /// What the pictures are now, `[count, channels, height, width]`: noisy still, and scaled for diffusion.
        latents: &'a NDArray,
    },
    /// Something the person should know.
    Warning(&'a str),
}

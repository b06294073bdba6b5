//! What is told while pictures are drawn.

use std::time::Duration;

use ondine_graph::NDArray;

use crate::codec::Picture;

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
    /// What the first picture may become, after each step, if [`Request::previews`](crate::request::Request::previews)
    /// asks for it: colours without detail.
    Preview(&'a Picture),
    /// Something the person should know.
    Warning(&'a str),
}

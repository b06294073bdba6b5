//! Pictures that a request brings along.

use ondine_graph::NDArray;

/// A picture to begin with.
#[derive(Clone, Debug)]
pub struct Init {
    /// `[n, 3, height, width]`, red, green and blue in 0..1, of the size to draw; one for all pictures, or one for
    /// each.
    pub image: NDArray,
    /// `[1, 1, height, width]` in 0..1: how much of each pixel is drawn anew. Where it is 0 the pixel stays, to the
    /// bit.
    pub mask: Option<NDArray>,
}

/// What a picture shows, as a prompt beside the text (IP-Adapter, Ye et al. 2023).
#[derive(Clone, Debug)]
pub struct ImagePrompt {
    /// The picture as [`TextToImage::image_prompt`](crate::pipeline::TextToImage::image_prompt) makes it for the
    /// adapter.
    pub image: NDArray,
    /// How much it counts beside the text: 1 is as the adapter was trained, 0 not at all.
    pub scale: f32,
    /// What the picture is called in the text of those that are drawn, such as the name of its file; nothing if empty.
    pub name: String,
}

/// A picture that steers a drawing (`ControlNet`, Zhang et al. 2023).
#[derive(Clone, Debug)]
pub struct Control {
    /// The network that it is for, by the number that
    /// [`TextToImage::add_control`](crate::pipeline::TextToImage::add_control) gave.
    pub network: usize,
    /// `[1, 3, height, width]`, red, green and blue in 0..1, of the size to draw.
    pub image: NDArray,
    /// How strongly it steers: 1 is as the network was trained.
    pub scale: f32,
    /// The share of the steps that are left to the prompt before.
    pub start: f64,
    /// The share of the steps after which it has no say any more.
    pub end: f64,
}

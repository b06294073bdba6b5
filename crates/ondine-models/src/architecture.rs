//! What an architecture is: how its graphs are built, what its checkpoints hold, and the facts that pipelines ask for.

use ondine_graph::{Graph, Result, Weights, fail, recipe::Recipes};

use crate::weights::Rename;

/// The functions of a network by name.
pub type Functions = Vec<(&'static str, Graph)>;

/// What has to be known of a class to load its checkpoints; each is declared beside its builders.
#[derive(Clone, Copy, Debug)]
pub struct Architecture {
    /// The name of the class in diffusers or transformers.
    pub class: &'static str,
    /// What it does in a pipeline.
    pub role: Role,
    /// Builds all functions from the text of a `config.json`.
    pub functions: fn(&str, GraphSizes) -> Result<Functions>,
    /// Names that old or new versions of its checkpoints use.
    pub renames: &'static [Rename],
    /// Parts of the names of tensors that its checkpoints may hold and the functions do not need.
    pub ignored: &'static [&'static str],
}

/// What a network does in a pipeline, and how the facts that go with it are read off its config.
#[derive(Clone, Copy, Debug)]
pub enum Role {
    /// Turns tokens into states that guide a denoiser.
    TextEncoder(fn(&str) -> Result<TextFacts>),
    /// Predicts the noise in latents.
    Denoiser(fn(&str) -> Result<DenoiserFacts>),
    /// Turns pictures into latents and back.
    Autoencoder(fn(&str) -> Result<LatentSpace>),
    /// Steers a denoiser by a picture.
    Control(fn(&str) -> Result<ControlFacts>),
    /// Turns a picture into vectors that say what it shows.
    PictureEncoder(fn(&str) -> Result<PictureFacts>),
    /// Makes tokens of such vectors, which a denoiser attends to as it does to those of a text.
    PictureTokens(fn(&str) -> Result<TokenFacts>),
    /// Makes pictures larger.
    Upscaler(fn(&str) -> Result<UpscalerFacts>),
    /// Says which token may come next. Some of its weights may be in another form in checkpoints than its functions ask
    /// for: the second function says how they are computed.
    Language(fn(&str) -> Result<TextFacts>, fn(&str, &mut Weights) -> Result<Recipes>),
}

/// What is known of the sizes of the inputs when a graph is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GraphSizes {
    /// What divides height and width of feature maps that come in: networks that halve maps and double them again
    /// need no detour then.
    pub multiple: usize,
    /// True if some text tokens are padding that must not be seen.
    pub mask: bool,
    /// Numbers about the picture's size, for networks that take them: 6, or 5 for the refiner of `SDXL`.
    pub time_ids: usize,
    /// Layers at the end of a text encoder whose states are not the text ("clip skip", counted from 0).
    pub skip: usize,
    /// True if a denoiser takes what networks make that steer it.
    pub control: bool,
    /// Pictures that a denoiser looks at beside the one that it draws.
    pub references: usize,
    /// Pictures whose tokens a denoiser attends to beside the text.
    pub image_prompts: usize,
    /// True if a denoiser shall yield its deep maps, and have a function that takes them.
    pub deep: bool,
    /// The states of a language model that are a text, if it is to read one.
    pub states: Option<HiddenStates>,
}

impl Default for GraphSizes {
    fn default() -> Self {
        Self {
            multiple: 1,
            mask: false,
            time_ids: 6,
            skip: 0,
            control: false,
            references: 0,
            image_prompts: 0,
            deep: false,
            states: None,
        }
    }
}

/// The facts of a network that reads tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextFacts {
    /// The longest sequence that it can read.
    pub max_tokens: usize,
}

/// Which hidden states of a language model are a text, side by side in width, counted as in transformers: `k` is what
/// enters layer `k`, and one more than the last what the final norm yields; negative numbers count from the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HiddenStates([Option<i32>; Self::MOST]);

impl HiddenStates {
    /// The most that are taken together.
    pub const MOST: usize = 8;

    /// Those of this one number.
    #[must_use]
    pub const fn one(index: i32) -> Self {
        let mut all = [None; Self::MOST];
        all[0] = Some(index);
        Self(all)
    }

    /// Those of three numbers.
    #[must_use]
    pub const fn three([a, b, c]: [i32; 3]) -> Self {
        let mut all = Self::one(a).0;
        (all[1], all[2]) = (Some(b), Some(c));
        Self(all)
    }

    /// Those of these numbers.
    ///
    /// # Errors
    /// If there are none, or more than [`HiddenStates::MOST`].
    pub fn of(indices: &[i32]) -> Result<Self> {
        if indices.is_empty() || indices.len() > Self::MOST {
            let (count, most) = (indices.len(), Self::MOST);
            fail!(Argument, "{count} layers are named whose states are the text; name 1 to {most}");
        }
        let mut all = [None; Self::MOST];
        all.iter_mut().zip(indices).for_each(|(place, index)| *place = Some(*index));
        Ok(Self(all))
    }

    /// The numbers, from 0 to `layers`, of a model with so many layers.
    ///
    /// # Errors
    /// If it has fewer.
    pub fn indices(&self, layers: usize) -> Result<Vec<usize>> {
        let all = i64::try_from(layers).unwrap_or(i64::MAX).saturating_add(1);
        let index = |index: i32| {
            let index = i64::from(index);
            let counted = if index < 0 { all + index } else { index };
            match usize::try_from(counted) {
                Ok(found) if counted < all => Ok(found),
                _ => fail!(
                    Argument,
                    "the text is to be the states at layer {index} of a text encoder with {layers} layers; it has those at \
                     0 to {layers}"
                ),
            }
        };
        self.0.iter().flatten().map(|given| index(*given)).collect()
    }
}

/// The facts of a network that turns a picture into vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureFacts {
    /// Side of the picture in pixels.
    pub side: usize,
    /// Channels of the picture.
    pub channels: usize,
    /// Width of its one vector for the whole picture.
    pub embedding: usize,
    /// Width of its states.
    pub states: usize,
}

/// The facts of a network that makes tokens of a picture's vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenFacts {
    /// Width of what it reads.
    pub reads: usize,
    /// True if that are the states of all squares of the picture, false for its one vector.
    pub states: bool,
    /// Number of tokens.
    pub tokens: usize,
    /// Their width.
    pub width: usize,
}

/// The facts of a network that makes pictures larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpscalerFacts {
    /// How many times as wide and high the result is.
    pub scale: usize,
    /// Channels of pictures.
    pub channels: usize,
}

/// The facts of a network that steers a denoiser by a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlFacts {
    /// Channels of the latents that it takes.
    pub channels: usize,
    /// Channels of the picture.
    pub colors: usize,
    /// Pixels that a latent stands for, along each side.
    pub factor: usize,
    /// True if the picture is blue, green and red.
    pub reversed: bool,
}

/// The facts of a denoiser.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DenoiserFacts {
    /// Channels of the latents that it takes.
    pub channels: usize,
    /// Channels of what it predicts.
    pub predicted: usize,
    /// Number of classes, if it takes the number of one.
    pub classes: Option<usize>,
    /// True if it takes one vector for the whole text, and the sizes of the picture (Podell et al. 2023).
    pub text_and_sizes: bool,
    /// Height and width of the latents that it was trained on.
    pub native: [usize; 2],
    /// What divides the sides of latents that it halves without a remainder.
    pub divisor: usize,
    /// What the sides of latents must be multiples of: those of the squares that are a token.
    pub patch: usize,
    /// The largest side of latents that there are positions for.
    pub most: Option<usize>,
    /// How guidance enters.
    pub guidance: GuidanceInput,
    /// How the text comes.
    pub text: TextLayout,
    /// What goes with rectified flow, if that is what it was trained on.
    pub flow: Option<FlowFacts>,
    /// The pictures that it can look at beside the one that it draws.
    pub references: References,
}

/// The pictures that a denoiser can look at beside the one that it draws, as further tokens of its sequence: inputs
/// [`REFERENCES`](crate::blocks::REFERENCES), latents like those of the picture, of sizes of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// How many.
    pub most: usize,
    /// Width and height in pixels that it was trained on, if these are all; that of the closest shape is meant for a
    /// picture.
    pub sizes: &'static [[usize; 2]],
}

/// How a denoiser is guided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuidanceInput {
    /// By one pass for what is asked for and one for what is not (Ho and Salimans 2022).
    Passes,
    /// It was distilled with guidance and takes the scale as waves, so many (Luo et al. 2023).
    Waves(usize),
    /// It was distilled with guidance and takes the scale as a number.
    Number,
}

/// How a denoiser takes what text encoders make of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextLayout {
    /// The states of all encoders, side by side in width.
    SideBySide,
    /// The states of two encoders of CLIP before their last layer, side by side and filled with zeros to the width of
    /// the denoiser's text, and after them those of a third one that reads so many tokens; vectors of the whole text
    /// of the first two, one after the other. Each encoder may be missing: zeros stand for it (Esser et al. 2024).
    Joined {
        /// Tokens of the third encoder.
        tokens: usize,
    },
    /// The vector of the whole text of the first encoder, the states of the last.
    Last {
        /// Tokens of the last encoder.
        tokens: usize,
    },
    /// States of a language model that reads the text as what somebody said.
    Chat {
        /// Which states.
        states: HiddenStates,
        /// The most tokens that it reads, with what stands around the text.
        tokens: usize,
        /// True if it always reads so many: its padding, which sees the text, is part of it.
        padded: bool,
        /// What is written before the text and after it.
        around: [&'static str; 2],
    },
    /// States of a language model that reads the text behind an instruction: the first, and those from the last token
    /// of the instruction on. What is not wanted it reads without.
    Instructed {
        /// Which states.
        states: HiddenStates,
        /// The most of them.
        tokens: usize,
        /// What is written before the text.
        instruction: &'static str,
    },
}

/// The facts of a denoiser on rectified flow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FlowFacts {
    /// What timesteps, which end at 1000, are divided by before the network takes them.
    pub time_divisor: f32,
    /// True if it takes what is left to 1 of a timestep, and predicts the way from noise to picture.
    pub to_picture: bool,
    /// True if levels go evenly from 1 to one step before they are shifted, and not to the end of the table.
    pub even_levels: bool,
    /// Steps of a drawing if nobody says how many.
    pub steps: usize,
    /// Scale of guidance if nobody says another; of networks that were distilled to need none, [`Self::unguided`].
    pub guidance: f32,
    /// The scale that does not guide, as the network's pipelines count: 1 by Ho and Salimans 2022, or 0 where the scale
    /// is how far it leads away from what the prompt alone predicts.
    pub unguided: f32,
    /// Steps and guidance of a network that was distilled to draw in a few, where only pipelines say whether it was.
    pub distilled: Option<(usize, f32)>,
    /// Steps and guidance of the network that it may also be, before it was distilled, where no file says which it is.
    pub undistilled: Option<(usize, f32)>,
    /// What moves levels by the size of the picture.
    pub shift: LevelShift,
}

/// What moves the noise levels of a drawing by its size, where the scheduler lets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LevelShift {
    /// A line through the lengths and shifts that the scheduler's config names.
    Line,
    /// What was found by trying for `FLUX.2`, by size and number of steps.
    Empirical,
}

/// The latents of an autoencoder.
#[derive(Clone, Debug, PartialEq)]
pub struct LatentSpace {
    /// Pixels that a latent stands for, along each side.
    pub factor: usize,
    /// Channels.
    pub channels: usize,
    /// Channels of the pictures that are decoded.
    pub colors: usize,
    /// Diffusion works on `(latents - shift) * scaling`; one for each channel.
    pub scaling: Vec<f32>,
    /// See `scaling`.
    pub shift: Vec<f32>,
}

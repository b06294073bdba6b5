//! Pictures that are prompts beside the text (IP-Adapter, Ye et al. 2023): what CLIP says of them, as tokens that the
//! denoiser attends to.

use ondine_graph::{Bindings, NDArray, Result, fail};
use ondine_models::{Network, ip_adapter::IpAdapter, lora::Applied};
use ondine_runtime::State;

use super::{
    memory::{Resident, StagePlan},
    model::TextToImage,
    part::{PromptParts, Terms},
    prompter::Prompter,
};
use crate::{codec::Picture, request::ImagePrompt};

/// Mean and standard deviation of red, green and blue in the pictures that CLIP was trained on.
const CLIP_MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const CLIP_DEVIATION: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

impl TextToImage {
    /// Adds an adapter by which drawings take a picture as a prompt, with the encoder of pictures that it was trained
    /// with; requests give a picture for each in their order.
    ///
    /// # Errors
    /// If the adapter was made for another denoiser or another encoder of pictures.
    pub fn add_ip_adapter(&mut self, adapter: IpAdapter, encoder: Network) -> Result<Applied> {
        let (facts, picture) = (adapter.projection.tokens()?, encoder.picture()?);
        let yields = if facts.states { picture.states } else { picture.embedding };
        if yields != facts.reads {
            fail!(
                Unsupported,
                "{}: it reads vectors of width {} of a picture, and {} yields {yields}: give the image encoder that it was \
                 trained with",
                adapter.name,
                facts.reads,
                encoder.name
            );
        }
        if picture.channels != 3 {
            fail!(Unsupported, "{}: it reads pictures of {} channels, not 3", encoder.name, picture.channels);
        }
        let applied = adapter.apply(&mut self.denoiser, self.prompters.len())?;
        self.kept.only(&[], false);
        let IpAdapter { name, projection, .. } = adapter;
        self.prompters.push(Prompter { name, encoder, projection, facts });
        Ok(applied)
    }

    /// A picture as the encoder of IP-Adapter `number` reads it: the square in its middle, scaled, and normalized as
    /// CLIP's pictures are.
    ///
    /// # Errors
    /// If there is no such adapter, or the picture has no pixels.
    pub fn image_prompt(&self, number: usize, picture: &Picture) -> Result<NDArray> {
        let Some(prompter) = self.prompters.get(number) else {
            fail!(Argument, "there is no IP-Adapter {number}; there are {}", self.prompters.len());
        };
        let side = prompter.encoder.picture()?.side;
        let square = picture.square(u32::try_from(side).unwrap_or(u32::MAX))?;
        let mut planes = square.planes();
        let colours = CLIP_MEAN.iter().zip(CLIP_DEVIATION);
        for (plane, (mean, deviation)) in planes.chunks_exact_mut(side * side).zip(colours) {
            plane.iter_mut().for_each(|x| *x = (*x - mean) / deviation);
        }
        NDArray::new(&[1, 3, side, side], &planes)
    }

    /// How many pictures are prompts; refuses those that are none.
    pub(super) fn check_image_prompts(&self, prompts: &[ImagePrompt]) -> Result<usize> {
        let adapters = self.prompters.len();
        if prompts.len() > adapters {
            fail!(Argument, "{} pictures are prompts, and the model has {adapters} IP-Adapters", prompts.len());
        }
        for (prompter, ImagePrompt { image, scale, .. }) in self.prompters.iter().zip(prompts) {
            let side = prompter.encoder.picture()?.side;
            if image.shape() != [1, 3, side, side] {
                fail!(
                    Shape,
                    "{}: the picture has shape {:?}, not [1, 3, {side}, {side}]",
                    prompter.name,
                    image.shape()
                );
            }
            if !scale.is_finite() {
                fail!(Argument, "{}: the picture counts {scale}; give a number", prompter.name);
            }
        }
        Ok(prompts.len())
    }
}

impl PromptParts {
    /// What the encoder's result is called.
    fn read(&self) -> &'static str {
        if self.facts.states { "penultimate" } else { "image_embeds" }
    }

    /// The sizes of calls of both networks.
    fn sizes(&self) -> Result<[Bindings; 2]> {
        let graph = self.encoder.prepared.graph(self.encoder.name())?;
        let states = graph.outputs().first().and_then(|(_, value)| graph.shape(*value).0.get(1)?.fixed());
        let batch = ("batch".into(), 1);
        Ok([Bindings::from([batch.clone()]), Bindings::from([batch, ("states".into(), states.unwrap_or(1))])])
    }

    /// Memory of looking at a picture.
    pub(super) fn plan(&self) -> Result<StagePlan> {
        let [of_encoder, of_projection] = self.sizes()?;
        let plan = self.encoder.prepared.plan(self.encoder.name(), &of_encoder)?;
        let mut stage = StagePlan::new("picture encoder", &self.encoder, &plan, Resident::All)?;
        let plan = self.projection.prepared.plan(self.projection.name(), &of_projection)?;
        let projection = StagePlan::new("picture encoder", &self.projection, &plan, Resident::All)?;
        stage.weights += projection.weights;
        stage.workspace += projection.workspace;
        Ok(stage)
    }

    /// Floating-point operations of looking at a picture, and at none if that is wanted too.
    pub(super) fn flops(&self, guided: bool) -> Result<u64> {
        let [of_encoder, of_projection] = self.sizes()?;
        let times = if guided { 2 } else { 1 };
        let looks = if self.facts.states { times } else { 1 };
        let encoder = self.encoder.prepared.flops(self.encoder.name(), &of_encoder)?;
        Ok(looks * encoder + times * self.projection.prepared.flops(self.projection.name(), &of_projection)?)
    }
}

/// What a picture shows, as tokens `[1, tokens, width]`.
pub(super) struct Shown {
    wanted: NDArray,
    /// Those of nothing, which the negative prompt goes with; as wanted if nothing is guided.
    unwanted: NDArray,
    scale: f32,
}

impl Shown {
    /// The tokens for each row of a batch, of which some are negative, and how much they count.
    pub(super) fn inputs(&self, negative: impl Iterator<Item = bool>) -> Result<[NDArray; 2]> {
        let (mut values, mut rows) = (Vec::new(), 0);
        for negative in negative {
            values.extend_from_slice(if negative { &self.unwanted } else { &self.wanted }.view::<f32>()?);
            rows += 1;
        }
        let shape: Vec<usize> = std::iter::once(rows).chain(self.wanted.shape().iter().copied().skip(1)).collect();
        Ok([NDArray::new(&shape, &values)?, NDArray::new(&[1], &[self.scale])?])
    }
}

/// Looks at the pictures that are prompts, one after the other. Nothing is a vector of zeros where an adapter reads one
/// vector, and a picture of zeros where it reads states, as the pipelines of diffusers have it.
pub(super) fn show(
    prompters: &[PromptParts],
    prompts: &[ImagePrompt],
    guided: bool,
    terms: &Terms<'_>,
) -> Result<Vec<Shown>> {
    let mut shown = Vec::new();
    for (parts, ImagePrompt { image, scale, .. }) in prompters.iter().zip(prompts) {
        let (encoder, mut state) = (parts.encoder.function(terms)?, State::default());
        let mut look =
            |image: &NDArray| encoder.run_until(&[("pixel_values", image)], &mut state, terms.wish)?.take(parts.read());
        let wanted = look(image)?;
        let unwanted = match (guided, parts.facts.states) {
            (false, _) => None,
            (true, true) => Some(look(&NDArray::zeros(image.dtype(), image.shape())?)?),
            (true, false) => Some(NDArray::zeros(wanted.dtype(), wanted.shape())?),
        };
        let (projection, mut state) = (parts.projection.function(terms)?, State::default());
        let mut tokens =
            |read: &NDArray| projection.run_until(&[(parts.read(), read)], &mut state, terms.wish)?.take("tokens");
        let wanted = tokens(&wanted)?;
        let unwanted = unwanted.map_or_else(|| Ok(wanted.clone()), |read| tokens(&read))?;
        shown.push(Shown { wanted, unwanted, scale: *scale });
    }
    Ok(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_the_tokens_of_their_pass() {
        let tokens = |x: f32| NDArray::new(&[1, 2, 1], &[x, x + 0.5]).unwrap();
        let shown = Shown { wanted: tokens(1.0), unwanted: tokens(-1.0), scale: 0.6 };
        let [rows, scale] = shown.inputs([true, false, false].into_iter()).unwrap();
        assert_eq!(rows.shape(), [3, 2, 1]);
        assert_eq!(rows.view::<f32>().unwrap(), [-1.0, -0.5, 1.0, 1.5, 1.0, 1.5]);
        assert_eq!(scale.view::<f32>().unwrap(), [0.6]);
    }
}

//! Whether the networks of a pipeline fit each other: seen when it is opened.

use ondine_graph::{DType, Graph, Result, fail};
use ondine_models::{DenoiserFacts, GraphSizes, LatentSpace, Network, Pipeline, TextLayout};

use super::{
    beside::Beside,
    text::{self, Encoder, Wants},
};

/// Components that drawing from text needs, or can do without as diffusers does.
const COMPONENTS: &[&str] = &[
    "unet",
    "transformer",
    "vae",
    "scheduler",
    "text_encoder",
    "text_encoder_2",
    "text_encoder_3",
    "tokenizer",
    "tokenizer_2",
    "tokenizer_3",
    // Looks at finished pictures, or at pictures that are given beside the text.
    "safety_checker",
    "feature_extractor",
    "image_encoder",
];

/// Refuses folders with parts that take part in the drawing, but not here.
pub(super) fn parts(pipeline: &Pipeline) -> Result<()> {
    let place = || pipeline.source.describe("model_index.json");
    match pipeline.components.iter().find(|component| !COMPONENTS.contains(&&*component.name)) {
        Some(other) => fail!(
            Unsupported,
            "{}: the component `{}` ({}) is not supported; supported: {}",
            place(),
            other.name,
            other.class,
            COMPONENTS.join(", ")
        ),
        None => Ok(()),
    }
}

/// Refuses networks that do not fit each other, or want more than a text, by what they are.
pub(super) fn networks(
    encoders: &[Encoder],
    denoiser: &Network,
    facts: &DenoiserFacts,
    latents: &LatentSpace,
    time_ids: usize,
) -> Result<Beside> {
    let (takes, predicts, channels) = (facts.channels, facts.predicted, latents.channels);
    let Some(beside) = Beside::of(takes, channels, latents.factor) else {
        fail!(
            Unsupported,
            "the denoiser takes {takes} channels, the latents of the autoencoder (vae) have {channels}: a model for depth or \
             upscaling is not supported yet"
        );
    };
    if predicts != channels {
        let what = if predicts == 2 * channels {
            ": it predicts variances besides the noise, which no sampler takes"
        } else {
            ""
        };
        fail!(Unsupported, "the denoiser predicts {predicts} channels for latents of {channels}{what}");
    }
    if latents.colors != 3 {
        let colors = latents.colors;
        fail!(
            Unsupported,
            "the autoencoder (vae) makes pictures of {colors} channels; only 3, red, green and blue, are supported"
        );
    }
    if let Some(classes) = facts.classes {
        fail!(
            Unsupported,
            "the denoiser takes the number of one of {classes} classes (`num_class_embeds`), which no text says"
        );
    }
    let sizes = GraphSizes { time_ids, states: text::states(facts.text), ..GraphSizes::default() };
    let of = |encoder: &Encoder| Ok((encoder.place, graph(&encoder.network, sizes)?));
    let texts = encoders.iter().map(of).collect::<Result<Vec<_>>>()?;
    let denoiser = graph(denoiser, sizes)?;
    Wants::of(&denoiser, facts.text).check(&texts)?;
    if facts.text == TextLayout::SideBySide {
        let texts: Vec<_> = texts.into_iter().map(|(_, graph)| graph).collect();
        texts_fit(&texts, &denoiser)?;
    }
    Ok(beside)
}

/// Refuses a network that steers another U-Net than this.
pub(super) fn control(unet: &Network, control: &Network, latents: &LatentSpace, time_ids: usize) -> Result<()> {
    let facts = control.control()?;
    if (facts.channels, facts.colors, facts.factor) != (latents.channels, 3, latents.factor) {
        fail!(
            Unsupported,
            "it takes latents of {} channels and {} pixels, and pictures of {} colours; the model has {}, {} and 3",
            facts.channels,
            facts.factor,
            facts.colors,
            latents.channels,
            latents.factor
        );
    }
    let sizes = GraphSizes { time_ids, control: true, ..GraphSizes::default() };
    let steered = graph(unet, sizes)?;
    let functions = (control.architecture.functions)(&control.config, sizes)?;
    let Some((_, steers)) = functions.iter().find(|(name, _)| *name == "main") else {
        fail!(Internal, "{}: a network without a function", control.name)
    };
    let of = |graph: &Graph, name: &str| {
        let (_, value) = graph.inputs().iter().find(|(input, _)| &**input == name)?;
        width(graph, *value)
    };
    for (what, name) in [("text", "encoder_hidden_states"), ("text of the whole prompt", "text_embeds")] {
        if let (Some(given), wanted) = (of(&steered, name), of(steers, name))
            && wanted != Some(given)
            && (wanted.is_some() || name == "encoder_hidden_states")
        {
            let wanted = wanted.map_or_else(|| "none".to_owned(), |wanted| wanted.to_string());
            fail!(Unsupported, "it was made for another model: its {what} has width {wanted}, the model's {given}");
        }
    }
    let added = |graph: &Graph, value| width(graph, value).unwrap_or_default();
    let takes: Vec<_> = steered.inputs().iter().filter(|(name, _)| name.contains("_residual")).collect();
    let fits = takes.len() == steers.outputs().len()
        && takes.iter().all(|(name, value)| {
            let yields = steers.outputs().iter().find(|(output, _)| output == name);
            yields.is_some_and(|(_, yielded)| added(steers, *yielded) == added(&steered, *value))
        });
    if !fits {
        fail!(Unsupported, "it was made for another model: its maps are not those of the U-Net");
    }
    Ok(())
}

fn graph(network: &Network, sizes: GraphSizes) -> Result<Graph> {
    match (network.architecture.functions)(&network.config, sizes)?.into_iter().next() {
        Some((_, graph)) => Ok(graph),
        None => fail!(Internal, "{}: a network without a function", network.name),
    }
}

/// Refuses text encoders whose results are not what the denoiser takes.
fn texts_fit(texts: &[Graph], denoiser: &Graph) -> Result<()> {
    let of_unet = |name: &str| {
        let (_, value) = denoiser.inputs().iter().find(|(input, _)| &**input == name)?;
        Some((width(denoiser, *value), denoiser.node(*value).signature.dtype))
    };
    let yields = |text: &Graph, name: &str| {
        let (_, value) = text.outputs().iter().find(|(output, _)| &**output == name)?;
        width(text, *value)
    };
    let states: Option<i64> = texts.iter().map(|text| yields(text, "last_hidden_state")).sum();
    if let Some((Some(wanted), _)) = of_unet("encoder_hidden_states")
        && states != Some(wanted)
    {
        let states = states.unwrap_or_default();
        fail!(Unsupported, "the denoiser takes text of width {wanted}, the text encoders yield {states} together");
    }
    for (input, output) in [("text_embeds", "text_embeds"), ("class_labels", "sentence_embedding")] {
        let Some((wanted, dtype)) = of_unet(input) else { continue };
        let given = texts.iter().rev().find_map(|text| yields(text, output));
        if dtype != DType::F32 || wanted.is_none() || given.is_none() {
            fail!(Unsupported, "the denoiser takes `{input}`, which no text encoder of this model yields");
        }
        if let (Some(wanted), Some(given)) = (wanted, given)
            && wanted != given
        {
            fail!(
                Unsupported,
                "the denoiser takes vectors of {wanted} for the whole text, the text encoder yields {given}"
            );
        }
    }
    Ok(())
}

/// The last dimension of a value that has one besides the batch, if it is fixed.
fn width(graph: &Graph, value: ondine_graph::Value) -> Option<i64> {
    graph.shape(value).0.get(1..)?.last()?.constant()
}

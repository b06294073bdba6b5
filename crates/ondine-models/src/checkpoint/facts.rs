//! What the parts of a checkpoint are called, and what their tensors say of them.

use std::{collections::BTreeMap, fmt};

use ondine_graph::{Float8, Weights, encoding::SCALE};

use super::{tensors::shape, text};

pub(super) const UNET: &str = "unet";
pub(super) const TRANSFORMER: &str = "transformer";
pub(super) const VAE: &str = "vae";
pub(super) const TEXT: &str = "text_encoder";
pub(super) const TEXT_2: &str = "text_encoder_2";
pub(super) const TEXT_3: &str = "text_encoder_3";
/// The parts in the order in which they are read: the U-Net asks how wide the vector of the text is, and encoders come
/// first.
pub(super) const PARTS: [&str; 6] = [TEXT, TEXT_2, TEXT_3, VAE, UNET, TRANSFORMER];

/// Something that is known of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is, such as `v-prediction`.
    pub what: String,
    /// What says so, such as ``key `v_pred` ``.
    pub why: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.what, self.why)
    }
}

/// What is known of tensors in numbers of 8 bits, if there are some.
pub(super) fn floats(weights: &Weights) -> Vec<Finding> {
    let all = weights.paths().count();
    let finding = |format: Float8| {
        let held: Vec<_> = weights.paths().filter(|path| weights.floats(path) == Some(format)).collect();
        let scaled = held.iter().filter(|path| weights.get(&format!("{path}{SCALE}")).is_some()).count();
        let scales = if scaled == 0 { "without scales".to_owned() } else { format!("{scaled} of them with a scale") };
        let why = format!("{} of {all} tensors, {scales}", held.len());
        (!held.is_empty()).then(|| Finding { what: format!("weights in {format}"), why })
    };
    Float8::ALL.into_iter().filter_map(finding).collect()
}

/// What is known of a U-Net and the text encoders beside it.
pub(super) struct Facts {
    pub(super) channels: usize,
    /// True if it takes a vector of the whole text, and sizes.
    pub(super) sizes: bool,
    pub(super) context: Option<usize>,
    /// True if the one text encoder reads what XL's second one does.
    pub(super) refiner: bool,
    /// True if the only text encoder is OpenCLIP's.
    pub(super) open_clip: bool,
    /// True if there are text encoders.
    pub(super) texts: bool,
}

impl Facts {
    pub(super) fn of(parts: &BTreeMap<&str, Weights>) -> Option<Self> {
        let unet = parts.get(UNET)?;
        let first = |paths: [&str; 2]| paths.into_iter().find_map(|path| shape(unet, path));
        let context = unet.paths().find(|path| path.ends_with("attn2.to_k.weight")).and_then(|path| shape(unet, path));
        Some(Self {
            channels: first(["input_blocks.0.0.weight", "conv_in.weight"]).and_then(|shape| shape.get(1).copied())?,
            sizes: first(["label_emb.0.0.weight", "add_embedding.linear_1.weight"]).is_some(),
            context: context.and_then(|shape| shape.get(1).copied()),
            refiner: parts.contains_key(TEXT_2) && !parts.contains_key(TEXT),
            open_clip: parts.get(TEXT).is_some_and(text::is_open_clip),
            texts: parts.contains_key(TEXT_2) || parts.contains_key(TEXT),
        })
    }

    /// True for the second generation, whose text encoder is OpenCLIP's.
    pub(super) fn second(&self) -> bool {
        !self.sizes && (self.open_clip || self.context == Some(1024) && !self.texts)
    }

    pub(super) fn family(&self) -> Finding {
        let width = self.context.unwrap_or_default();
        let (what, why) = match (self.sizes, self.refiner) {
            (true, true) => {
                ("SDXL refiner", format!("`label_emb`, one text encoder of OpenCLIP, text of width {width}"))
            }
            (true, false) if self.texts => {
                ("SDXL base", format!("`label_emb`, two text encoders, text of width {width}"))
            }
            (true, false) => ("SDXL", format!("`label_emb`, text of width {width}")),
            (false, _) if self.second() => ("Stable Diffusion 2", format!("text of width {width}, OpenCLIP")),
            (false, _) if width == 768 => ("Stable Diffusion 1", format!("text of width {width}, CLIP")),
            (false, _) => ("latent diffusion", format!("text of width {width}")),
        };
        Finding { what: what.to_owned(), why }
    }

    /// What the channels beside the latents are for.
    pub(super) fn task(&self) -> Option<Finding> {
        let what = match self.channels {
            9 => "for inpainting",
            8 => "for editing by instruction",
            5 => "for depth",
            _ => return None,
        };
        Some(Finding { what: what.to_owned(), why: format!("{} input channels", self.channels) })
    }
}

//! The networks of an IP-Adapter (Ye et al. 2023): an encoder of pictures, and what makes tokens of what it says.

use ondine_graph::Result;
use ondine_models::{GraphSizes, Network, TokenFacts};
use ondine_runtime::{Device, Options, Specialize};

use super::part::{Kept, PromptParts, Purpose, Which};

/// What makes a prompt of a picture.
#[derive(Debug)]
pub(super) struct Prompter {
    /// The adapter's name.
    pub(super) name: String,
    /// CLIP.
    pub(super) encoder: Network,
    pub(super) projection: Network,
    pub(super) facts: TokenFacts,
}

impl Prompter {
    /// Its networks, fitted to this machine.
    pub(super) fn prepare(&self, number: usize, kept: &Kept, options: Options, device: &Device) -> Result<PromptParts> {
        let sizes = GraphSizes::default();
        let part = |which, network: &Network| {
            let purpose = Purpose { which, precision: options.precision, sizes };
            kept.part(purpose, || {
                let asset = network.asset(sizes)?;
                let asset = match which {
                    Which::PictureEncoder { .. } => asset.only(which.function())?,
                    _ => asset,
                };
                asset.prepare(&options, device)
            })
        };
        Ok(PromptParts {
            encoder: part(Which::PictureEncoder { number, states: self.facts.states }, &self.encoder)?,
            projection: part(Which::PictureTokens(number), &self.projection)?,
            facts: self.facts,
        })
    }
}

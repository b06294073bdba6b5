//! A text as the denoiser takes it.

use std::collections::BTreeMap;

use ondine_graph::{DType, Graph, NDArray, Result, fail};

/// A prompt as the denoiser takes it: one row each, batch 1.
#[derive(Clone, Debug, Default)]
pub(super) struct Conditioning {
    /// `encoder_hidden_states` `[1, tokens, width]`.
    pub(super) hidden: Option<NDArray>,
    /// Which tokens are no padding, if the encoder says.
    pub(super) mask: Option<Vec<i64>>,
    /// One vector for the whole prompt: `text_embeds` or the sentence embedding, `[1, width]`.
    pub(super) pooled: Option<NDArray>,
}

/// True if the function has an input `wanted`.
pub(super) fn takes(graph: &Graph, wanted: &str) -> bool {
    graph.inputs().iter().any(|(name, _)| &**name == wanted)
}

impl Conditioning {
    /// The same shapes, all zero.
    pub(super) fn zeros_like(&self) -> Result<Self> {
        let zero = |array: &Option<NDArray>| array.as_ref().map(|a| NDArray::zeros(a.dtype(), a.shape())).transpose();
        Ok(Self { hidden: zero(&self.hidden)?, mask: self.mask.clone(), pooled: zero(&self.pooled)? })
    }

    /// The states `[1, tokens, width]`.
    pub(super) fn hidden(&self) -> Result<&NDArray> {
        match &self.hidden {
            Some(hidden) => Ok(hidden),
            None => fail!(Unsupported, "the model has no text encoder"),
        }
    }
}

/// Rows of a batch put together: states padded with zeros to one length, and the mask that says so if they were.
pub(super) fn batch(rows: &[&Conditioning]) -> Result<BTreeMap<&'static str, NDArray>> {
    let mut inputs = BTreeMap::new();
    let states = rows.iter().map(|row| row.hidden()).collect::<Result<Vec<_>>>()?;
    let tokens = states.iter().map(|array| array.shape()[1]).max().unwrap_or_default();
    let width = states.first().map_or(0, |array| array.shape()[2]);
    let mut hidden = NDArray::zeros(DType::F32, &[rows.len(), tokens, width])?;
    for (target, source) in hidden.view_mut::<f32>()?.chunks_mut((tokens * width).max(1)).zip(&states) {
        let source = source.view::<f32>()?;
        target[..source.len()].copy_from_slice(source);
    }
    inputs.insert("encoder_hidden_states", hidden);
    if rows.iter().any(|row| row.mask.is_some()) {
        let mut mask = vec![0_i64; rows.len() * tokens];
        for (target, row) in mask.chunks_mut(tokens.max(1)).zip(rows) {
            target.iter_mut().zip(row.mask.iter().flatten()).for_each(|(target, &seen)| *target = seen);
        }
        inputs.insert("encoder_attention_mask", NDArray::new(&[rows.len(), tokens], &mask)?);
    }
    let pooled: Vec<_> = rows.iter().filter_map(|row| row.pooled.as_ref()).collect();
    if let Some(first) = pooled.first().filter(|_| pooled.len() == rows.len()) {
        let width = first.len();
        let values = pooled.iter().map(|array| array.view::<f32>()).collect::<Result<Vec<_>>>()?.concat();
        inputs.insert("pooled", NDArray::new(&[rows.len(), width], &values)?);
    }
    Ok(inputs)
}

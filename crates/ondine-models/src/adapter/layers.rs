//! What the files of an adapter hold of each layer.

use std::collections::BTreeMap;

use ondine_graph::{Result, Tensor, fail};

/// The factors of one layer: `scale * b (a x)` is added to what it yields.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub(super) a: Option<Tensor>,
    pub(super) b: Option<Tensor>,
    pub(super) scale: f32,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Layers {
    /// By the names of the weights of the layers, in the words of transformers.
    pub(super) by_weight: BTreeMap<String, Layer>,
    /// Tensors that belong to no layer that could take them.
    pub(super) others: Vec<String>,
}

impl Layers {
    /// Adds the factor `a` (`part` 0) or `b` of the layer of `weight`.
    pub(super) fn insert(&mut self, weight: String, part: usize, tensor: &Tensor) {
        let layer = self.by_weight.entry(weight).or_insert(Layer { a: None, b: None, scale: 1.0 });
        *(if part == 0 { &mut layer.a } else { &mut layer.b }) = Some(tensor.clone());
    }

    /// Makes sure that factors come in pairs, and scales them by weight and rank.
    pub(super) fn finish(mut self, scale: impl Fn(&str, usize) -> Result<f32>) -> Result<Self> {
        for (weight, layer) in &mut self.by_weight {
            let (Some(a), Some(_)) = (&layer.a, &layer.b) else {
                fail!(Missing, "one of the two factors of `{weight}` is missing");
            };
            layer.scale = scale(weight, a.shape.first().copied().unwrap_or(0).max(1))?;
        }
        if self.by_weight.is_empty() {
            fail!(Format, "there are no factors of low rank");
        }
        Ok(self)
    }
}

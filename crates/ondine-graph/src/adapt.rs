//! Adapters: assets whose layers have branches of low rank, the factors being tensors of other files.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    asset::Asset,
    error::{Result, fail},
    rewrite::low_rank::{Branch, factor_shapes, layers, low_rank},
    weights::Tensor,
};

/// What an adapter adds to the layers of a weight: `scale * b (a x)`.
#[derive(Clone, Debug)]
pub struct Factors {
    /// The weight.
    pub weight: Arc<str>,
    /// `[rank, in]`, or of a convolution `[rank, in, h, w]`.
    pub a: Tensor,
    /// `[out, rank]`, with or without dimensions of size 1 behind.
    pub b: Tensor,
    /// What the product of both is multiplied by.
    pub scale: f32,
}

impl Asset {
    /// The same asset with branches beside its layers, whatever the format of their weights, and the names of those
    /// weights among `factors` that no layer is made of: the caller decides what that means.
    ///
    /// ```
    /// use ondine_graph::{Asset, DType, Graph, Tensor, Weights, adapt::Factors};
    ///
    /// # fn main() -> ondine_graph::Result<()> {
    /// let mut graph = Graph::new();
    /// let x = graph.input("x", DType::F32, [1, 2]);
    /// let weight = graph.weight("layer.weight", &[3, 2])?;
    /// let y = graph.linear(x, weight, None)?;
    /// graph.output("y", y);
    /// let zeros = |shape: &[usize]| {
    ///     let bytes = vec![0_u8; 4 * shape.iter().product::<usize>()];
    ///     Tensor { dtype: DType::F32, shape: shape.to_vec(), bytes: bytes[..].into(), file: "memory".into() }
    /// };
    /// let mut weights = Weights::default();
    /// weights.insert("layer.weight", zeros(&[3, 2]));
    /// let asset = Asset::new("example", [("main", graph)], weights)?;
    ///
    /// let factors = |name: &str| Factors { weight: name.into(), a: zeros(&[4, 2]), b: zeros(&[3, 4]), scale: 0.5 };
    /// let (adapted, unused) = asset.with_low_rank(&[factors("layer.weight"), factors("other.weight")])?;
    /// assert_eq!(unused, ["other.weight".into()]);
    /// assert_eq!(adapted.parameters(), 3 * 2 + 4 * 2 + 3 * 4);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If factors do not fit their weight: the adapter was made for another model.
    pub fn with_low_rank(&self, factors: &[Factors]) -> Result<(Self, Vec<Arc<str>>)> {
        let known: BTreeSet<Arc<str>> = self.functions().values().flat_map(layers).collect();
        let shape_of = |path: &str| {
            let weights = self.functions().values().flat_map(|graph| graph.weights());
            weights.into_iter().find(|weight| &*weight.path == path).map(|weight| weight.shape.clone())
        };
        let (mut weights, mut branches, mut unused) = (self.weights().clone(), Vec::new(), Vec::new());
        for factors in factors {
            let path = &factors.weight;
            let Some(shape) = shape_of(path).filter(|_| known.contains(path)) else {
                unused.push(path.clone());
                continue;
            };
            let (rank, [a, b]) = fitting(factors, &shape)?;
            // Several adapters may change one layer.
            let index = (0..).find(|index| weights.get(&name(path, *index, "a")).is_none()).unwrap_or_default();
            let names = [name(path, index, "a"), name(path, index, "b")];
            weights.insert(&names[0], Tensor { shape: a, ..factors.a.clone() });
            weights.insert(&names[1], Tensor { shape: b, ..factors.b.clone() });
            let [a, b] = names.map(Into::into);
            branches.push(Branch { weight: path.clone(), a, b, rank, scale: factors.scale });
        }
        let functions = self.functions().iter().map(|(name, graph)| Ok((name.clone(), low_rank(graph, &branches)?)));
        let functions = functions.collect::<Result<Vec<_>>>()?;
        let recipes = self.recipes().clone();
        Ok((Self::with_recipes(self.name().clone(), functions, weights, recipes)?, unused))
    }
}

fn name(weight: &str, index: usize, factor: &str) -> String {
    format!("{weight}.adapter.{index}.{factor}")
}

/// The rank, and the shapes of both factors as layers take them.
fn fitting(factors: &Factors, weight: &[usize]) -> Result<(usize, [Vec<usize>; 2])> {
    let Factors { weight: path, a, b, .. } = factors;
    let rank = a.shape.first().copied().unwrap_or(0);
    let [a_shape, b_shape] = factor_shapes(weight, rank);
    let bare = |shape: &[usize]| {
        let end = shape.iter().rposition(|&size| size != 1).map_or(0, |last| last + 1);
        shape[..end.max(2).min(shape.len())].to_vec()
    };
    if rank == 0 || bare(&a.shape) != bare(&a_shape) || bare(&b.shape) != bare(&b_shape) {
        fail!(
            Shape,
            "{}: factors {:?} and {:?} do not fit `{path}` {weight:?}; the adapter was made for another model",
            a.file,
            a.shape,
            b.shape
        );
    }
    if !a.dtype.is_float() || !b.dtype.is_float() || !factors.scale.is_finite() {
        fail!(Format, "{}: the factors of `{path}` are no numbers", a.file);
    }
    Ok((rank, [a_shape, b_shape]))
}

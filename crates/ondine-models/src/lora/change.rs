//! How a weight changes: the formulas, as graphs over the tensors of an adapter.

use std::collections::BTreeMap;

use ondine_graph::{Binary, Graph, Reduce, Result, Unary, Value, Weights, fail, recipe::Recipe};

use super::{
    keys::{Factor, Lengths, Part},
    place::Rows,
};
use crate::network::Network;

/// The tensors of a change, by the names of the file.
#[derive(Clone, Debug, Default)]
pub(super) struct Change {
    alpha: Option<f32>,
    /// What the factors are multiplied by without an `alpha`, if a config says it.
    scale: Option<f32>,
    down: Option<String>,
    up: Option<String>,
    mid: Option<String>,
    magnitude: Option<(Lengths, String)>,
    difference: Option<String>,
    bias: Option<String>,
    hadamard: BTreeMap<Factor, String>,
    kronecker: BTreeMap<Factor, String>,
}

impl Change {
    /// Adds a tensor; false if there is one in its place.
    pub(super) fn set(&mut self, part: Part, path: &str, alpha: Option<f32>) -> bool {
        let path = path.to_owned();
        match part {
            Part::Alpha => self.alpha.replace(alpha.unwrap_or(f32::NAN)).is_none(),
            Part::Down => self.down.replace(path).is_none(),
            Part::Up => self.up.replace(path).is_none(),
            Part::Mid => self.mid.replace(path).is_none(),
            Part::Magnitude(of) => self.magnitude.replace((of, path)).is_none(),
            Part::Difference => self.difference.replace(path).is_none(),
            Part::BiasDifference => self.bias.replace(path).is_none(),
            Part::Hadamard(factor) => self.hadamard.insert(factor, path).is_none(),
            Part::Kronecker(factor) => self.kronecker.insert(factor, path).is_none(),
        }
    }

    /// Says what the factors are multiplied by if no `alpha` does.
    pub(super) fn set_scale(&mut self, scale: f32) {
        self.scale = Some(scale);
    }

    /// True if there are tensors that change something.
    pub(super) fn acts(&self) -> bool {
        self.weight().is_some() || self.bias.is_some()
    }

    /// The change of the weight.
    pub(super) fn weight(&self) -> Option<Of<'_>> {
        let products = !self.hadamard.is_empty() || !self.kronecker.is_empty();
        let any = self.down.is_some() || self.up.is_some() || self.difference.is_some() || products;
        any.then_some(Of::Weight(self))
    }

    /// The change of the bias.
    pub(super) fn bias(&self) -> Option<Of<'_>> {
        self.bias.as_deref().map(Of::Bias)
    }
}

/// The change of a weight, or of a bias.
#[derive(Clone, Copy, Debug)]
pub(super) enum Of<'c> {
    Weight(&'c Change),
    Bias(&'c str),
}

impl Of<'_> {
    /// The recipe of the changed tensor `path` of `network`, which is of `shape`; tensors of the adapter, which are in
    /// `from`, go into the network's weights under names that begin with `prefix`. Of a change of more than this
    /// tensor, or in another order, `rows` are its own.
    #[expect(clippy::too_many_arguments, reason = "all that a recipe is made of")]
    pub(super) fn recipe(
        self,
        network: &mut Network,
        path: &str,
        shape: &[usize],
        rows: Option<&Rows>,
        from: &Weights,
        prefix: &str,
        share: f32,
    ) -> Result<Recipe> {
        let mut maker = Maker { graph: Graph::new(), from, prefix, rows, taken: Vec::new() };
        let base = network.base(&mut maker.graph, path, shape)?;
        let changed = match self {
            Self::Weight(change) => maker.changed(base, shape, change, share)?,
            Self::Bias(difference) => {
                let difference = maker.tensor(difference)?;
                let difference = maker.own_rows(difference, shape)?;
                let difference = maker.graph.affine(difference, share, 0.0)?;
                maker.graph.add(base, difference)?
            }
        };
        maker.graph.output("weight", changed);
        let Maker { graph, taken, .. } = maker;
        network.take(from, taken)?;
        Recipe::new(graph, &network.weights)
    }
}

struct Maker<'a> {
    graph: Graph,
    from: &'a Weights,
    prefix: &'a str,
    /// The rows of the change that are this tensor's, if not all.
    rows: Option<&'a Rows>,
    /// Tensors of the adapter that the graph reads: their names there, and in the network.
    taken: Vec<(String, String)>,
}

impl Maker<'_> {
    fn shape(&self, value: Value) -> Vec<usize> {
        self.graph.shape(value).fixed().unwrap_or_default()
    }

    fn tensor(&mut self, name: &str) -> Result<Value> {
        let Some(tensor) = self.from.get(name) else { fail!(Missing, "tensor `{name}` is missing") };
        let path = format!("{}{name}", self.prefix);
        let value = self.graph.weight(&path, &tensor.shape)?;
        self.taken.push((name.to_owned(), path));
        Ok(value)
    }

    fn reshaped(&mut self, value: Value, shape: &[usize]) -> Result<Value> {
        let own = self.shape(value);
        if own.iter().product::<usize>() != shape.iter().product::<usize>() {
            fail!(Shape, "it changes a weight of shape {own:?}, the model's has {shape:?}");
        }
        self.graph.reshape(value, shape)
    }

    /// A tensor as a matrix: its first dimension, and all others.
    fn matrix(&mut self, value: Value) -> Result<Value> {
        let shape = self.shape(value);
        let rows = shape.first().copied().unwrap_or(1);
        let columns = shape.iter().skip(1).product();
        self.reshaped(value, &[rows, columns])
    }

    fn product(&mut self, a: Value, b: Value) -> Result<Value> {
        let (left, right) = (self.shape(a), self.shape(b));
        if left.get(1) != right.first() {
            fail!(Shape, "its factors {left:?} and {right:?} do not fit each other");
        }
        self.graph.push(ondine_graph::Op::MatMul { transposed: false }, &[a, b])
    }

    /// The weight with so much of a change.
    fn changed(&mut self, base: Value, shape: &[usize], change: &Change, share: f32) -> Result<Value> {
        let (mut delta, rank) = self.delta(shape, change)?;
        let scale = match (change.alpha, rank) {
            (Some(alpha), Some(rank)) if alpha.is_finite() => alpha / rank as f32,
            (Some(alpha), _) if !alpha.is_finite() => fail!(Format, "its `alpha` is no number"),
            _ => change.scale.unwrap_or(1.0),
        };
        let Some((lengths, magnitude)) = &change.magnitude else {
            delta = self.graph.affine(delta, scale * share, 0.0)?;
            return self.graph.add(base, delta);
        };
        delta = self.graph.affine(delta, scale, 0.0)?;
        let direction = self.graph.add(base, delta)?;
        let changed = self.with_lengths(direction, shape, *lengths, magnitude)?;
        if share == 1.0 {
            return Ok(changed);
        }
        let way = self.graph.binary(Binary::Sub, changed, base)?;
        let way = self.graph.affine(way, share, 0.0)?;
        self.graph.add(base, way)
    }

    /// The change itself, of the weight's shape, and the rank that its scale is divided by.
    fn delta(&mut self, shape: &[usize], change: &Change) -> Result<(Value, Option<usize>)> {
        if let Some(difference) = &change.difference {
            let difference = self.tensor(difference)?;
            return Ok((self.own_rows(difference, shape)?, None));
        }
        let (delta, rank) = if !change.hadamard.is_empty() {
            let (one, rank) = self.factor(&change.hadamard, [Factor::OneA, Factor::OneB, Factor::OneCore], None)?;
            let (two, _) = self.factor(&change.hadamard, [Factor::TwoA, Factor::TwoB, Factor::TwoCore], None)?;
            (self.graph.mul(one, two)?, rank)
        } else if !change.kronecker.is_empty() {
            self.kronecker(&change.kronecker)?
        } else {
            self.low_rank(change)?
        };
        Ok((self.own_rows(delta, shape)?, rank))
    }

    /// What of a change is of a tensor of `shape`.
    fn own_rows(&mut self, change: Value, shape: &[usize]) -> Result<Value> {
        let Some(Rows { all, own }) = self.rows else { return self.reshaped(change, shape) };
        let given = self.shape(change);
        let (all, size) = (*all, given.iter().product::<usize>());
        if all == 0 || size != shape.iter().skip(1).product::<usize>() * all {
            fail!(Shape, "it changes a weight of shape {given:?}, the model's has {all} rows of {shape:?}");
        }
        let change = self.reshaped(change, &[all, size / all])?;
        let parts: Result<Vec<Value>> =
            own.iter().map(|rows| self.graph.slice(change, 0, rows.start, rows.end)).collect();
        let change = match parts?[..] {
            [one] => one,
            ref several => self.graph.concat(several, 0)?,
        };
        self.reshaped(change, shape)
    }

    /// `up down`, with what stands between them in convolutions whose kernel is there.
    fn low_rank(&mut self, change: &Change) -> Result<(Value, Option<usize>)> {
        let (Some(down), Some(up)) = (&change.down, &change.up) else {
            fail!(Missing, "it has only one of the two matrices");
        };
        let (down, up) = (self.tensor(down)?, self.tensor(up)?);
        let rank = self.shape(down).first().copied();
        let up = self.matrix(up)?;
        let mut down = self.matrix(down)?;
        if let Some(mid) = &change.mid {
            let mid = self.tensor(mid)?;
            down = self.core(mid, down)?;
        }
        Ok((self.product(up, down)?, rank))
    }

    /// A core `[r, q, ..]` whose second dimension is a factor's `[q, n]`: `[r, n ..]`.
    fn core(&mut self, core: Value, factor: Value) -> Result<Value> {
        let shape = self.shape(core);
        let [first, second, rest @ ..] = &shape[..] else { fail!(Shape, "a core of shape {shape:?}") };
        let (rest, columns) = (rest.iter().product::<usize>(), self.shape(factor)[1]);
        let core = self.reshaped(core, &[*first, *second, rest])?;
        let core = self.graph.permute(core, &[0, 2, 1])?;
        let core = self.reshaped(core, &[first * rest, *second])?;
        let mixed = self.product(core, factor)?;
        let mixed = self.reshaped(mixed, &[*first, rest, columns])?;
        let mixed = self.graph.permute(mixed, &[0, 2, 1])?;
        self.reshaped(mixed, &[*first, columns * rest])
    }

    /// A factor of a product, `a b`, or whole; with a core `t[i, j, ..]` the sum over `a[i, p] b[j, q] t[i, j, ..]`.
    fn factor(
        &mut self,
        parts: &BTreeMap<Factor, String>,
        [a, b, core]: [Factor; 3],
        whole: Option<Factor>,
    ) -> Result<(Value, Option<usize>)> {
        if let Some(whole) = whole.and_then(|whole| parts.get(&whole)) {
            return Ok((self.tensor(whole)?, None));
        }
        let (Some(a), Some(b)) = (parts.get(&a), parts.get(&b)) else {
            fail!(Missing, "it lacks a factor of its product");
        };
        let (a, b) = (self.tensor(a)?, self.tensor(b)?);
        let rank = self.shape(b).first().copied();
        let Some(core) = parts.get(&core) else {
            let (a, b) = (self.matrix(a)?, self.matrix(b)?);
            return Ok((self.product(a, b)?, rank));
        };
        let core = self.tensor(core)?;
        let kernel = self.shape(core).split_off(2.min(self.shape(core).len()));
        let (rows, columns) = (self.shape(a).get(1).copied().unwrap_or(1), self.shape(b).get(1).copied().unwrap_or(1));
        let mixed = self.core(core, b)?;
        let a = self.graph.permute(a, &[1, 0])?;
        let mixed = self.product(a, mixed)?;
        let shape = [&[rows, columns], kernel.as_slice()].concat();
        Ok((self.reshaped(mixed, &shape)?, rank))
    }

    /// The Kronecker product of two factors; one whose factors are both whole has no scale.
    fn kronecker(&mut self, parts: &BTreeMap<Factor, String>) -> Result<(Value, Option<usize>)> {
        // The first has no core.
        let (one, rank_one) = self.factor(parts, [Factor::OneA, Factor::OneB, Factor::OneCore], Some(Factor::One))?;
        let (two, rank_two) = self.factor(parts, [Factor::TwoA, Factor::TwoB, Factor::TwoCore], Some(Factor::Two))?;
        let (first, second) = (self.shape(one), self.shape(two));
        let ([a, b, ..], [c, d, kernel @ ..]) = (&first[..], &second[..]) else {
            fail!(Shape, "its factors {first:?} and {second:?} are no matrices");
        };
        let kernel: usize = kernel.iter().product();
        let one = self.reshaped(one, &[*a, 1, *b, 1])?;
        let two = self.reshaped(two, &[1, *c, 1, d * kernel])?;
        let both = self.graph.mul(one, two)?;
        Ok((self.reshaped(both, &[a * c, b * d * kernel])?, rank_two.or(rank_one)))
    }

    /// A weight whose rows, or columns, have the lengths that the adapter learned.
    fn with_lengths(&mut self, weight: Value, shape: &[usize], lengths: Lengths, magnitude: &str) -> Result<Value> {
        let mut magnitude = self.tensor(magnitude)?;
        let mut given = self.shape(magnitude);
        if let Some(Rows { all, .. }) = self.rows {
            // Lengths of columns are those of all rows together.
            if given.iter().product::<usize>() != *all {
                fail!(Unsupported, "lengths {given:?} of columns through layers that are one in the adapter");
            }
            magnitude = self.own_rows(magnitude, &[shape[0]])?;
            given = vec![shape[0]];
        }
        let count: usize = given.iter().product();
        let (rows, columns) = (shape[0], shape.get(1).copied().unwrap_or(1));
        let of_columns = lengths == Lengths::ByShape && given.len() > 1 && given[0] == 1 && count == columns;
        if !of_columns && count != rows {
            fail!(Shape, "it has lengths for {count} rows, the model's weight has {rows}");
        }
        let kept = usize::from(of_columns);
        let mut squares = self.graph.mul(weight, weight)?;
        if of_columns {
            let axes: Vec<usize> = [1, 0].into_iter().chain(2..shape.len()).collect();
            squares = self.graph.permute(squares, &axes)?;
        }
        let squares = self.matrix(squares)?;
        let sums = self.graph.reduce(Reduce::Sum, squares, &[1], true)?;
        let sums = self.graph.affine(sums, 1.0, f32::MIN_POSITIVE)?;
        let inverse = self.graph.unary(Unary::Rsqrt, sums)?;
        let mut lengths = vec![1; shape.len()];
        lengths[kept] = count;
        let inverse = self.reshaped(inverse, &lengths)?;
        let magnitude = self.reshaped(magnitude, &lengths)?;
        let factor = self.graph.mul(magnitude, inverse)?;
        self.graph.mul(weight, factor)
    }
}

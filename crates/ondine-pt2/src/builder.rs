//! Tensors of the program under way to a graph: values with a pending order of dimensions.
//!
//! PyTorch's transpositions only change strides. Here they change the order in which a [`Tensor`]'s dimensions are
//! read, and operators that do not care about the order work on the value as it is stored; so feature maps stay
//! channels-last between convolutions although the program speaks of channels-first all the time.

mod size;

use std::{collections::BTreeSet, sync::Arc};

use super::types::{dtype_of, is_complex, told_of};
use ondine_graph::{
    Activation, Binary, DType, Dim, Elementary, Graph, Guard, NDArray, Op, Result, Scatter, Shape, Unary, Value, fail,
    infer::{Supposed, broadcast},
    recipe::is_evaluable,
};

/// The most positions that a list in a graph has.
const MAX_LIST: usize = 1 << 24;

/// A value whose logical dimension `i` is stored as dimension `axes[i]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tensor {
    pub(super) value: Value,
    pub(super) axes: Vec<usize>,
}

impl Tensor {
    pub(super) fn rank(&self) -> usize {
        self.axes.len()
    }

    fn is_plain(&self) -> bool {
        self.axes.iter().copied().eq(0..self.axes.len())
    }
}

/// A graph that grows by operators on [`Tensor`]s.
#[derive(Default)]
pub(super) struct Builder {
    pub(super) graph: Graph,
    /// For each node whether it depends on weights and constants alone.
    fixed: Vec<bool>,
    /// True within the graph of a loop, which has no weights of its own to pack.
    pub(super) nested: bool,
    /// Whether the program goes the way that is being written out; none if it surely does.
    pub(super) taken: Option<Tensor>,
    /// The symbols that are never negative.
    pub(super) counts: BTreeSet<Arc<str>>,
    /// Sizes that the program has found to be equal to others: the others are what they are called by.
    same: Vec<[Dim; 2]>,
}

pub(super) fn inverse(order: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; order.len()];
    order.iter().enumerate().for_each(|(i, &axis)| inverse[axis] = i);
    inverse
}

impl Builder {
    /// `x` without dimension `axis`, which has size 1.
    pub(super) fn without(&mut self, x: &Tensor, axis: usize) -> Result<Tensor> {
        let mut shape = self.shape(x);
        if axis >= shape.len() {
            fail!(Shape, "dimension {axis} does not exist in rank {}", shape.len());
        }
        shape.remove(axis);
        self.reshape(x, &shape)
    }

    /// Indices that are 0 where the program does not go this way: what is computed of them there is not chosen, and
    /// must not fail the call for being outside a table.
    pub(super) fn guarded(&mut self, indices: &Tensor) -> Result<Tensor> {
        match self.taken.clone() {
            Some(taken) if !self.is_fixed(indices) => {
                let first = self.number(0.0, DType::I64)?;
                self.select(&taken, indices, &first)
            }
            _ => Ok(indices.clone()),
        }
    }

    /// `x` with its parts along `axis` combined with those of `rows`, at rank-1 `indices`.
    pub(super) fn scatter_rows(
        &mut self,
        how: Scatter,
        x: &Tensor,
        axis: usize,
        indices: &Tensor,
        rows: &Tensor,
    ) -> Result<Tensor> {
        let dtype = self.dtype(x);
        if how != Scatter::Replace && !matches!(dtype, DType::F32 | DType::I64 | DType::I32) {
            // Sums, products and extremes of small numbers, as wide ones, and of truths: what is not 0 is true.
            let (x, rows) = (self.cast(x, DType::I64)?, self.cast(rows, DType::I64)?);
            let whole = self.scatter_rows(how, &x, axis, indices, &rows)?;
            return self.cast(&whole, dtype);
        }
        let order: Vec<usize> = std::iter::once(axis).chain((0..x.rank()).filter(|&other| other != axis)).collect();
        let indices = self.guarded(indices)?;
        let inputs = [self.stored(x, &order)?, indices.value, self.stored(rows, &order)?];
        let value = self.graph.push(Op::Scatter(how), &inputs)?;
        Ok(Self::ordered(value, &order))
    }

    /// True if the value depends on weights and constants alone, so that it can be a weight itself.
    pub(super) fn is_fixed(&mut self, x: &Tensor) -> bool {
        while self.fixed.len() <= x.value.index() {
            let node = &self.graph.nodes()[self.fixed.len()];
            let fixed = match node.op {
                Op::Weight(_) | Op::Const(_) => true,
                _ => {
                    is_evaluable(&node.op)
                        && node.signature.shape.fixed().is_some()
                        && node.inputs.iter().all(|input| self.fixed[input.index()])
                }
            };
            self.fixed.push(fixed);
        }
        self.fixed[x.value.index()] && !self.nested
    }

    /// Takes two sizes for the same from now on; one that the caller's inputs tell stands for one that data decides.
    pub(super) fn equate(&mut self, a: &Dim, b: &Dim) {
        let (a, b) = (self.called(a), self.called(b));
        let mut measured = BTreeSet::new();
        for node in self.graph.nodes() {
            if let Op::Measure { size, .. } = &node.op {
                size.symbols(&mut measured);
            }
        }
        let decided = |dim: &Dim| {
            let mut symbols = BTreeSet::new();
            dim.symbols(&mut symbols);
            !symbols.is_disjoint(&measured)
        };
        match (a == b, decided(&a), decided(&b)) {
            (true, ..) | (_, false, false) => {}
            (_, true, _) => self.same.push([a, b]),
            (_, false, true) => self.same.push([b, a]),
        }
    }

    /// What a size is called by.
    fn called(&self, dim: &Dim) -> Dim {
        self.same.iter().find(|[other, _]| other == dim).map_or_else(|| dim.clone(), |[_, name]| name.clone())
    }

    /// The tensor with sizes by the names that they are called by.
    pub(super) fn renamed(&mut self, x: Tensor) -> Result<Tensor> {
        let mut x = x;
        if self.same.is_empty() {
            return Ok(x);
        }
        for axis in 0..x.rank() {
            let size = self.dim(&x, axis);
            let name = self.called(&size);
            if name != size {
                x = self.slice(&x, axis, &0.into(), &name)?;
            }
        }
        Ok(x)
    }

    /// The value with its dimensions as stored.
    pub(super) fn plain(&self, value: Value) -> Tensor {
        Tensor { value, axes: (0..self.graph.shape(value).rank()).collect() }
    }

    /// The value whose stored dimension `i` is logical dimension `order[i]`.
    pub(super) fn ordered(value: Value, order: &[usize]) -> Tensor {
        Tensor { value, axes: inverse(order) }
    }

    pub(super) fn dtype(&self, x: &Tensor) -> DType {
        self.graph.node(x.value).signature.dtype
    }

    /// The size of a dimension; one that is not there has size 1, as for all operators that broadcast.
    pub(super) fn dim(&self, x: &Tensor, axis: usize) -> Dim {
        x.axes.get(axis).map_or_else(|| Dim::from(1), |&stored| self.graph.dim(x.value, stored))
    }

    pub(super) fn shape(&self, x: &Tensor) -> Vec<Dim> {
        (0..x.rank()).map(|axis| self.dim(x, axis)).collect()
    }

    /// The value with its dimensions in logical order.
    pub(super) fn dense(&mut self, x: &Tensor) -> Result<Value> {
        self.stored(x, &(0..x.rank()).collect::<Vec<_>>())
    }

    /// The value stored such that dimension `i` is logical dimension `order[i]`.
    pub(super) fn stored(&mut self, x: &Tensor, order: &[usize]) -> Result<Value> {
        if order.len() != x.rank() {
            fail!(Shape, "a tensor of rank {} in an order of {} dimensions", x.rank(), order.len());
        }
        let axes: Vec<usize> = order.iter().map(|&axis| x.axes[axis]).collect();
        if axes.iter().copied().eq(0..axes.len()) {
            return Ok(x.value);
        }
        let shape = self.graph.shape(x.value).clone();
        let long = axes.iter().filter(|&&axis| shape.0[axis].fixed() != Some(1));
        if long.is_sorted() {
            // Only dimensions of size 1 move.
            let shape: Shape = axes.iter().map(|&axis| shape.0[axis].clone()).collect();
            return self.graph.reshape(x.value, shape);
        }
        self.graph.permute(x.value, &axes)
    }

    /// The same tensor read in another order.
    pub(super) fn permuted(x: &Tensor, order: &[usize]) -> Tensor {
        Tensor { value: x.value, axes: order.iter().map(|&axis| x.axes[axis]).collect() }
    }

    pub(super) fn swapped(x: &Tensor, a: usize, b: usize) -> Tensor {
        let mut axes = x.axes.clone();
        axes.swap(a, b);
        Tensor { value: x.value, axes }
    }

    /// The tensor with dimension `axis` stored last, the others in the order in which they are stored.
    pub(super) fn axis_last(&mut self, x: &Tensor, axis: usize) -> Result<Tensor> {
        if stored(x, axis)? + 1 == x.rank() {
            return Ok(x.clone());
        }
        let mut order = inverse(&x.axes);
        order.retain(|&logical| logical != axis);
        order.push(axis);
        let value = self.stored(x, &order)?;
        Ok(Self::ordered(value, &order))
    }

    pub(super) fn reshape(&mut self, x: &Tensor, shape: &[Dim]) -> Result<Tensor> {
        let shape = &shape.iter().map(|dim| self.called(dim)).collect::<Vec<_>>()[..];
        if self.shape(x) == shape {
            return Ok(x.clone());
        }
        if !x.is_plain()
            && let Some(groups) = groups(&self.shape(x), shape)
            && let Some(reshaped) = self.reshape_groups(x, shape, groups)?
        {
            return Ok(reshaped);
        }
        let value = self.dense(x)?;
        let value = self.graph.reshape(value, shape.to_vec())?;
        Ok(self.plain(value))
    }

    /// A reshape that leaves the stored order of its independent parts, if each part is stored in one piece.
    fn reshape_groups(&mut self, x: &Tensor, shape: &[Dim], mut groups: Vec<Group>) -> Result<Option<Tensor>> {
        let from = self.shape(x);
        let mut starts = Vec::with_capacity(groups.len());
        for group in &groups {
            let long: Vec<usize> =
                group.from.clone().filter(|&axis| from[axis].fixed() != Some(1)).map(|axis| x.axes[axis]).collect();
            let between =
                |a: usize, b: usize| (a + 1..b).all(|stored| self.graph.dim(x.value, stored).fixed() == Some(1));
            if !long.windows(2).all(|pair| pair[0] < pair[1] && between(pair[0], pair[1])) {
                return Ok(None);
            }
            starts.push(long.first().copied().unwrap_or(usize::MAX));
        }
        let mut order: Vec<usize> = (0..groups.len()).collect();
        order.sort_by_key(|&group| starts[group]);
        let stored: Vec<usize> = order.iter().flat_map(|&group| std::mem::take(&mut groups[group].to)).collect();
        let value = self.graph.reshape(x.value, stored.iter().map(|&axis| &shape[axis]).collect::<Shape>())?;
        Ok(Some(Self::ordered(value, &stored)))
    }

    /// True if the dimensions of `x` with more than one element are stored in their order, so that it lies in memory as
    /// if it were plain.
    fn is_moved_by_reshape(&self, x: &Tensor) -> bool {
        let long = (0..x.rank()).filter(|&axis| self.dim(x, axis).fixed() != Some(1));
        long.map(|axis| x.axes[axis]).is_sorted()
    }

    /// The tensors stored in one common order, ready for an operator that broadcasts, and that order's tensor form.
    ///
    /// The order is that of the largest, and of several that of one which would have to be permuted; others are moved.
    pub(super) fn aligned(&mut self, tensors: &[&Tensor]) -> Result<(Vec<Value>, Vec<usize>)> {
        let rank = tensors.iter().map(|x| x.rank()).max().unwrap_or(0);
        let weight = |x: &Tensor| {
            let long = self.shape(x).iter().filter(|dim| dim.fixed() != Some(1)).count();
            let elements = self.shape(x).iter().map(|dim| dim.fixed().unwrap_or(64) as f64).product::<f64>();
            (x.rank() == rank, long, elements, !self.is_moved_by_reshape(x))
        };
        let leader = tensors
            .iter()
            .reduce(|a, b| if weight(b).partial_cmp(&weight(a)).is_some_and(|o| o.is_gt()) { b } else { a });
        let order = leader.map_or_else(Vec::new, |leader| inverse(&leader.axes));
        let mut values = Vec::with_capacity(tensors.len());
        for x in tensors {
            let shape = self.shape(x);
            if shape.iter().all(|dim| dim.fixed() == Some(1)) {
                values.push(x.value);
                continue;
            }
            let missing = rank - x.rank();
            let plain = order.iter().copied().eq(0..rank);
            let x = if plain || missing == 0 {
                (*x).clone()
            } else {
                let ones = std::iter::repeat_n(Dim::from(1), missing);
                self.reshape(x, &ones.chain(shape).collect::<Vec<_>>())?
            };
            values.push(if plain { self.dense(&x)? } else { self.stored(&x, &order)? });
        }
        Ok((values, order))
    }

    /// An operator of several tensors, element by element with broadcasting.
    pub(super) fn broadcast(&mut self, op: Op, tensors: &[&Tensor]) -> Result<Tensor> {
        let (values, order) = self.aligned(tensors)?;
        let value = self.graph.push(op, &values)?;
        Ok(Self::ordered(value, &order))
    }

    pub(super) fn binary(&mut self, op: Binary, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let bits = matches!(op, Binary::And | Binary::Or | Binary::Xor);
        let dtype = self.dtype(a);
        let wide = wide(dtype);
        if wide == dtype || bits {
            return self.broadcast(Op::Binary(op), &[a, b]);
        }
        let (a, b) = (self.cast(a, wide)?, self.cast(b, wide)?);
        let wide = self.broadcast(Op::Binary(op), &[&a, &b])?;
        if op.is_comparison() { Ok(wide) } else { self.cast(&wide, dtype) }
    }

    pub(super) fn unary(&mut self, op: Unary, x: &Tensor) -> Result<Tensor> {
        let dtype = self.dtype(x);
        if wide(dtype) != dtype {
            let wide = self.cast(x, wide(dtype))?;
            let wide = self.unary(op, &wide)?;
            return self.cast(&wide, dtype);
        }
        let value = self.graph.unary(op, x.value)?;
        Ok(Tensor { value, axes: x.axes.clone() })
    }

    pub(super) fn function(&mut self, function: Elementary, x: &Tensor) -> Result<Tensor> {
        self.unary(Unary::Function(function), x)
    }

    pub(super) fn activation(&mut self, activation: Activation, x: &Tensor) -> Result<Tensor> {
        self.unary(Unary::Activation(activation), x)
    }

    pub(super) fn affine(&mut self, x: &Tensor, scale: f64, offset: f64) -> Result<Tensor> {
        self.unary(Unary::Affine { scale: scale as f32, offset: offset as f32 }, x)
    }

    pub(super) fn cast(&mut self, x: &Tensor, dtype: DType) -> Result<Tensor> {
        let value = self.graph.cast(x.value, dtype)?;
        Ok(Tensor { value, axes: x.axes.clone() })
    }

    /// `x`, its bytes read as elements of another type.
    pub(super) fn bits(&mut self, x: &Tensor, dtype: DType) -> Result<Tensor> {
        if self.dtype(x) == dtype {
            return Ok(x.clone());
        }
        let value = self.dense(x)?;
        let value = self.graph.push(Op::Bits(dtype), &[value])?;
        Ok(self.plain(value))
    }

    /// An argument or stored tensor of the program's type `code` as it is computed.
    pub(super) fn computed(&mut self, x: &Tensor, code: u32) -> Result<Tensor> {
        if !is_complex(code) {
            return self.cast(x, dtype_of(code)?);
        }
        let mut shape = self.shape(x);
        shape.push(1.into());
        let x = self.reshape(x, &shape)?;
        self.bits(&x, DType::F32)
    }

    /// A result of the program's type `code` as the caller is told it.
    pub(super) fn as_told(&mut self, x: &Tensor, code: u32) -> Result<Tensor> {
        if !is_complex(code) {
            return self.cast(x, told_of(code)?);
        }
        let x = self.cast(x, DType::F32)?;
        let x = self.bits(&x, DType::C64)?;
        self.without(&x, x.rank().saturating_sub(1))
    }

    /// A rank-0 tensor.
    pub(super) fn number(&mut self, number: f64, dtype: DType) -> Result<Tensor> {
        let array = match dtype {
            DType::F32 => NDArray::scalar(number as f32),
            DType::F16 => NDArray::scalar(half::f16::from_f64(number)),
            DType::BF16 => NDArray::scalar(half::bf16::from_f64(number)),
            DType::I64 => NDArray::scalar(number as i64),
            DType::I32 => NDArray::scalar(number as i32),
            DType::I8 => NDArray::scalar(number as i8),
            DType::U8 => NDArray::scalar(number as u8),
            DType::Bool => NDArray::from_bytes(DType::Bool, &[], &[u8::from(number != 0.0)])?,
            DType::F64 => NDArray::scalar(number),
            DType::I16 => NDArray::scalar(number as i16),
            DType::U16 => NDArray::scalar(number as u16),
            DType::U32 => NDArray::scalar(number as u32),
            DType::U64 => NDArray::scalar(number as u64),
            DType::C64 => fail!(Unsupported, "a complex constant"),
        };
        let value = self.graph.constant(array);
        Ok(self.plain(value))
    }

    /// `count` integers from `start` on.
    pub(super) fn range(&mut self, start: &Dim, step: i64, count: &Dim) -> Result<Tensor> {
        let value = match (start.constant(), count.fixed()) {
            (Some(start), Some(count)) if count <= 1 << 16 => {
                let values: Vec<i64> = (0..count as i64).map(|i| start.wrapping_add(i.wrapping_mul(step))).collect();
                self.graph.constant(NDArray::new(&[count], &values)?)
            }
            _ => self.graph.push(Op::Range { start: start.clone(), step, count: count.clone() }, &[])?,
        };
        Ok(self.plain(value))
    }

    /// The shape of what broadcasts; sizes that must be equal for that are asked of calls.
    pub(super) fn broadcast_shape(&mut self, a: &Shape, b: &Shape) -> Result<Shape> {
        let mut supposed = Supposed::default();
        let shape = broadcast(a, b, &mut supposed)?;
        supposed.pairs().iter().for_each(|[a, b]| self.graph.guard(Guard::equal("they broadcast", a, b)));
        Ok(shape)
    }

    /// `x` repeated to `shape`.
    pub(super) fn expand(&mut self, x: &Tensor, shape: &[Dim]) -> Result<Tensor> {
        let shape: Vec<Dim> = shape.iter().map(|dim| self.called(dim)).collect();
        if self.shape(x) == shape {
            return Ok(x.clone());
        }
        let value = self.dense(x)?;
        let value = self.graph.push(Op::Expand(shape.into()), &[value])?;
        Ok(self.plain(value))
    }

    pub(super) fn slice(&mut self, x: &Tensor, axis: usize, start: &Dim, end: &Dim) -> Result<Tensor> {
        if start.constant() == Some(0) && *end == self.dim(x, axis) {
            return Ok(x.clone());
        }
        let value = self.graph.slice(x.value, stored(x, axis)?, start, end)?;
        Ok(Tensor { value, axes: x.axes.clone() })
    }

    pub(super) fn concat(&mut self, tensors: &[&Tensor], axis: usize) -> Result<Tensor> {
        let Some(first) = tensors.first() else { fail!(Shape, "nothing to concatenate") };
        if tensors.len() == 1 {
            return Ok((*first).clone());
        }
        // The order in which most of them are stored.
        let votes = |x: &&&Tensor| tensors.iter().filter(|other| other.axes == x.axes).count();
        let order = inverse(&tensors.iter().max_by_key(votes).unwrap_or(first).axes);
        let values = tensors.iter().map(|x| self.stored(x, &order)).collect::<Result<Vec<_>>>()?;
        let value = self.graph.concat(&values, inverse(&order)[axis])?;
        Ok(Self::ordered(value, &order))
    }

    /// The parts of `x` along `axis` that `indices` name.
    pub(super) fn take(&mut self, x: &Tensor, axis: usize, indices: &Tensor) -> Result<Tensor> {
        let indices = self.cast(indices, DType::I64)?;
        let indices = self.guarded(&indices)?;
        let indices = self.dense(&indices)?;
        if self.graph.shape(indices).rank() == 1 {
            let value = self.graph.push(Op::Take { axis: stored(x, axis)? }, &[x.value, indices])?;
            return Ok(Tensor { value, axes: x.axes.clone() });
        }
        let x = self.dense(x)?;
        let value = self.graph.push(Op::Take { axis }, &[x, indices])?;
        Ok(self.plain(value))
    }

    /// The opposite of a truth value.
    pub(super) fn not(&mut self, x: &Tensor) -> Result<Tensor> {
        let x = self.cast(x, DType::Bool)?;
        let yes = self.number(1.0, DType::Bool)?;
        self.binary(Binary::Xor, &x, &yes)
    }

    /// `a` where `condition` holds, else `b`.
    pub(super) fn select(&mut self, condition: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        self.broadcast(Op::Select, &[condition, a, b])
    }
}

/// How many elements a tensor of `shape` has.
pub(super) fn elements(shape: &[Dim]) -> Dim {
    shape.iter().fold(Dim::from(1), |product, dim| &product * dim)
}

/// Refuses lists of more positions than a graph should hold.
///
/// # Errors
/// If the product of `counts` is larger.
pub(super) fn check_list(counts: &[usize]) -> Result<()> {
    match counts.iter().try_fold(1_usize, |product, &count| product.checked_mul(count)) {
        Some(count) if count <= MAX_LIST => Ok(()),
        _ => fail!(Unsupported, "a list of {counts:?} positions"),
    }
}

/// Where dimension `axis` is stored.
fn stored(x: &Tensor, axis: usize) -> Result<usize> {
    match x.axes.get(axis) {
        Some(&stored) => Ok(stored),
        None => fail!(Shape, "dimension {axis} does not exist in rank {}", x.rank()),
    }
}

/// The type in which numbers of a type are computed with, to be cut to their size again.
pub(super) fn wide(dtype: DType) -> DType {
    match dtype {
        DType::I8 | DType::U8 | DType::I16 | DType::U16 | DType::Bool => DType::I32,
        DType::U32 | DType::U64 => DType::I64,
        DType::F16 | DType::BF16 | DType::F64 => DType::F32,
        DType::F32 | DType::I64 | DType::I32 | DType::C64 => dtype,
    }
}

/// Dimensions of a reshape that become one another, independent of all others.
struct Group {
    from: std::ops::Range<usize>,
    to: Vec<usize>,
}

/// The independent parts of a reshape, if that can be told.
fn groups(from: &[Dim], to: &[Dim]) -> Option<Vec<Group>> {
    let one = Dim::from(1);
    if from.iter().chain(to).any(|dim| dim.fixed() == Some(0)) {
        return None;
    }
    let (mut groups, mut i, mut j) = (Vec::new(), 0, 0);
    while i < from.len() || j < to.len() {
        let (first, second) = (i, j);
        match (from.get(i), to.get(j)) {
            (Some(a), Some(b)) if *a == one && *b != one => i += 1,
            (Some(a), Some(b)) if *b == one && *a != one => j += 1,
            (Some(a), None) if *a == one => i += 1,
            (None, Some(b)) if *b == one => j += 1,
            (Some(a), Some(b)) => {
                let (mut a, mut b) = (a.clone(), b.clone());
                (i, j) = (i + 1, j + 1);
                while a != b {
                    match (a.fixed(), b.fixed()) {
                        (Some(x), Some(y)) if x > y => {
                            b = &b * to.get(j)?;
                            j += 1;
                        }
                        (Some(_), Some(_)) | (Some(_), None) => {
                            a = &a * from.get(i)?;
                            i += 1;
                        }
                        _ => {
                            b = &b * to.get(j)?;
                            j += 1;
                        }
                    }
                }
            }
            _ => return None,
        }
        groups.push(Group { from: first..i, to: (second..j).collect() });
    }
    Some(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(builder: &mut Builder) -> Tensor {
        let value = builder.graph.input("x", DType::F32, [1, 8, 8, 6]);
        Builder::ordered(value, &[0, 2, 3, 1])
    }

    #[test]
    fn a_pending_order_outlives_elementwise_operators_and_reshapes() {
        let mut builder = Builder::default();
        let x = image(&mut builder);
        assert_eq!(builder.shape(&x), [1, 6, 8, 8].map(Dim::from));
        let bias = builder.graph.input("bias", DType::F32, [6, 1, 1]);
        let bias = builder.plain(bias);
        let y = builder.binary(Binary::Add, &x, &bias).unwrap();
        let y = builder.reshape(&y, &[1, 6, 64].map(Dim::from)).unwrap();
        let y = Builder::swapped(&y, 1, 2);
        let value = builder.dense(&y).unwrap();
        assert_eq!(*builder.graph.shape(value), Shape::from([1, 64, 6]));
        assert!(builder.graph.nodes().iter().all(|node| !matches!(node.op, Op::Permute(_))), "{}", builder.graph);
    }

    #[test]
    fn what_lies_as_if_it_were_plain_moves_nothing() {
        let mut builder = Builder::default();
        let x = builder.graph.input("x", DType::F32, [1, 6]);
        let column = builder.graph.input("column", DType::F32, [6, 1]);
        let (x, row) = (builder.plain(x), Builder::ordered(column, &[1, 0]));
        let y = builder.binary(Binary::Sub, &x, &row).unwrap();
        let graph = &builder.graph;
        assert_eq!((graph.node(y.value).inputs[0], graph.shape(y.value)), (x.value, &Shape::from([1, 6])), "{graph}");
        assert!(graph.nodes().iter().all(|node| !matches!(node.op, Op::Permute(_))), "{graph}");
    }

    #[test]
    fn a_reshape_across_pending_orders_moves_first() {
        let mut builder = Builder::default();
        let x = image(&mut builder);
        let y = builder.reshape(&x, &[48, 8].map(Dim::from)).unwrap();
        assert_eq!(builder.shape(&y), [48, 8].map(Dim::from));
        assert!(builder.graph.nodes().iter().any(|node| matches!(node.op, Op::Permute(_))));
    }
}

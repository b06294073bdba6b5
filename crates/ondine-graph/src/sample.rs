//! Inputs for a graph of which nothing else is known: sizes for its symbols, and random arguments that fit.

use std::{collections::BTreeSet, sync::Arc};

use half::{bf16, f16};

use crate::{
    dim::Bindings,
    dtype::DType,
    error::{Context, Result},
    graph::{Graph, Value},
    ndarray::{Element, NDArray},
    op::Op,
};

/// Arguments of a call, by name.
pub type Arguments = Vec<(String, NDArray)>;

/// The symbols that the shapes of the inputs depend on.
#[must_use]
pub fn symbols(graph: &Graph) -> BTreeSet<Arc<str>> {
    let mut symbols = BTreeSet::new();
    for (_, value) in graph.inputs() {
        graph.shape(*value).0.iter().for_each(|dim| dim.symbols(&mut symbols));
    }
    symbols
}

/// A size for each symbol: what the graph expects, or else what is `likely`, within the limits of the graph.
pub fn sizes(graph: &Graph, likely: impl Fn(&str) -> usize) -> Bindings {
    let size = |symbol: &Arc<str>| {
        let [least, most] = graph.limits().get(symbol).copied().unwrap_or([1, usize::MAX]);
        graph.typical().get(symbol).copied().unwrap_or_else(|| likely(symbol).clamp(least, most.max(least)))
    };
    symbols(graph).into_iter().map(|symbol| (symbol.clone(), size(&symbol))).collect()
}

/// Arguments that are the same for the same seed: floats of a normal distribution, indices within the tables that they
/// are looked up in, and ones for all other integers and for truth values, so that masks hide nothing.
///
/// # Errors
/// If a size is not bound, or there is no memory for an argument.
pub fn arguments(graph: &Graph, sizes: &Bindings, seed: u64) -> Result<Arguments> {
    let mut random = Random::new(seed);
    let argument = |(name, value): &(Arc<str>, Value)| {
        Ok((name.to_string(), argument(graph, *value, sizes, &mut random).at(|| format!("input `{name}`"))?))
    };
    graph.inputs().iter().map(argument).collect()
}

fn argument(graph: &Graph, input: Value, sizes: &Bindings, random: &mut Random) -> Result<NDArray> {
    let signature = &graph.node(input).signature;
    let shape = signature.shape.bind(sizes)?;
    let rows = table_rows(graph, input);
    if let Some(size) = number(graph, input, sizes) {
        return filled(&shape, || size);
    }
    let mut index = |most: u64| rows.map_or(1, |rows| random.next() % (rows as u64).min(most));
    match signature.dtype {
        DType::Bool => {
            let mut array = NDArray::zeros(DType::Bool, &shape)?;
            array.bytes_mut().fill(1);
            Ok(array)
        }
        DType::I64 => filled(&shape, || index(i64::MAX as u64) as i64),
        DType::I32 => filled(&shape, || index(i32::MAX as u64) as i32),
        DType::I8 => filled(&shape, || index(i8::MAX as u64) as i8),
        DType::U8 => filled(&shape, || index(u8::MAX.into()) as u8),
        DType::F32 => filled(&shape, || random.normal()),
        DType::F16 => filled(&shape, || f16::from_f32(random.normal())),
        DType::BF16 => filled(&shape, || bf16::from_f32(random.normal())),
        DType::F64 => filled(&shape, || f64::from(random.normal())),
        DType::C64 => {
            let mut array = NDArray::zeros(DType::C64, &shape)?;
            let parts: &mut [f32] = bytemuck::cast_slice_mut(array.bytes_mut());
            parts.fill_with(|| random.normal());
            Ok(array)
        }
        DType::I16 => filled(&shape, || index(i16::MAX as u64) as i16),
        DType::U16 => filled(&shape, || index(u16::MAX.into()) as u16),
        DType::U32 => filled(&shape, || index(u32::MAX.into()) as u32),
        DType::U64 => filled(&shape, || index(i64::MAX as u64)),
    }
}

fn filled<T: Element>(shape: &[usize], element: impl FnMut() -> T) -> Result<NDArray> {
    let mut array = NDArray::zeros(T::DTYPE, shape)?;
    array.view_mut::<T>()?.fill_with(element);
    Ok(array)
}

/// The size that an input is the number of, if the graph expects one.
fn number(graph: &Graph, input: Value, sizes: &Bindings) -> Option<i64> {
    let measures = graph.nodes().iter().filter(|node| node.inputs.first() == Some(&input));
    let mut numbers = measures.filter_map(|node| match &node.op {
        Op::Measure { size, .. } => size.number(sizes).or_else(|_| size.number(graph.typical())).ok(),
        _ => None,
    });
    numbers.next()
}

/// The rows of the smallest table that an input is an index of, as far as that can be seen.
fn table_rows(graph: &Graph, input: Value) -> Option<usize> {
    let mut reached = BTreeSet::from([input]);
    let mut least = None;
    for (value, node) in graph.values() {
        let reads = |position: usize| node.inputs.get(position).is_some_and(|input| reached.contains(input));
        match &node.op {
            Op::Gather if reads(1) => least = least.into_iter().chain(rows(graph, node.inputs[0], 0)).min(),
            Op::Take { axis } if reads(1) => least = least.into_iter().chain(rows(graph, node.inputs[0], *axis)).min(),
            op if moves(op) && (0..node.inputs.len()).any(reads) => _ = reached.insert(value),
            _ => {}
        }
    }
    least
}

fn rows(graph: &Graph, table: Value, axis: usize) -> Option<usize> {
    graph.dim(table, axis).fixed().filter(|&rows| rows > 0)
}

/// True of operators that yield numbers that they are given.
fn moves(op: &Op) -> bool {
    matches!(op, Op::Cast(_) | Op::Concat { .. } | Op::Expand(_) | Op::Permute(_) | Op::Reshape(_) | Op::Slice { .. })
}

/// Numbers that look random: the same for the same seed (SplitMix64, Steele, Lea and Flood 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A stream of its own for each seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 random bits.
    #[expect(clippy::should_implement_trait, reason = "a stream without an end is no iterator to loop over")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// In 0..1, never 0.
    fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// Of mean 0 and variance 1 (Box and Muller 1958).
    pub fn normal(&mut self) -> f32 {
        let (radius, angle) = ((-2.0 * self.uniform().ln()).sqrt(), std::f64::consts::TAU * self.uniform());
        (radius * angle.cos()) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{dim::Dim, error::ErrorKind};

    #[test]
    fn sizes_are_those_expected_or_likely_within_limits() {
        let mut graph = Graph::new();
        let shape = ["a", "b", "c"].map(Dim::symbol).to_vec();
        graph.input("x", DType::F32, shape);
        graph.expect("a", 5);
        graph.limit("b", 2, 6);
        let sizes = sizes(&graph, |symbol| if symbol == "c" { 3 } else { 9 });
        assert_eq!(sizes.into_values().collect::<Vec<_>>(), [5, 6, 3]);
    }

    #[test]
    fn indices_stay_within_the_smallest_table_and_masks_hide_nothing() {
        let mut graph = Graph::new();
        let [ids, mask] = ["ids", "mask"].map(|name| graph.input(name, DType::I64, [Dim::symbol("n")]));
        let both = graph.concat(&[ids, ids], 0).unwrap();
        for rows in [9, 3] {
            let table = graph.weight(&format!("table{rows}"), &[rows, 2]).unwrap();
            let y = graph.gather(table, both).unwrap();
            graph.output(&format!("y{rows}"), y);
        }
        let seen = graph.cast(mask, DType::F32).unwrap();
        graph.output("seen", seen);
        let arguments = arguments(&graph, &Bindings::from([("n".into(), 64)]), 1).unwrap();
        let ids = arguments[0].1.view::<i64>().unwrap();
        assert!((0..3).all(|row| ids.contains(&row)) && ids.iter().all(|id| (0..3).contains(id)), "{ids:?}");
        assert_eq!(arguments[1].1.view::<i64>().unwrap(), [1; 64]);
    }

    #[test]
    fn every_type_is_filled_and_too_much_is_an_error() {
        let mut graph = Graph::new();
        let types = DType::ALL.into_iter().filter(|&dtype| dtype != DType::C64).collect::<Vec<_>>();
        for &dtype in &types {
            graph.input(dtype.name(), dtype, [Dim::symbol("n")]);
        }
        let sized = |n| arguments(&graph, &Bindings::from([("n".into(), n)]), 1);
        let drawn = sized(1000).unwrap();
        for (dtype, (_, array)) in types.iter().zip(&drawn) {
            let numbers = array.to_f32();
            let mean = numbers.iter().sum::<f32>() / 1000.0;
            let wanted = if dtype.is_float() { 0.0 } else { 1.0 };
            assert!(array.dtype() == *dtype && (mean - wanted).abs() < 0.1, "{dtype} {mean}");
        }
        let error = sized(usize::MAX / 2).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Shape);
        assert!(error.to_string().starts_with("input `F32`: "), "{error}");
    }
}

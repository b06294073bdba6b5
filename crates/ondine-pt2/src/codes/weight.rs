//! A weight that is computed from stored integers: which codes, scales and zeros it has.

use std::sync::Arc;

use half::f16;
use ondine_graph::{
    Binary, Bytes, DType, Graph, Op, Tensor, Unary, Value, Weights,
    encoding::{ENCODING, SCALE, ZERO, code_bytes, pack_codes, symmetric_zero},
};

use super::numbers::{MOST_STEPS, Numbers, evaluate};

/// Elements with one scale, at least: fewer would take more memory than the codes.
const LEAST_GROUP: usize = 8;

/// `scale * (code - zero)`, element by element; without a scale it is 1, without a zero it is 0.
struct Field {
    codes: Numbers<f32>,
    scale: Option<Numbers<f32>>,
    zero: Option<Numbers<f32>>,
}

/// A weight as it is stored when encoded.
pub(super) struct Stored {
    shape: Vec<usize>,
    bits: u32,
    group: usize,
    codes: Vec<u8>,
    scales: Vec<f32>,
    /// Empty if the middle stands for 0.
    zeros: Vec<f32>,
}

/// How a value is stored, if it is computed from integers of 8 bits as a weight in few bits is.
pub(super) fn stored(graph: &Graph, weights: &Weights, value: Value) -> Option<Stored> {
    if !is_of_codes(graph, value) {
        return None;
    }
    let field = field(graph, weights, value)?;
    let shape = field.codes.shape.clone();
    let columns: usize = shape.get(1..)?.iter().product();
    if shape.len() < 2 || columns == 0 || shape[0] == 0 {
        return None;
    }
    let count = field.codes.data.len();
    let scale = field.scale.map_or_else(|| vec![1.0; count], |scale| scale.data);
    let zero = field.zero.map_or_else(|| vec![0.0; count], |zero| zero.data);
    let group = group(&scale, &zero, columns);
    if group < LEAST_GROUP.min(columns) || scale.iter().any(|scale| !scale.is_finite()) {
        return None;
    }
    let first = |of: &[f32]| -> Vec<f32> {
        of.chunks(columns).flat_map(|row| row.chunks(group).map(|group| group[0])).collect()
    };
    let (bits, move_by) = bits_of(&field.codes.data, &zero)?;
    let codes = field.codes.data.iter().map(|code| (code + move_by) as u8).collect();
    let mut zeros: Vec<f32> = first(&zero).iter().map(|zero| zero + move_by).collect();
    if zeros.iter().any(|&zero| f16::from_f32(zero).to_f32() != zero) {
        return None;
    }
    if zeros.iter().all(|&zero| zero == symmetric_zero(bits)) {
        zeros.clear();
    }
    Some(Stored { shape, bits, group, codes, scales: first(&scale), zeros })
}

/// True if integers of 8 bits are what it is computed from.
fn is_of_codes(graph: &Graph, value: Value) -> bool {
    let mut steps = MOST_STEPS;
    has_codes(graph, value, &mut steps)
}

fn has_codes(graph: &Graph, value: Value, steps: &mut usize) -> bool {
    if *steps == 0 {
        return false;
    }
    *steps -= 1;
    let node = graph.node(value);
    match &node.op {
        Op::Const(array) => matches!(array.dtype(), DType::I8 | DType::U8) && !array.is_empty(),
        Op::Cast(_) | Op::Reshape(_) | Op::Permute(_) | Op::Unary(Unary::Affine { .. }) => {
            has_codes(graph, node.inputs[0], steps)
        }
        Op::Binary(Binary::Mul | Binary::Sub | Binary::Add) => {
            node.inputs.iter().any(|&input| has_codes(graph, input, steps))
        }
        _ => false,
    }
}

/// The field of a value.
fn field(graph: &Graph, weights: &Weights, value: Value) -> Option<Field> {
    let node = graph.node(value);
    let shape = node.signature.shape.fixed()?;
    let of = |position: usize| field(graph, weights, *node.inputs.get(position)?);
    let fixed = |position: usize| -> Option<Numbers<f32>> {
        let Numbers { shape, data } = evaluate(graph, weights, *node.inputs.get(position)?)?;
        Some(Numbers { shape, data: data.into_iter().map(|x| x as f32).collect() })
    };
    Some(match &node.op {
        Op::Const(array) => Field { codes: Numbers { shape, data: array.to_f32() }, scale: None, zero: None },
        Op::Cast(_) => of(0)?,
        Op::Reshape(_) => of(0)?.moved(|numbers| numbers.reshaped(&shape))?,
        Op::Permute(axes) => of(0)?.moved(|numbers| Some(numbers.permuted(axes)))?,
        Op::Unary(Unary::Affine { scale, offset: 0.0 }) => of(0)?.scaled(&number(*scale))?,
        Op::Unary(Unary::Affine { scale: 1.0, offset }) => of(0)?.zeroed(&number(-*offset))?,
        Op::Binary(op) => {
            let (codes, other) = match is_of_codes(graph, *node.inputs.first()?) {
                true => (of(0)?, fixed(1)?),
                false if *op == Binary::Mul => (of(1)?, fixed(0)?),
                false => return None,
            };
            if codes.codes.shape != shape {
                return None;
            }
            match op {
                Binary::Mul => codes.scaled(&other)?,
                Binary::Sub => codes.zeroed(&other)?,
                Binary::Add => {
                    let data = other.data.iter().map(|x| -x).collect();
                    codes.zeroed(&Numbers { shape: other.shape, data })?
                }
                _ => return None,
            }
        }
        _ => return None,
    })
}

fn number(number: f32) -> Numbers<f32> {
    Numbers { shape: Vec::new(), data: vec![number] }
}

impl Field {
    fn moved(self, how: impl Fn(Numbers<f32>) -> Option<Numbers<f32>>) -> Option<Self> {
        let part = |part: Option<Numbers<f32>>| match part {
            Some(part) => how(part).map(Some),
            None => Some(None),
        };
        Some(Self { codes: how(self.codes)?, scale: part(self.scale)?, zero: part(self.zero)? })
    }

    fn scaled(self, by: &Numbers<f32>) -> Option<Self> {
        let mut by = by.expanded(&self.codes.shape)?;
        if let Some(scale) = &self.scale {
            by.data.iter_mut().zip(&scale.data).for_each(|(by, scale)| *by *= scale);
        }
        Some(Self { scale: Some(by), ..self })
    }

    /// With another zero, which is in steps as long as there is no scale.
    fn zeroed(self, by: &Numbers<f32>) -> Option<Self> {
        if self.scale.is_some() {
            return None;
        }
        let mut by = by.expanded(&self.codes.shape)?;
        if let Some(zero) = &self.zero {
            by.data.iter_mut().zip(&zero.data).for_each(|(by, zero)| *by += zero);
        }
        Some(Self { zero: Some(by), ..self })
    }
}

/// How many consecutive elements of a row share scale and zero, in every row.
fn group(scale: &[f32], zero: &[f32], columns: usize) -> usize {
    let mut group = columns;
    for (scale, zero) in scale.chunks(columns).zip(zero.chunks(columns)) {
        for at in 1..columns {
            if scale[at] != scale[at - 1] || zero[at] != zero[at - 1] {
                group = greatest_divisor(group, at);
            }
        }
    }
    group
}

fn greatest_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_divisor(b, a % b) }
}

/// The bits that the codes take, and what is added to them so that they begin at 0.
fn bits_of(codes: &[f32], zero: &[f32]) -> Option<(u32, f32)> {
    let (low, high) = codes.iter().fold((f32::MAX, f32::MIN), |(low, high), &code| (low.min(code), high.max(code)));
    let same = zero.iter().all(|&other| other == zero[0]);
    for bits in [2, 4, 8] {
        let top = f32::from((1_u16 << bits) - 1);
        // One zero for all becomes the middle, if the codes reach no further on either side of it.
        let middle = f32::from(1_u8 << (bits - 1)) - zero[0];
        let ways = [same.then_some(middle), Some(f32::from(1_u8 << (bits - 1))), Some(0.0)];
        let fits = |by: &f32| by.fract() == 0.0 && low + by >= 0.0 && high + by <= top;
        if let Some(by) = ways.into_iter().flatten().find(fits) {
            return Some((bits, by));
        }
    }
    None
}

impl Stored {
    /// Adds the weight to others, under a name that tells whose it is, which it yields.
    pub(super) fn insert(self, scope: &str, weights: &mut Weights) -> Arc<str> {
        let name = |count: usize| match count {
            0 => format!("{scope}.weight#int{}", self.bits),
            _ => format!("{scope}.weight#int{}.{count}", self.bits),
        };
        let path = (0..).map(name).find(|path| weights.get(path).is_none()).unwrap_or_default();
        let file: Arc<str> =
            weights.iter().next().map_or_else(|| "the archive".into(), |(_, tensor)| tensor.file.clone());
        let rows = self.shape[0];
        let columns = self.codes.len() / rows;
        let groups = columns.div_ceil(self.group);
        let row_bytes = code_bytes(columns, self.bits).unwrap_or_default();
        let mut packed = vec![0; rows * row_bytes];
        for (codes, out) in self.codes.chunks(columns).zip(packed.chunks_mut(row_bytes)) {
            pack_codes(codes, self.bits, out);
        }
        let mut header = vec![i64::from(self.bits), self.group as i64];
        header.extend(self.shape.iter().map(|&size| size as i64));
        let mut insert = |part: &str, dtype: DType, shape: Vec<usize>, bytes: &[u8]| {
            let tensor = Tensor { dtype, shape, bytes: Bytes::from(bytes), file: file.clone() };
            weights.insert(&format!("{path}{part}"), tensor);
        };
        insert("", DType::U8, vec![rows, row_bytes], &packed);
        let words: Vec<u8> = header.iter().flat_map(|word| word.to_le_bytes()).collect();
        insert(ENCODING, DType::I64, vec![header.len()], &words);
        let scales: Vec<u8> = self.scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
        insert(SCALE, DType::F32, vec![rows, groups], &scales);
        if !self.zeros.is_empty() {
            let zeros: Vec<u8> = self.zeros.iter().flat_map(|&zero| f16::from_f32(zero).to_le_bytes()).collect();
            insert(ZERO, DType::F16, vec![rows, groups], &zeros);
        }
        path.into()
    }
}

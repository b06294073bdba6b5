//! Products with weights of 4 bits in the order in which PyTorch's kernels read them (`_weight_int4pack_mm_for_cpu`).
//!
//! `torch._convert_weight_to_int4pack_for_cpu` writes codes in one of three orders, by the vectors of the processor
//! that it runs on, and the archive does not say in which. A quantizer that reaches from the least to the largest
//! number of each group leaves the first and the last code in every group, which is rarely so where elements of a row
//! are read as another's. So the order of vectors of 16 lanes (AVX-512) is told from the others; those differ in the
//! order of whole rows, which no code tells.

use ondine_graph::{Binary, DType, NDArray, Op, Result, fail};

use super::{
    product::linear_of,
    rule::{Rule, one},
};
use crate::{
    builder::{Builder, Tensor},
    call::{Call, Item},
};

/// The operators of this file.
pub(super) const RULES: &[Rule] = &[
    Rule::new("_weight_int4pack_mm", packed_elsewhere),
    Rule::new("_weight_int4pack_mm_for_cpu", product),
    Rule::new("_weight_int4pack_mm_with_scales_and_zeros", packed_elsewhere),
];

/// What to do instead.
const INSTEAD: &str = "quantize with torchao's IntxWeightOnlyConfig(torch.int4, PerGroup(32)) before exporting instead";

/// Of the groups, how many have both ends of the codes in the right order, at least; a group whose numbers are all the
/// same has not.
const MOST_GROUPS: f64 = 0.97;

/// Rows that lie side by side: of vectors of 16 and of 8 lanes, and without vectors.
const ORDERS: [Order; 3] = [Order::Wide, Order::Half, Order::Pairs];

/// How the codes of a matrix lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Blocks of 64 rows: by column, 32 bytes, each of a row and of that 32 rows further down.
    Wide,
    /// Blocks of 32 rows: by column, 16 bytes, each of a row and of that 16 rows further down.
    Half,
    /// Blocks of 32 rows: by column, 16 bytes, each of two rows that follow each other.
    Pairs,
}

impl Order {
    /// Rows of a block, unless it is the last.
    fn block(self) -> usize {
        match self {
            Self::Wide => 64,
            Self::Half | Self::Pairs => 32,
        }
    }

    /// Where the code of a row in its block of `count` rows lies: which byte of a column, and if in its upper half.
    fn place(self, row: usize, count: usize) -> (usize, bool) {
        match self {
            // Blocks that are not full lie in pairs.
            Self::Wide | Self::Half if count == self.block() => {
                let half = count / 2;
                (row % half, row >= half)
            }
            _ => (row / 2, row % 2 == 1),
        }
    }

    /// The codes `[rows, columns]` of packed bytes; `rows` is even.
    fn codes(self, bytes: &[u8], rows: usize, columns: usize) -> Vec<u8> {
        let mut codes = vec![0; rows * columns];
        for first in (0..rows).step_by(self.block()) {
            let count = self.block().min(rows - first);
            let bytes = &bytes[first * columns / 2..][..count * columns / 2];
            for row in 0..count {
                let (byte, upper) = self.place(row, count);
                let from = bytes.iter().skip(byte).step_by(count / 2);
                for (code, &byte) in codes[(first + row) * columns..][..columns].iter_mut().zip(from) {
                    *code = if upper { byte >> 4 } else { byte & 15 };
                }
            }
        }
        codes
    }
}

/// The share of groups that have both the first and the last code.
fn spread(codes: &[u8], group: usize) -> f64 {
    let both = codes.chunks(group).filter(|group| group.contains(&0) && group.contains(&15)).count();
    both as f64 / codes.len().div_ceil(group).max(1) as f64
}

/// The codes of packed bytes, if one order alone makes a weight of them.
fn unpacked(bytes: &[u8], [rows, columns]: [usize; 2], group: usize) -> Option<Vec<u8>> {
    let mut ways: Vec<Vec<u8>> = ORDERS.iter().map(|order| order.codes(bytes, rows, columns)).collect();
    ways.dedup();
    if ways.len() > 1 {
        ways.retain(|codes| spread(codes, group) >= MOST_GROUPS);
    }
    ways.dedup();
    let first = ways.pop()?;
    ways.is_empty().then_some(first)
}

/// The array of a tensor that is written in the archive as it is.
fn array<'b>(builder: &'b Builder, x: &Tensor) -> Option<&'b NDArray> {
    match &builder.graph.node(x.value).op {
        Op::Const(array) if x.axes.is_sorted() => Some(array),
        _ => None,
    }
}

/// `x` times the transposed weight `scale * (code - 8) + zero`, whose scales and zeros are `[groups, rows, 2]`.
fn product(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let packed = call.tensor("mat2")?;
    let group = usize::try_from(call.integer("qGroupSize", 32)?).unwrap_or_default();
    let bytes = array(builder, &packed).filter(|array| array.dtype() == DType::U8 && array.shape().len() == 2);
    let Some(bytes) = bytes else { fail!(Unsupported, "weights of 4 bits that are computed; {INSTEAD}") };
    let (rows, columns) = (bytes.shape()[0], 2 * bytes.shape()[1]);
    if group == 0 || !columns.is_multiple_of(group) || !rows.is_multiple_of(2) {
        fail!(Shape, "groups of {group} in a weight of 4 bits, {rows} by {columns}");
    }
    let Some(codes) = unpacked(bytes.view::<u8>()?, [rows, columns], group) else {
        fail!(
            Unsupported,
            "one processor has packed these 4-bit weights for itself, in an order that neither the archive nor the \
             codes tell; {INSTEAD}"
        );
    };
    let groups = columns / group;
    let numbers = call.float_tensor(builder, "qScaleAndZeros")?;
    let of = |builder: &mut Builder, at: usize| {
        let one = builder.slice(&numbers, 2, &at.into(), &(at + 1).into())?;
        let turned = Builder::permuted(&one, &[1, 0, 2]);
        builder.reshape(&turned, &[rows.into(), groups.into(), 1.into()])
    };
    let (scale, zero) = (of(builder, 0)?, of(builder, 1)?);
    let codes = builder.graph.constant(NDArray::new(&[rows, groups, group], &codes)?);
    let codes = builder.plain(codes);
    let codes = builder.cast(&codes, DType::F32)?;
    let centred = builder.affine(&codes, 1.0, -8.0)?;
    let scaled = builder.binary(Binary::Mul, &centred, &scale)?;
    let weight = builder.binary(Binary::Add, &scaled, &zero)?;
    let weight = builder.reshape(&weight, &[rows.into(), columns.into()])?;
    one(linear_of(builder, &x, &weight, None)?)
}

fn packed_elsewhere(_: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    fail!(Unsupported, "`{}` reads 4-bit weights that another device has packed for itself; {INSTEAD}", call.op)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes of which each group has both ends, at places that follow no pattern.
    fn weight(rows: usize, columns: usize, group: usize) -> Vec<u8> {
        let mut state = 12_345_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as usize
        };
        let mut codes: Vec<u8> = (0..rows * columns).map(|_| 1 + (next() % 14) as u8).collect();
        for group in codes.chunks_mut(group) {
            let (least, half) = (next() % group.len(), group.len() / 2);
            group[least] = 0;
            group[(least + 1 + next() % (half - 1)) % (2 * half)] = 15;
        }
        codes
    }

    fn packed(order: Order, codes: &[u8], rows: usize, columns: usize) -> Vec<u8> {
        let mut bytes = vec![0; rows * columns / 2];
        for (at, code) in codes.iter().enumerate() {
            let (row, column) = (at / columns, at % columns);
            let first = row / order.block() * order.block();
            let count = order.block().min(rows - first);
            let (byte, upper) = order.place(row - first, count);
            bytes[first * columns / 2 + column * count / 2 + byte] |= code << if upper { 4 } else { 0 };
        }
        bytes
    }

    #[test]
    fn the_order_of_wide_vectors_is_found_from_the_codes() {
        for (rows, columns, group) in [(96, 128, 32), (128, 256, 64), (64, 64, 32), (160, 512, 256), (48, 64, 32)] {
            let codes = weight(rows, columns, group);
            let found = unpacked(&packed(Order::Wide, &codes, rows, columns), [rows, columns], group);
            assert!(found.as_ref() == Some(&codes), "{rows} by {columns}");
        }
    }

    #[test]
    fn orders_that_differ_in_whole_rows_are_not_guessed() {
        for (rows, order) in [(96, Order::Half), (96, Order::Pairs), (32, Order::Wide), (32, Order::Half)] {
            let bytes = packed(order, &weight(rows, 64, 32), rows, 64);
            assert!(unpacked(&bytes, [rows, 64], 32).is_none(), "{order:?} of {rows} rows");
        }
        // Too few for any vectors, which makes all orders one.
        for order in ORDERS {
            let codes = weight(16, 64, 32);
            assert!(unpacked(&packed(order, &codes, 16, 64), [16, 64], 32).as_ref() == Some(&codes), "{order:?}");
        }
    }

    #[test]
    fn codes_that_leave_out_the_ends_do_not_tell() {
        let codes: Vec<u8> = weight(96, 128, 32).iter().map(|code| (*code).clamp(1, 14)).collect();
        assert_eq!(unpacked(&packed(Order::Half, &codes, 96, 128), [96, 128], 32), None);
    }

    #[test]
    fn bytes_are_as_pytorch_writes_them() {
        // `torch.ops.aten._convert_weight_to_int4pack_for_cpu` of codes 96 by 32 on processors of three kinds.
        let code = |row: usize, column: usize| ((row * 3 + row / 16 * 5 + column) % 16) as u8;
        let codes: Vec<u8> = (0..96 * 32).map(|at| code(at / 32, at % 32)).collect();
        for (order, wanted) in [
            (Order::Wide, [[160, 211, 6, 57], [177, 228, 23, 74], [116, 218, 48, 150]]),
            (Order::Half, [[80, 131, 182, 233], [114, 165, 216, 11], [148, 199, 250, 45]]),
            (Order::Pairs, [[48, 150, 252, 82], [82, 184, 30, 116], [116, 218, 48, 150]]),
        ] {
            let bytes = packed(order, &codes, 96, 32);
            assert_eq!(
                [0, 32, 1024].map(|at| &bytes[at..at + 4]),
                wanted.each_ref().map(|bytes| &bytes[..]),
                "{order:?}"
            );
        }
    }
}

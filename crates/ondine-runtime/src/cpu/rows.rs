//! Tables in few bits: rows of codes that are decoded when an index asks for them.

use half::f16;

use super::{
    coding::{Coding, Levels},
    processor::Processor,
    share::map_rows,
};
use ondine_graph::{
    encoding::{code_at, symmetric_zero},
    weights::encoded::Encoded,
};

/// Where things are in the packed bytes: rows of codes, scales and zeros (f16), then the table (f32).
#[derive(Clone, Copy)]
struct Places {
    /// Bytes of the codes of a row, whole pairs of them.
    codes: usize,
    groups: usize,
    row: usize,
    table: usize,
    size: usize,
}

fn places(coding: Coding, [rows, columns]: [usize; 2]) -> Places {
    let codes = (columns * coding.bits as usize).div_ceil(8).next_multiple_of(2);
    let groups = columns.div_ceil(coding.group);
    let numbers = match coding.levels {
        Levels::Symmetric => groups,
        Levels::Zeros => 2 * groups,
        Levels::Table | Levels::Minima | Levels::Rows8 => 0,
    };
    let row = codes + numbers * size_of::<f16>();
    let table = (rows * row).next_multiple_of(size_of::<f32>());
    let entries = if coding.levels == Levels::Table { 1 << coding.bits } else { 0 };
    Places { codes, groups, row, table, size: table + entries * size_of::<f32>() }
}

/// Bytes of a packed table of this many rows and columns.
pub(super) fn packed_rows(coding: Coding, size: [usize; 2]) -> usize {
    places(coding, size).size
}

/// Packs a table, whose coding is that of its codes.
pub(super) fn pack_rows(coding: Coding, size: [usize; 2], encoded: &Encoded<'_>, out: &mut [u8]) {
    let Places { codes, groups, row, table, .. } = places(coding, size);
    let length = encoded.row_bytes();
    for index in 0..size[0] {
        let out = &mut out[index * row..][..row];
        out.fill(0);
        out[..length].copy_from_slice(encoded.row(index));
        let of_row = |numbers: &[f32]| numbers.get(index * groups..(index + 1) * groups).map(<[f32]>::to_vec);
        let numbers = [&encoded.scales, &encoded.zeros].into_iter().filter_map(|numbers| of_row(numbers)).flatten();
        for (out, number) in out[codes..].as_chunks_mut::<2>().0.iter_mut().zip(numbers) {
            *out = f16::from_f32(number).to_ne_bytes();
        }
    }
    for (out, entry) in out[table..].as_chunks_mut::<4>().0.iter_mut().zip(&encoded.tables) {
        *out = entry.to_ne_bytes();
    }
}

/// The rows of these indices, of which none may be out of the table.
pub(super) fn gather_coded(
    processor: &Processor,
    (coding, size): (Coding, [usize; 2]),
    packed: &[u8],
    indices: &[usize],
    out: &mut [f32],
) {
    let Places { codes, groups, row, table, .. } = places(coding, size);
    let number =
        |bytes: &[u8], at: usize| f16::from_ne_bytes([bytes[codes + 2 * at], bytes[codes + 2 * at + 1]]).to_f32();
    let entries: Vec<f32> = packed[table..].as_chunks().0.iter().map(|&word| f32::from_ne_bytes(word)).collect();
    map_rows(processor, out, size[1], |index, out| {
        let bytes = &packed[indices[index] * row..][..row];
        for (group, out) in out.chunks_mut(coding.group).enumerate() {
            let grid = (coding.levels != Levels::Table).then(|| {
                let zero = match coding.levels {
                    Levels::Zeros => number(bytes, groups + group),
                    _ => symmetric_zero(coding.bits),
                };
                (number(bytes, group), zero)
            });
            for (value, at) in out.iter_mut().zip(group * coding.group..) {
                let code = code_at(bytes, coding.bits, at);
                *value = match grid {
                    Some((scale, zero)) => scale * (f32::from(code) - zero),
                    None => entries[usize::from(code)],
                };
            }
        }
    });
}

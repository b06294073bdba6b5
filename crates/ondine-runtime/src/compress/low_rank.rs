//! Corrections of low rank: the part of the error of codes that few directions explain, kept in F16.

use half::f16;

use super::codes::Codes;
use crate::cpu::{
    Processor,
    share::{map, map_rows},
};

/// Rounds of the iteration that finds the directions.
const ROUNDS: usize = 6;

/// Rounds of correcting what codes miss and coding what the correction misses.
const ALTERNATIONS: usize = 3;

/// `b * a` is added to a matrix: `a` is `[rank, columns]`, `b` is `[rows, rank]`, both rounded to F16.
pub(super) struct Correction {
    pub(super) rank: usize,
    pub(super) a: Vec<f32>,
    pub(super) b: Vec<f32>,
}

/// Adds one row of the correction, in the order in which decoding does.
pub(super) fn add(b: &[f32], a: &[f32], out: &mut [f32]) {
    for (b, a) in b.iter().zip(a.chunks_exact(out.len())) {
        out.iter_mut().zip(a).for_each(|(value, a)| *value += b * a);
    }
}

/// Codes of `values` and what corrects them, of the alternation with the least error.
#[expect(clippy::expect_used, reason = "the first alternation is always kept")]
pub(super) fn correct(
    values: &[f32],
    [rows, columns]: [usize; 2],
    rank: usize,
    quantize: impl Fn(&[f32]) -> Codes,
    processor: &Processor,
) -> (Codes, Correction) {
    let rank = rank.min(rows).min(columns);
    let mut codes = quantize(values);
    let mut best: Option<(f64, Codes, Correction)> = None;
    for _ in 0..ALTERNATIONS {
        let missed: Vec<f32> = values.iter().zip(&codes.values).map(|(value, coded)| value - coded).collect();
        let correction = leading(&missed, [rows, columns], rank, processor);
        let mut rest = values.to_vec();
        map_rows(processor, &mut rest, columns, |row, rest| {
            let negative: Vec<f32> = correction.b[row * rank..][..rank].iter().map(|b| -b).collect();
            add(&negative, &correction.a, rest);
        });
        codes = quantize(&rest);
        let error = rest.iter().zip(&codes.values).map(|(rest, coded)| f64::from(rest - coded).powi(2)).sum();
        if best.as_ref().is_none_or(|(least, ..)| error < *least) {
            best = Some((error, codes.clone(), correction));
        }
    }
    best.map(|(_, codes, correction)| (codes, correction)).expect("there is at least one alternation")
}

/// The closest matrix of rank `rank`, nearly: by iterating a subspace of the columns.
fn leading(matrix: &[f32], [rows, columns]: [usize; 2], rank: usize, processor: &Processor) -> Correction {
    // Any start will do that is not blind to a direction: numbers that look random, the same each time.
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let mut a: Vec<f32> = (0..rank * columns).map(|_| random()).collect();
    let transposed: Vec<f32> = (0..columns * rows).map(|i| matrix[i % rows * columns + i / rows]).collect();
    let mut b = Vec::new();
    for _ in 0..ROUNDS {
        orthonormalize(&mut a, columns);
        b = products(matrix, &a, columns, processor);
        orthonormalize(&mut b, rows);
        a = products(&transposed, &b, rows, processor);
    }
    // The directions of `b` have length 1; half of what `a` has goes there, so that F16 holds both.
    let mut columns_of_b = vec![0.0; rows * rank];
    for (r, (a, b)) in a.chunks_exact_mut(columns).zip(b.chunks_exact(rows)).enumerate() {
        let length = a.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt().sqrt() as f32;
        let inverse = if length > 0.0 { 1.0 / length } else { 0.0 };
        a.iter_mut().for_each(|x| *x = f16::from_f32(*x * inverse).to_f32());
        b.iter().enumerate().for_each(|(row, x)| columns_of_b[row * rank + r] = f16::from_f32(*x * length).to_f32());
    }
    Correction { rank, a, b: columns_of_b }
}

/// Each row of `matrix` times each of `vectors`, all of `width` elements: `[vectors, rows]`.
fn products(matrix: &[f32], vectors: &[f32], width: usize, processor: &Processor) -> Vec<f32> {
    let rows = map(processor, matrix.len() / width, |row| {
        let row = &matrix[row * width..][..width];
        vectors.chunks_exact(width).map(|vector| dot(row, vector)).collect::<Vec<f32>>()
    });
    let count = vectors.len() / width;
    (0..count).flat_map(|vector| rows.iter().map(move |row| row[vector])).collect()
}

/// Sixteen sums side by side, which the compiler makes vectors of.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 16];
    let (a, a_rest) = a.as_chunks::<16>();
    let (b, b_rest) = b.as_chunks::<16>();
    for (a, b) in a.iter().zip(b) {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum += a * b);
    }
    sums.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

/// Makes vectors of `width` elements orthogonal and of length 1; what depends on others becomes 0.
fn orthonormalize(vectors: &mut [f32], width: usize) {
    for index in 0..vectors.len() / width {
        let (before, rest) = vectors.split_at_mut(index * width);
        let vector = &mut rest[..width];
        let start = dot(vector, vector).sqrt();
        // Twice is enough to be orthogonal to the last digit.
        for _ in 0..2 {
            for other in before.chunks_exact(width) {
                let share = dot(other, vector);
                vector.iter_mut().zip(other).for_each(|(x, other)| *x -= share * other);
            }
        }
        let length = dot(vector, vector).sqrt();
        let inverse = if length > 1e-5 * start { 1.0 / length } else { 0.0 };
        vector.iter_mut().for_each(|x| *x *= inverse);
    }
}

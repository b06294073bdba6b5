//! Palettes: the few numbers that stand for all elements with the least squared error (k-means in one dimension).

use ondine_kernels::Pool;

use super::encode::{Codes, Levels, halved};
use crate::pool::map;

/// Rounds of moving the numbers to the means of what they stand for; most tables settle before.
const ROUNDS: usize = 60;

/// Bins of the density that the first numbers are placed by.
const BINS: usize = 2048;

/// Encodes rows of `columns` elements with a table for each `group` rows.
pub(super) fn palette(values: &[f32], columns: usize, bits: u32, group: usize, pool: &Pool) -> Codes {
    let blocks: Vec<&[f32]> = values.chunks(columns * group).collect();
    let count = 1_usize << bits;
    let tables = map(pool, blocks.len(), |block| table(blocks[block], count));
    let (tables, half) = halved(tables.concat());
    // Rounding may have changed nothing but digits: the order stays.
    let rows = map(pool, values.len() / columns, |row| {
        let table = &tables[row / group * count..][..count];
        let bounds: Vec<f32> = table.windows(2).map(|pair| pair[0] + (pair[1] - pair[0]) / 2.0).collect();
        let nearest = |&value: &f32| bounds.partition_point(|&bound| bound < value);
        values[row * columns..][..columns].iter().map(nearest).map(|code| (code as u8, table[code])).collect::<Vec<_>>()
    });
    let (codes, values) = rows.into_iter().flatten().unzip();
    Codes { codes, levels: Levels::Palette(tables), group, half, values }
}

/// `count` ascending numbers.
fn table(values: &[f32], count: usize) -> Vec<f32> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    // Sums of the first elements, so that the mean of any run is a difference.
    let mut sums = Vec::with_capacity(sorted.len() + 1);
    sums.push(0.0_f64);
    for &value in &sorted {
        sums.push(sums[sums.len() - 1] + f64::from(value));
    }
    let ends = sorted.first().zip(sorted.last()).map_or((0.0, 0.0), |(&low, &high)| (f64::from(low), f64::from(high)));
    let even = (0..count).map(|i| ends.0 + (ends.1 - ends.0) * i as f64 / (count - 1) as f64).collect();
    // Where numbers come in clusters the density misleads: the better of two starts.
    let starts = [first_centres(&sorted, count), even];
    let settled = starts.map(|start| settle(start, &sorted, &sums));
    let [a, b] = &settled;
    let best = if b.1 > a.1 { b } else { a };
    best.0.iter().map(|&centre| centre as f32).collect()
}

/// Moves numbers to the means of what they are nearest to, until they stay; and the squares that they account for.
fn settle(mut centres: Vec<f64>, sorted: &[f32], sums: &[f64]) -> (Vec<f64>, f64) {
    let mut explained = 0.0;
    for _ in 0..ROUNDS {
        let (mut start, mut moved) = (0, false);
        explained = 0.0;
        for index in 0..centres.len() {
            let end = match centres.get(index + 1) {
                Some(next) => {
                    let bound = (centres[index] + next) / 2.0;
                    sorted.partition_point(|&value| f64::from(value) <= bound).max(start)
                }
                None => sorted.len(),
            };
            if end > start {
                let mean = (sums[end] - sums[start]) / (end - start) as f64;
                explained += mean * (sums[end] - sums[start]);
                moved |= mean != centres[index];
                centres[index] = mean;
            }
            start = end;
        }
        centres.sort_unstable_by(f64::total_cmp);
        if !moved {
            break;
        }
    }
    (centres, explained)
}

/// Numbers spaced as the cube root of the density, which is the best spacing if there are many (Panter and Dite 1951).
fn first_centres(sorted: &[f32], count: usize) -> Vec<f64> {
    let (Some(&low), Some(&high)) = (sorted.first(), sorted.last()) else { return vec![0.0; count] };
    let (low, high) = (f64::from(low), f64::from(high));
    let width = (high - low) / BINS as f64;
    let mut shares = Vec::with_capacity(BINS);
    let mut start = 0;
    for bin in 1..=BINS {
        let end = sorted.partition_point(|&value| f64::from(value) <= low + width * bin as f64).max(start);
        shares.push(((end - start) as f64).cbrt());
        start = end;
    }
    let total: f64 = shares.iter().sum();
    let (mut passed, mut bin) = (0.0, 0);
    let centre = |index: usize| {
        let wanted = total * (index as f64 + 0.5) / count as f64;
        while bin + 1 < BINS && passed + shares[bin] < wanted {
            passed += shares[bin];
            bin += 1;
        }
        let within = if shares[bin] > 0.0 { (wanted - passed) / shares[bin] } else { 0.5 };
        low + width * (bin as f64 + within.clamp(0.0, 1.0))
    };
    (0..count).map(centre).collect()
}

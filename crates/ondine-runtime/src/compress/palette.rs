//! Palettes: the few numbers that stand for all elements with the least squared error (k-means in one dimension).

use super::codes::{Codes, Levels, halved};
use crate::cpu::{Processor, share::map};

/// Rounds of moving the numbers to the means of what they stand for; most tables settle before.
const ROUNDS: usize = 60;

/// Runs of neighbouring elements that are kept together when the first numbers are sought.
const POINTS: usize = 1024;

/// Bins of the density that these runs are cut by.
const BINS: usize = 4096;

/// Encodes rows of `columns` elements with a table for each `group` rows.
pub(super) fn palette(values: &[f32], columns: usize, bits: u32, group: usize, processor: &Processor) -> Codes {
    let blocks: Vec<&[f32]> = values.chunks(columns * group).collect();
    let count = 1_usize << bits;
    let tables = map(processor, blocks.len(), |block| table(blocks[block], count));
    let (tables, half) = halved(tables.concat());
    // Rounding may have changed nothing but digits: the order stays.
    let rows = map(processor, values.len() / columns, |row| {
        let table = &tables[row / group * count..][..count];
        let bounds: Vec<f32> = table.windows(2).map(|pair| pair[0] + (pair[1] - pair[0]) / 2.0).collect();
        let nearest = |&value: &f32| bounds.partition_point(|&bound| bound < value);
        values[row * columns..][..columns].iter().map(nearest).map(|code| (code as u8, table[code])).collect::<Vec<_>>()
    });
    let (codes, values) = rows.into_iter().flatten().unzip();
    Codes { codes, levels: Levels::Palette(tables), group, half, values }
}

/// `count` ascending numbers with the least squared error, but for what [`POINTS`] leave to settle.
fn table(values: &[f32], count: usize) -> Vec<f32> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    // Sums of the first elements, so that the mean of any run is a difference.
    let mut sums = Vec::with_capacity(sorted.len() + 1);
    sums.push(0.0_f64);
    for &value in &sorted {
        sums.push(sums[sums.len() - 1] + f64::from(value));
    }
    // Runs that stay together at first.
    let ends: Vec<usize> = if sorted.len() <= POINTS {
        (0..=sorted.len()).collect()
    } else {
        let bounds = spaced(&sorted, POINTS - 1);
        let cuts = bounds.iter().map(|&bound| sorted.partition_point(|&value| f64::from(value) <= bound));
        [0].into_iter().chain(cuts).chain([sorted.len()]).collect()
    };
    let mut centres = settle(best_cuts(&ends, &sums, count), &sorted, &sums);
    centres.resize(count, centres.last().copied().unwrap_or_default());
    centres.into_iter().map(|centre| centre as f32).collect()
}

/// The means of at most `count` stretches of runs, which account for the most squares: by what is best for the first
/// runs and one stretch fewer (Bellman 1973). Where a stretch best begins only moves up with its end, which halves the
/// search.
fn best_cuts(ends: &[usize], sums: &[f64], count: usize) -> Vec<f64> {
    let runs = ends.len() - 1;
    let squares = |from: usize, to: usize| {
        let (elements, sum) = ((ends[to] - ends[from]) as f64, sums[ends[to]] - sums[ends[from]]);
        if elements > 0.0 { sum * sum / elements } else { 0.0 }
    };
    let mut best: Vec<f64> = (0..=runs).map(|to| squares(0, to)).collect();
    let mut begins = Vec::new();
    for _ in 1..count.min(runs.max(1)) {
        let (mut next, mut begin) = (best.clone(), vec![0_usize; runs + 1]);
        let mut open: Vec<(usize, usize, usize, usize)> = vec![(0, runs, 0, runs)];
        while let Some((low, high, from, to)) = open.pop() {
            let middle = low.midpoint(high);
            let mut at = (f64::NEG_INFINITY, from);
            for (start, before) in best.iter().enumerate().take(to.min(middle) + 1).skip(from) {
                let explained = before + squares(start, middle);
                if explained > at.0 {
                    at = (explained, start);
                }
            }
            (next[middle], begin[middle]) = at;
            if low < middle {
                open.push((low, middle - 1, from, at.1));
            }
            if middle < high {
                open.push((middle + 1, high, at.1, to));
            }
        }
        best = next;
        begins.push(begin);
    }
    let (mut centres, mut end) = (Vec::new(), runs);
    for begin in begins.iter().rev().map(Some).chain([None]) {
        let start = begin.map_or(0, |begin| begin[end]);
        let elements = ends[end] - ends[start];
        if elements > 0 {
            centres.push((sums[ends[end]] - sums[ends[start]]) / elements as f64);
        }
        end = start;
    }
    centres.reverse();
    centres
}

/// Moves ascending numbers to the means of what they are nearest to, until they stay.
fn settle(mut centres: Vec<f64>, sorted: &[f32], sums: &[f64]) -> Vec<f64> {
    for _ in 0..ROUNDS {
        let (mut start, mut moved) = (0, false);
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
                moved |= mean != centres[index];
                centres[index] = mean;
            }
            start = end;
        }
        if !moved {
            break;
        }
    }
    centres
}

/// Numbers spaced as the cube root of the density, which is the best spacing if there are many (Panter and Dite 1951).
fn spaced(sorted: &[f32], count: usize) -> Vec<f64> {
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

//! Regions of feature maps at a fixed size, and which of overlapping boxes stay.

use std::ops::Range;

use crate::{Cpu, rowwise::for_rows};

/// What a bin of a region holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegionKind {
    /// The mean of `samples` by `samples` samples, as many as it has elements if that is 0; `edges` if positions are
    /// those of edges; `apart` if each bin reads channels of its own.
    Mean {
        /// Samples of a bin in each dimension.
        samples: usize,
        /// Positions are half an element before the elements.
        edges: bool,
        /// Each bin reads channels of its own.
        apart: bool,
    },
    /// The largest element that it touches.
    Largest,
    /// The mean of the elements that it touches, each bin reading channels of its own.
    Touched,
}

/// A map, channels-last, and how its regions are read.
#[derive(Clone, Copy, Debug)]
pub struct RegionShape {
    /// Pictures, rows, columns and channels.
    pub map: [usize; 4],
    /// Rows and columns of bins.
    pub bins: [usize; 2],
    /// What positions are multiplied by.
    pub scale: f32,
    /// What a bin holds.
    pub kind: RegionKind,
}

impl RegionShape {
    /// Channels of the result.
    fn channels(&self) -> usize {
        let own = self.bins[0] * self.bins[1];
        match self.kind {
            RegionKind::Mean { apart: true, .. } | RegionKind::Touched => self.map[3] / own,
            RegionKind::Mean { apart: false, .. } | RegionKind::Largest => self.map[3],
        }
    }
}

/// Reads `boxes` `[n, 5]` (which picture, then left, top, right, bottom) of `x`, to `[n, rows, columns, channels]`.
/// Yields the first box whose picture there is none of, if there is one.
///
/// # Panics
/// If a slice has not as many elements as its shape says.
pub fn regions(cpu: &Cpu, shape: &RegionShape, x: &[f32], boxes: &[f32], out: &mut [f32]) -> Option<usize> {
    let each = shape.bins[0] * shape.bins[1] * shape.channels();
    assert_eq!(x.len(), shape.map.iter().product::<usize>(), "a map of {:?}", shape.map);
    assert_eq!(out.len(), boxes.len() / 5 * each, "regions of {shape:?}");
    let pictures = shape.map[0] as f32;
    let astray = boxes.chunks_exact(5).position(|region| !(region[0] >= 0.0 && region[0].trunc() < pictures));
    if astray.is_some() || out.is_empty() {
        return astray;
    }
    for_rows(cpu.pool(), out, each, 1, |first, out| {
        for (region, out) in boxes[5 * first..].chunks_exact(5).zip(out.chunks_exact_mut(each)) {
            read(shape, x, region, out);
        }
    });
    None
}

fn read(shape: &RegionShape, x: &[f32], region: &[f32], out: &mut [f32]) {
    let [_, height, width, channels] = shape.map;
    let x = &x[region[0] as usize * height * width * channels..][..height * width * channels];
    let (horizontal, vertical) = ([region[1], region[3]], [region[2], region[4]]);
    match shape.kind {
        RegionKind::Mean { samples, edges, apart } => {
            let rows = bins_of_samples(vertical, shape.scale, shape.bins[0], height, samples, edges || apart);
            let columns = bins_of_samples(horizontal, shape.scale, shape.bins[1], width, samples, edges || apart);
            means(shape, x, &rows, &columns, apart, out);
        }
        RegionKind::Largest | RegionKind::Touched => {
            let whole = shape.kind == RegionKind::Largest;
            let rows = bins_of_elements(vertical, shape.scale, shape.bins[0], height, whole);
            let columns = bins_of_elements(horizontal, shape.scale, shape.bins[1], width, whole);
            touched(shape, x, &rows, &columns, out);
        }
    }
}

/// A sample along one dimension: two elements and their shares; none outside.
type Sample = Option<[(usize, f32); 2]>;

/// The samples of each bin along one dimension of `size` elements.
fn bins_of_samples(
    [low, high]: [f32; 2],
    scale: f32,
    bins: usize,
    size: usize,
    samples: usize,
    edges: bool,
) -> Vec<Vec<Sample>> {
    let offset = if edges { 0.5 } else { 0.0 };
    let (start, end) = (low * scale - offset, high * scale - offset);
    let length = if edges { end - start } else { (end - start).max(1.0) };
    let bin = length / bins as f32;
    let count = if samples > 0 { samples } else { bin.ceil().max(0.0) as usize };
    let sample = |index: usize, within: usize| {
        sample(start + index as f32 * bin + (within as f32 + 0.5) * bin / count as f32, size)
    };
    (0..bins).map(|index| (0..count).map(|within| sample(index, within)).collect()).collect()
}

fn sample(at: f32, size: usize) -> Sample {
    if !(at >= -1.0 && at <= size as f32) {
        return None;
    }
    let at = at.max(0.0);
    let low = at as usize;
    if low + 1 >= size {
        return Some([(size - 1, 1.0), (size - 1, 0.0)]);
    }
    let share = at - low as f32;
    Some([(low, 1.0 - share), (low + 1, share)])
}

fn means(shape: &RegionShape, x: &[f32], rows: &[Vec<Sample>], columns: &[Vec<Sample>], apart: bool, out: &mut [f32]) {
    let ([_, _, width, all], channels) = (shape.map, shape.channels());
    let bins = rows.len() * columns.len();
    for (index, out) in out.chunks_exact_mut(channels).enumerate() {
        let (row, column) = (index / columns.len(), index % columns.len());
        out.fill(0.0);
        let count = (rows[row].len() * columns[column].len()).max(1) as f32;
        for vertical in rows[row].iter().flatten() {
            for horizontal in columns[column].iter().flatten() {
                for (y, from_row) in vertical {
                    for (x_at, from_column) in horizontal {
                        let share = from_row * from_column;
                        let pixel = &x[(y * width + x_at) * all..][..all];
                        if apart {
                            let own = pixel[index..].iter().step_by(bins);
                            out.iter_mut().zip(own).for_each(|(out, x)| *out += share * x);
                        } else {
                            out.iter_mut().zip(pixel).for_each(|(out, x)| *out += share * x);
                        }
                    }
                }
            }
        }
        out.iter_mut().for_each(|out| *out /= count);
    }
}

/// The elements that each bin touches along one dimension of `size` elements; of a `whole` region those of its last
/// position, too.
fn bins_of_elements([low, high]: [f32; 2], scale: f32, bins: usize, size: usize, whole: bool) -> Vec<Range<usize>> {
    let (start, end) = ((low * scale).round(), (high * scale).round());
    let length = (end - start + if whole { 1.0 } else { 0.0 }).max(1.0);
    let bin = length / bins as f32;
    let last = if whole { size } else { size.saturating_sub(1) } as f32;
    let inside = |at: f32| (at + start).clamp(0.0, last) as usize;
    (0..bins).map(|index| inside((index as f32 * bin).floor())..inside(((index + 1) as f32 * bin).ceil())).collect()
}

fn touched(shape: &RegionShape, x: &[f32], rows: &[Range<usize>], columns: &[Range<usize>], out: &mut [f32]) {
    let ([_, _, width, all], channels) = (shape.map, shape.channels());
    let (bins, largest) = (rows.len() * columns.len(), shape.kind == RegionKind::Largest);
    for (index, out) in out.chunks_exact_mut(channels).enumerate() {
        let (rows, columns) = (&rows[index / columns.len()], &columns[index % columns.len()]);
        let count = rows.len() * columns.len();
        out.fill(if largest && count > 0 { f32::MIN } else { 0.0 });
        for pixel in rows.clone().flat_map(|y| columns.clone().map(move |x| y * width + x)) {
            let pixel = &x[pixel * all..][..all];
            if largest {
                out.iter_mut().zip(pixel).for_each(|(out, &x)| *out = if x > *out { x } else { *out });
            } else {
                out.iter_mut().zip(pixel[index..].iter().step_by(bins)).for_each(|(out, x)| *out += x);
            }
        }
        if !largest && count > 0 {
            out.iter_mut().for_each(|out| *out /= count as f32);
        }
    }
}

/// Whether each of `boxes` `[n, 4]`, the best first, stays: it goes if its intersection with one that stays is more
/// than `most` of their union.
///
/// # Panics
/// If there are not as many boxes as results.
pub fn suppress(most: f64, boxes: &[f32], kept: &mut [u8]) {
    assert_eq!(boxes.len(), 4 * kept.len(), "boxes and results differ in number");
    let (boxes, _) = boxes.as_chunks::<4>();
    let areas: Vec<f32> = boxes.iter().map(|[left, top, right, bottom]| (right - left) * (bottom - top)).collect();
    kept.fill(1);
    for (i, a) in boxes.iter().enumerate() {
        if kept[i] == 0 {
            continue;
        }
        for (j, b) in boxes.iter().enumerate().skip(i + 1) {
            let width = (a[2].min(b[2]) - a[0].max(b[0])).max(0.0);
            let height = (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
            let both = width * height;
            if f64::from(both / (areas[i] + areas[j] - both)) > most {
                kept[j] = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::tiers;

    /// A map of two pictures, 5 rows, 6 columns and `channels`, whose elements tell where they are.
    fn map(channels: usize) -> Vec<f32> {
        let number = |at: usize| ((at * 37 + 11) % 101) as f32 / 25.0 - 2.0;
        (0..2 * 5 * 6 * channels).map(number).collect()
    }

    fn read_all(shape: RegionShape, boxes: &[f32]) -> Vec<f32> {
        let count = boxes.len() / 5 * shape.bins[0] * shape.bins[1] * shape.channels();
        let mut results = tiers().flatten().map(|cpu| {
            let mut out = vec![f32::NAN; count];
            assert_eq!(regions(&cpu, &shape, &map(shape.map[3]), boxes, &mut out), None);
            out
        });
        let first = results.next().unwrap();
        assert!(results.all(|other| other == first));
        first
    }

    #[test]
    fn a_region_of_elements_reads_them() {
        // One sample in the middle of each bin, which is an element.
        let kind = RegionKind::Mean { samples: 1, edges: true, apart: false };
        let shape = RegionShape { map: [2, 5, 6, 3], bins: [2, 3], scale: 0.5, kind };
        let got = read_all(shape, &[1.0, 2.0, 4.0, 8.0, 8.0]);
        let x = map(3);
        let wanted = (2..4).flat_map(|y| (1..4).map(move |x| (y, x)));
        let wanted: Vec<f32> = wanted.flat_map(|(y, at)| x[((5 + y) * 6 + at) * 3..][..3].to_vec()).collect();
        assert_eq!(got, wanted);
    }

    #[test]
    fn the_largest_and_the_mean_of_what_is_touched() {
        let x = map(4);
        let largest = RegionShape { map: [2, 5, 6, 4], bins: [1, 1], scale: 1.0, kind: RegionKind::Largest };
        let got = read_all(largest, &[0.0, 1.0, 1.0, 2.0, 2.0]);
        let pixel = |y: usize, at: usize, c: usize| x[(y * 6 + at) * 4 + c];
        for (c, got) in got.iter().enumerate() {
            let wanted = pixel(1, 1, c).max(pixel(1, 2, c)).max(pixel(2, 1, c)).max(pixel(2, 2, c));
            assert_eq!(*got, wanted);
        }
        let apart = RegionShape { map: [2, 5, 6, 4], bins: [2, 2], scale: 1.0, kind: RegionKind::Touched };
        let got = read_all(apart, &[0.0, 0.0, 0.0, 2.0, 2.0]);
        assert_eq!(got, [pixel(0, 0, 0), pixel(0, 1, 1), pixel(1, 0, 2), pixel(1, 1, 3)]);
    }

    #[test]
    fn a_region_of_no_picture_is_told() {
        let shape = RegionShape { map: [2, 5, 6, 1], bins: [1, 1], scale: 1.0, kind: RegionKind::Largest };
        for astray in [2.0, -1.0, f32::NAN] {
            let boxes = [0.0, 0.0, 0.0, 1.0, 1.0, astray, 0.0, 0.0, 1.0, 1.0];
            let [cpu, ..] = tiers().next().unwrap();
            assert_eq!(regions(&cpu, &shape, &map(1), &boxes, &mut [0.0; 2]), Some(1));
        }
    }

    #[test]
    fn boxes_that_overlap_the_better_ones_go() {
        let boxes = [0.0, 0.0, 10.0, 9.0, 0.0, 0.0, 10.0, 10.0, 1.0, 1.0, 11.0, 11.0, 20.0, 20.0, 30.0, 30.0];
        let kept = |most: f64| {
            let mut kept = [7; 4];
            suppress(most, &boxes, &mut kept);
            kept
        };
        assert_eq!(kept(0.5), [1, 0, 0, 1]);
        assert_eq!(kept(0.9), [1, 1, 1, 1]);
        assert_eq!(kept(0.7), [1, 0, 1, 1]);
    }
}

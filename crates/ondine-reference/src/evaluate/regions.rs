//! Regions of feature maps at a fixed size, and which of overlapping boxes stay.

use ondine_graph::{DType, Region, Regions, Result};

use crate::{
    index::map_indices,
    number::Real,
    tensor::{Tensor, misfit},
};

/// Areas are numbers of f32, as PyTorch's: which box goes depends on them.
pub(super) fn suppress<R: Real>(most: f64, boxes: &Tensor<R>, shape: &[usize]) -> Result<Tensor<R>> {
    let sides: Vec<f32> = boxes.reals()?.iter().map(|side| side.value() as f32).collect();
    let (boxes, _) = sides.as_chunks::<4>();
    let area = |[left, top, right, bottom]: [f32; 4]| (right - left) * (bottom - top);
    let overlap = |a: [f32; 4], b: [f32; 4]| {
        let width = (a[2].min(b[2]) - a[0].max(b[0])).max(0.0);
        let both = width * (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
        f64::from(both / (area(a) + area(b) - both))
    };
    let mut kept: Vec<usize> = Vec::new();
    for (index, &of) in boxes.iter().enumerate() {
        if !kept.iter().any(|&better| overlap(boxes[better], of) > most) {
            kept.push(index);
        }
    }
    let is_kept = |index: usize| i64::from(kept.contains(&index));
    Tensor::integer(DType::Bool, shape, (0..boxes.len()).map(is_kept).collect())
}

/// A side of a region along one dimension of the map, in numbers of f32.
struct Side {
    start: f32,
    /// Of a bin.
    length: f32,
    size: usize,
}

pub(super) fn regions<R: Real>(how: &Regions, [x, boxes]: [&Tensor<R>; 2], shape: &[usize]) -> Result<Tensor<R>> {
    let &[batch, height, width, channels] = x.shape() else { return Err(misfit("regions of no map".into())) };
    let numbers = x.reals()?;
    let corners: Vec<f32> = boxes.reals()?.iter().map(|number| number.value() as f32).collect();
    if let Some(astray) = corners.chunks(5).position(|region| !(region[0] >= 0.0 && region[0].trunc() < batch as f32)) {
        return Err(misfit(format!("region {astray} is of no picture")));
    }
    let out = map_indices(shape, |index| {
        let &[region, row, column, channel] = index else { return R::exact(0.0) };
        let region = &corners[5 * region..][..5];
        let own = (channel * how.bins[0] + row) * how.bins[1] + column;
        let channel = if how.how.is_apart() { own } else { channel };
        let at = |y: usize, x: usize| numbers[((region[0] as usize * height + y) * width + x) * channels + channel];
        let side = |axis: usize, size: usize| Side::of(how, [region[2 - axis], region[4 - axis]], axis, size);
        let (vertical, horizontal) = (side(0, height), side(1, width));
        match how.how {
            Region::Mean { samples, .. } => {
                let (rows, columns) = (vertical.samples(row, samples), horizontal.samples(column, samples));
                let count = (rows.len() * columns.len()).max(1);
                let mut terms = Vec::new();
                for (y, from_row) in rows.iter().flatten().flatten() {
                    for (x, from_column) in columns.iter().flatten().flatten() {
                        terms.push(at(*y, *x).times(R::exact(f64::from(from_row * from_column))));
                    }
                }
                R::sum(terms).over(R::exact(count as f64))
            }
            Region::Largest | Region::Touched => {
                let (rows, columns) = (vertical.elements(how.how, row), horizontal.elements(how.how, column));
                let all: Vec<R> =
                    rows.flat_map(|y| columns.clone().map(move |x| (y, x))).map(|(y, x)| at(y, x)).collect();
                let larger = |a: R, b: R| if b.value() > a.value() { b } else { a };
                match (all.first(), how.how) {
                    (None, _) => R::exact(0.0),
                    (Some(&first), Region::Largest) => all.iter().fold(first, |most, &x| larger(most, x)),
                    (Some(_), _) => R::sum(all.iter().copied()).over(R::exact(all.len() as f64)),
                }
            }
        }
    });
    Tensor::real(x.dtype(), shape, out)
}

impl Side {
    fn of(how: &Regions, [low, high]: [f32; 2], axis: usize, size: usize) -> Self {
        let bins = how.bins[axis] as f32;
        let (start, length) = match how.how {
            Region::Mean { edges, apart, .. } => {
                let offset = if edges || apart { 0.5 } else { 0.0 };
                let (start, end) = (low * how.scale - offset, high * how.scale - offset);
                (start, if offset > 0.0 { end - start } else { (end - start).max(1.0) })
            }
            Region::Largest | Region::Touched => {
                let (start, end) = ((low * how.scale).round(), (high * how.scale).round());
                let last = if how.how == Region::Largest { 1.0 } else { 0.0 };
                (start, (end - start + last).max(1.0))
            }
        };
        Self { start, length: length / bins, size }
    }

    /// The samples of a bin: elements and their shares, none outside.
    fn samples(&self, bin: usize, samples: usize) -> Vec<Option<[(usize, f32); 2]>> {
        let count = if samples > 0 { samples } else { self.length.ceil().max(0.0) as usize };
        let place = |i: usize| self.start + bin as f32 * self.length + (i as f32 + 0.5) * self.length / count as f32;
        let last = self.size - 1;
        let between = |at: f32| {
            let at = at.max(0.0);
            let low = (at as usize).min(last);
            let share = if low == last { 0.0 } else { at - low as f32 };
            [(low, 1.0 - share), ((low + 1).min(last), share)]
        };
        let inside = |at: f32| (-1.0..=self.size as f32).contains(&at).then(|| between(at));
        (0..count).map(|i| inside(place(i))).collect()
    }

    /// The elements that a bin touches.
    fn elements(&self, how: Region, bin: usize) -> std::ops::Range<usize> {
        let last = if how == Region::Largest { self.size } else { self.size - 1 } as f32;
        let inside = |at: f32| (at + self.start).clamp(0.0, last) as usize;
        inside((bin as f32 * self.length).floor())..inside(((bin + 1) as f32 * self.length).ceil())
    }
}

//! Larger pictures by networks of the ESRGAN family, in tiles whose seams do not show.
//!
//! A tile is enlarged with a border around it, and neighbours are mixed across the borders that they share, by weights
//! that fall in a straight line; so nothing changes abruptly where two tiles meet.

use ondine_graph::{Bindings, NDArray, Result, fail};
use ondine_models::{GraphSizes, Network};
use ondine_runtime::{Cache, Device, Options, Precision, Prepared, Specialize, State};

use crate::{codec::Picture, pipeline::StagePlan};

/// A network that makes pictures larger, prepared.
#[derive(Debug)]
pub struct Upscaler {
    prepared: Prepared,
    cache: Option<Cache>,
    device: Device,
    scale: usize,
    /// What the sides of tiles are multiples of.
    multiple: usize,
}

/// Sides of tiles, and of the borders that neighbours share, in pixels of the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiles {
    /// The longest side of a tile, its borders included.
    pub side: usize,
    /// The width of a border.
    pub border: usize,
}

impl Default for Tiles {
    fn default() -> Self {
        Self { side: 192, border: 16 }
    }
}

/// The largest side of a result.
const MAX_SIDE: usize = 1 << 15;

impl Upscaler {
    /// Prepares a network for a device.
    ///
    /// # Errors
    /// If it is none that makes coloured pictures larger, or cannot run on the device.
    pub fn new(network: &Network, precision: Precision, device: Device, cache: Option<Cache>) -> Result<Self> {
        let facts = network.upscaler()?;
        if facts.channels != 3 {
            fail!(
                Unsupported,
                "{}: makes pictures of {} channels larger; only 3 are supported",
                network.name,
                facts.channels
            );
        }
        let options = Options { precision, ..Options::default() };
        let prepared = network.asset(GraphSizes::default())?.prepare(&options, &device)?;
        // Networks that enlarge less gather squares of pixels first.
        let multiple = match (network.architecture.class, facts.scale) {
            ("RRDBNet", 1) => 4,
            ("RRDBNet", 2) => 2,
            _ => 1,
        };
        Ok(Self { prepared, cache, device, scale: facts.scale, multiple })
    }

    /// The precision that pictures are made larger in if none is asked for: half precision, whose differences to F32
    /// no one sees (above 50 dB), where a device computes so no slower.
    #[must_use]
    pub fn usual_precision(device: &Device) -> Precision {
        if device.backend().identity().quick_half { Precision::BF16 } else { Precision::F32 }
    }

    /// How many times as wide and high pictures become.
    #[must_use]
    pub fn scale(&self) -> usize {
        self.scale
    }

    /// What enlarging a picture takes at most: weights, the workspace of a tile, and the larger picture in numbers.
    ///
    /// # Errors
    /// If the tiles are too large.
    pub fn memory(&self, width: usize, height: usize, tiles: Tiles) -> Result<StagePlan> {
        let plan = self.prepared.plan("main", &self.sizes(width.min(tiles.side), height.min(tiles.side)))?;
        let area = |width: usize, height: usize| (width * height * size_of::<f32>()) as u64;
        // A tile and what it becomes, the sums of three planes with their weights, what these become, and pixels.
        let (whole, large) = (area(width, height), area(width * self.scale, height * self.scale));
        let tile = area(width.min(tiles.side), height.min(tiles.side)) * 3;
        let tile = tile + tile * (self.scale * self.scale) as u64;
        let buffers = 3 * whole + tile + large * 7 + large * 3 / 4;
        let workspace = plan.arena_bytes() as u64 + buffers;
        Ok(StagePlan { name: "upscaler".to_owned(), weights: self.prepared.weight_bytes() as u64, workspace })
    }

    /// Floating-point operations of enlarging a picture.
    ///
    /// # Errors
    /// If a tile leaves no room between its borders.
    pub fn flops(&self, width: usize, height: usize, tiles: Tiles) -> Result<u64> {
        let (rows, columns) = (spans(height, tiles)?, spans(width, tiles)?);
        let tile = self.prepared.flops("main", &self.sizes(columns[0].len(), rows[0].len()))?;
        Ok(tile * (rows.len() * columns.len()) as u64)
    }

    /// The sizes of a tile as the network counts them.
    fn sizes(&self, width: usize, height: usize) -> Bindings {
        let side = |length: usize| length.div_ceil(self.multiple);
        Bindings::from([("batch".into(), 1), ("height".into(), side(height)), ("width".into(), side(width))])
    }

    /// The picture, larger; its texts stay. `observe` hears how many tiles of how many are done.
    ///
    /// # Errors
    /// If the result is too large, a tile leaves no room between its borders, and on the device's wish to stop.
    pub fn enlarge(&self, picture: &Picture, tiles: Tiles, observe: &mut dyn FnMut(usize, usize)) -> Result<Picture> {
        let (width, height) = (picture.width as usize, picture.height as usize);
        let scale = self.scale;
        if width * scale > MAX_SIDE || height * scale > MAX_SIDE {
            fail!(
                Argument,
                "{}x{} pixels are too many; the most are {MAX_SIDE} along a side",
                width * scale,
                height * scale
            );
        }
        let (rows, columns) = (spans(height, tiles)?, spans(width, tiles)?);
        let function = self.prepared.specialize(self.cache.as_ref())?.load()?.function("main")?;
        let wish = self.device.cancel().listen();
        let planes = picture.planes();
        let mut state = State::default();
        let mut sums = vec![0.0_f32; 3 * height * scale * width * scale];
        let mut weights = vec![0.0_f32; height * scale * width * scale];
        let total = rows.len() * columns.len();
        for (i, row) in rows.iter().enumerate() {
            for (j, column) in columns.iter().enumerate() {
                let (tile, shape) = self.cut(&planes, [height, width], row, column);
                let sample = NDArray::new(&shape, &tile)?;
                let output = function.run_until(&[("sample", &sample)], &mut state, &wish)?.take("sample")?;
                let stride = [shape[2] * scale, shape[3] * scale];
                let values = output.view::<f32>()?;
                if values.iter().any(|x| !x.is_finite()) {
                    fail!(Argument, "the enlarged picture holds values that are not numbers; try --precision f32");
                }
                let mut target =
                    Target { sums: &mut sums, weights: &mut weights, size: [height * scale, width * scale] };
                target.add(values, stride, &row.scaled(scale), &column.scaled(scale));
                observe(i * columns.len() + j + 1, total);
            }
        }
        let area = weights.len();
        let mixed: Vec<f32> = sums.iter().enumerate().map(|(i, sum)| sum / weights[i % area]).collect();
        let side = |pixels: usize| u32::try_from(pixels).unwrap_or(u32::MAX);
        let mut larger = Picture::from_planes(&mixed, side(width * scale), side(height * scale))?;
        larger.texts.clone_from(&picture.texts);
        Ok(larger)
    }

    /// The pixels of a tile, its edges repeated up to sides that the network takes.
    fn cut(&self, planes: &[f32], [height, width]: [usize; 2], row: &Span, column: &Span) -> (Vec<f32>, [usize; 4]) {
        let (tall, wide) = (row.len().next_multiple_of(self.multiple), column.len().next_multiple_of(self.multiple));
        let mut tile = Vec::with_capacity(3 * tall * wide);
        for plane in 0..3 {
            for y in 0..tall {
                let from = plane * height * width + (row.from + y).min(height - 1) * width;
                tile.extend((0..wide).map(|x| planes[from + (column.from + x).min(width - 1)]));
            }
        }
        (tile, [1, 3, tall, wide])
    }
}

/// A stretch of pixels, and how many at its ends are shared with neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    from: usize,
    to: usize,
    before: usize,
    after: usize,
}

impl Span {
    fn len(&self) -> usize {
        self.to - self.from
    }

    fn scaled(&self, by: usize) -> Self {
        Self { from: self.from * by, to: self.to * by, before: self.before * by, after: self.after * by }
    }

    /// The weight of a pixel: 1, and less towards ends that are shared; those of neighbours sum to 1.
    fn weight(&self, at: usize) -> f32 {
        let rising = if at < self.before { (at as f32 + 0.5) / self.before as f32 } else { 1.0 };
        let left = self.len() - 1 - at;
        let falling = if left < self.after { (left as f32 + 0.5) / self.after as f32 } else { 1.0 };
        rising.min(falling)
    }
}

/// Stretches of equal length that cover a side, each sharing two borders with the next.
fn spans(length: usize, tiles: Tiles) -> Result<Vec<Span>> {
    let Tiles { side, border } = tiles;
    if length <= side {
        return Ok(vec![Span { from: 0, to: length, before: 0, after: 0 }]);
    }
    let shared = 2 * border;
    if side <= 2 * shared {
        fail!(
            Argument,
            "tiles of {side} pixels leave no room between borders of {border}; give at least {}",
            2 * shared + 1
        );
    }
    let count = (length - shared).div_ceil(side - shared);
    let from = |i: usize| i * (length - side) / (count - 1);
    let spans = (0..count).map(|i| {
        let before = if i == 0 { 0 } else { from(i - 1) + side - from(i) };
        let after = if i + 1 == count { 0 } else { from(i) + side - from(i + 1) };
        Span { from: from(i), to: from(i) + side, before, after }
    });
    Ok(spans.collect())
}

/// What tiles are added to.
struct Target<'a> {
    sums: &'a mut [f32],
    weights: &'a mut [f32],
    size: [usize; 2],
}

impl Target<'_> {
    /// Adds the planes of a tile, whose rows and columns are `stride`.
    fn add(&mut self, tile: &[f32], stride: [usize; 2], row: &Span, column: &Span) {
        let [height, width] = self.size;
        for y in 0..row.len() {
            let of_row = row.weight(y);
            for x in 0..column.len() {
                let weight = of_row * column.weight(x);
                let at = (row.from + y) * width + column.from + x;
                self.weights[at] += weight;
                for plane in 0..3 {
                    self.sums[plane * height * width + at] +=
                        weight * tile[plane * stride[0] * stride[1] + y * stride[1] + x];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_a_side_and_their_weights_sum_to_one() {
        for (length, side, border) in [(10, 16, 2), (100, 32, 4), (33, 32, 4), (1000, 192, 16), (57, 20, 3)] {
            let spans = spans(length, Tiles { side, border }).unwrap();
            let mut sums = vec![0.0; length];
            for span in &spans {
                assert!(span.len() <= side && span.to <= length);
                (0..span.len()).for_each(|at| sums[span.from + at] += span.weight(at));
            }
            assert!(sums.iter().all(|sum: &f32| *sum > 0.2 && *sum < 1.01), "{length} {side}: {sums:?}");
        }
        assert!(spans(100, Tiles { side: 16, border: 4 }).is_err());
    }
}

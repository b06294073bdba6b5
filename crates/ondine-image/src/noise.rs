//! Gaussian noise, equal to the generators that pictures are shared by.
//!
//! A seed means a picture only together with the generator that drew the noise:
//!
//! | generator | who draws with it |
//! |---|---|
//! | [`TorchCpu`] | diffusers with a CPU generator, ComfyUI, A1111 with `RNG: CPU` |
//! | [`Philox`] | A1111 with `RNG: NV`, and its default `GPU` on an NVIDIA card |
//! | [`NumPy`] | `numpy.random.RandomState`, as Apple's Core ML Stable Diffusion |
//!
//! One source serves one picture: first the initial latents, then whatever the sampler asks for, in
//! that order. Latents are drawn in NCHW order.

mod cephes;
mod mersenne;

use std::{fmt, str::FromStr};

use ondine_graph::{Error, Result, fail};

use mersenne::Mersenne;

/// A stream of standard normal draws.
pub trait NoiseSource: Send {
    /// Fills `out` with one draw of `out.len()` values, mean 0 and standard deviation 1.
    ///
    /// How a stream is cut into draws matters: two draws of 8 are not one draw of 16.
    fn normal(&mut self, out: &mut [f32]);
}

/// A closure that fills a slice is a source: fixed noise, or one generator for each picture of a batch.
impl<F: FnMut(&mut [f32]) + Send> NoiseSource for F {
    fn normal(&mut self, out: &mut [f32]) {
        self(out);
    }
}

/// Which generator to draw from; parsed from the names the tools use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Generator {
    /// [`TorchCpu`]; the default.
    #[default]
    TorchCpu,
    /// [`Philox`].
    Philox,
    /// [`NumPy`].
    NumPy,
}

/// Generators by name, the first name of each being the one printed.
const GENERATORS: [(Generator, &[&str]); 3] = [
    (Generator::TorchCpu, &["torch", "cpu", "mt19937"]),
    (Generator::Philox, &["philox", "nv", "gpu", "cuda"]),
    (Generator::NumPy, &["numpy"]),
];

impl Generator {
    /// A source seeded with `seed`.
    #[must_use]
    pub fn seeded(self, seed: u64) -> Box<dyn NoiseSource> {
        match self {
            Self::TorchCpu => Box::new(TorchCpu::new(seed)),
            Self::Philox => Box::new(Philox::new(seed)),
            Self::NumPy => Box::new(NumPy::new(seed)),
        }
    }

    /// The name of each.
    pub fn names() -> impl Iterator<Item = &'static str> {
        GENERATORS.iter().map(|(_, names)| names[0])
    }

    /// What A1111 calls it in the metadata of pictures.
    #[must_use]
    pub fn a1111(self) -> &'static str {
        match self {
            Self::TorchCpu => "CPU",
            Self::Philox => "NV",
            Self::NumPy => "NumPy",
        }
    }
}

impl fmt::Display for Generator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = GENERATORS.iter().find(|(kind, _)| kind == self).map_or("", |(_, names)| names[0]);
        f.write_str(name)
    }
}

impl FromStr for Generator {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let lower = name.to_ascii_lowercase();
        match GENERATORS.iter().find(|(_, names)| names.contains(&lower.as_str())) {
            Some(&(kind, _)) => Ok(kind),
            None => {
                let known: Vec<_> = Self::names().collect();
                fail!(Argument, "noise generator {name:?} is not known; known are {}", known.join(", "))
            }
        }
    }
}

/// `torch.randn(..., generator=torch.Generator("cpu").manual_seed(seed))` in float32.
///
/// MT19937 seeded with the low 32 bits of the seed, then Box-Muller. A draw of 16 or more works in
/// blocks of 16 on 24-bit uniforms, where the polynomials for log, sine and cosine are those of
/// torch's AVX2 build, so that the bits agree (torch builds without AVX2 differ by up to 2e-6). A
/// draw of fewer than 16 works on pairs of 53-bit uniforms and keeps the second of each pair for the
/// next such draw.
#[derive(Debug, Clone)]
pub struct TorchCpu {
    engine: Mersenne,
    spare: Option<f64>,
}

impl TorchCpu {
    /// A stream that starts as torch's does after `manual_seed(seed)`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { engine: Mersenne::new(low32(seed)), spare: None }
    }

    /// A uniform in `[0, 1)` with 24 bits.
    fn uniform_f32(&mut self) -> f32 {
        const SCALE: f32 = 1.0 / (1 << 24) as f32;
        (self.engine.next_u32() & 0x00ff_ffff) as f32 * SCALE
    }

    /// A uniform in `[0, 1)` with 53 bits, the first word being the high half.
    fn uniform_f64(&mut self) -> f64 {
        const SCALE: f64 = 1.0 / (1u64 << 53) as f64;
        let high = u64::from(self.engine.next_u32());
        let word = high << 32 | u64::from(self.engine.next_u32());
        (word & ((1 << 53) - 1)) as f64 * SCALE
    }

    fn scalar(&mut self) -> f64 {
        if let Some(value) = self.spare.take() {
            return value;
        }
        let u1 = self.uniform_f64();
        let u2 = self.uniform_f64();
        let radius = (-2.0 * (-u2).ln_1p()).sqrt();
        let theta = 2.0 * std::f64::consts::PI * u1;
        self.spare = Some(radius * theta.sin());
        radius * theta.cos()
    }
}

impl NoiseSource for TorchCpu {
    fn normal(&mut self, out: &mut [f32]) {
        if out.len() < 16 {
            out.fill_with(|| self.scalar() as f32);
            return;
        }
        out.fill_with(|| self.uniform_f32());
        let (blocks, rest) = out.as_chunks_mut::<16>();
        blocks.iter_mut().for_each(box_muller_16);
        // The last 16 values are drawn afresh when the blocks do not cover them.
        if !rest.is_empty()
            && let Some(last) = out.last_chunk_mut::<16>()
        {
            last.fill_with(|| self.uniform_f32());
            box_muller_16(last);
        }
    }
}

/// Turns 16 uniforms into 16 normals in place: `u[j]` gives the radius, `u[j + 8]` the angle.
fn box_muller_16(block: &mut [f32; 16]) {
    let (first, second) = block.split_at_mut(8);
    for (a, b) in first.iter_mut().zip(second) {
        let radius = (-2.0 * cephes::ln(1.0 - *a)).sqrt();
        let (sin, cos) = cephes::sin_cos(std::f32::consts::TAU * *b);
        // Adding zero turns -0.0 into 0.0, as the fused `n * std + mean` does.
        *a = radius * cos + 0.0;
        *b = radius * sin + 0.0;
    }
}

/// The counter-based generator of CUDA's `torch.randn`, as A1111 emulates it on the CPU ("NV").
///
/// Element `i` of draw `d` comes from Philox4x32-10 with counter `[d, 0, i, 0]` and the 64-bit seed
/// as key; the first two output words make one normal. It equals the card as long as one grid
/// covers the draw, which holds for latents of usual size.
#[derive(Debug, Clone)]
pub struct Philox {
    key: [u32; 2],
    draw: u32,
}

impl Philox {
    /// A stream at its first draw.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { key: [low32(seed), low32(seed >> 32)], draw: 0 }
    }

    fn words(&self, element: u32) -> [u32; 4] {
        let mut counter = [self.draw, 0, element, 0];
        let mut key = self.key;
        for round in 0..10 {
            if round > 0 {
                key = [key[0].wrapping_add(0x9e37_79b9), key[1].wrapping_add(0xbb67_ae85)];
            }
            let a = u64::from(counter[0]) * 0xd251_1f53;
            let b = u64::from(counter[2]) * 0xcd9e_8d57;
            counter = [low32(b >> 32) ^ counter[1] ^ key[0], low32(b), low32(a >> 32) ^ counter[3] ^ key[1], low32(a)];
        }
        counter
    }
}

impl NoiseSource for Philox {
    fn normal(&mut self, out: &mut [f32]) {
        // The constants are float32 values, the arithmetic on them is float64.
        const UNIT: f64 = 2.328_306_4e-10_f32 as f64;
        const ANGLE: f64 = (2.328_306_4e-10_f64 * 6.283_185_5) as f32 as f64;
        for (element, value) in (0u32..).zip(out) {
            let words = self.words(element);
            let u = f64::from(words[0]) * UNIT + UNIT / 2.0;
            let v = f64::from(words[1]) * ANGLE + ANGLE / 2.0;
            *value = ((-2.0 * u.ln()).sqrt() * v.sin()) as f32;
        }
        self.draw = self.draw.wrapping_add(1);
    }
}

/// `numpy.random.RandomState(seed).normal(...)`, rounded to float32.
///
/// MT19937 seeded with the low 32 bits of the seed, then Marsaglia's polar method in float64, the
/// second of each pair kept for the next value.
#[derive(Debug, Clone)]
pub struct NumPy {
    engine: Mersenne,
    spare: Option<f64>,
}

impl NumPy {
    /// A stream that starts as `RandomState(seed)` does.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { engine: Mersenne::new(low32(seed)), spare: None }
    }

    /// A uniform in `[0, 1)` with 53 bits: 27 of the first word, 26 of the second.
    fn uniform(&mut self) -> f64 {
        let high = f64::from(self.engine.next_u32() >> 5);
        let low = f64::from(self.engine.next_u32() >> 6);
        (high * 67_108_864.0 + low) / 9_007_199_254_740_992.0
    }

    fn scalar(&mut self) -> f64 {
        if let Some(value) = self.spare.take() {
            return value;
        }
        loop {
            let x = 2.0 * self.uniform() - 1.0;
            let y = 2.0 * self.uniform() - 1.0;
            let square = x * x + y * y;
            if square < 1.0 && square != 0.0 {
                let scale = (-2.0 * square.ln() / square).sqrt();
                self.spare = Some(scale * x);
                return scale * y;
            }
        }
    }
}

impl NoiseSource for NumPy {
    fn normal(&mut self, out: &mut [f32]) {
        out.fill_with(|| self.scalar() as f32);
    }
}

/// The low 32 bits.
fn low32(word: u64) -> u32 {
    (word & 0xffff_ffff) as u32
}

//! How models of few steps are drawn with: what the ways of distilling them ask for.

use ondine_graph::{Result, fail};

/// Choices that go together; each counts where a request leaves it open.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preset {
    /// Its name.
    pub name: &'static str,
    /// The sampler.
    pub sampler: &'static str,
    /// The schedule, if it is not the model's own.
    pub schedule: Option<&'static str>,
    /// Steps.
    pub steps: usize,
    /// Guidance; 1 is none.
    pub guidance: f32,
    /// The share of fresh noise, if it is not the sampler's own.
    pub eta: Option<f64>,
    /// The timesteps of so many steps, if they are not the schedule's.
    pub timesteps: &'static [f64],
}

const fn preset(name: &'static str, sampler: &'static str, schedule: Option<&'static str>, steps: usize) -> Preset {
    Preset { name, sampler, schedule, steps, guidance: 1.0, eta: None, timesteps: &[] }
}

/// All of them: adversarial diffusion distillation (Sauer et al. 2023), Lightning (Lin et al. 2024), Hyper-SD (Ren et
/// al. 2024), distribution matching (Yin et al. 2024), TCD (Zheng et al. 2024) and LCM (Luo et al. 2023).
pub static PRESETS: [Preset; 6] = [
    preset("turbo", "euler-a", Some("trailing"), 1),
    preset("lightning", "euler", Some("trailing"), 4),
    preset("hyper", "ddim", Some("trailing"), 4),
    Preset { timesteps: &[999.0, 749.0, 499.0, 249.0], ..preset("dmd2", "lcm", None, 4) },
    Preset { eta: Some(0.3), ..preset("tcd", "tcd", None, 4) },
    preset("lcm", "lcm", None, 4),
];

impl Preset {
    /// The preset of this name.
    ///
    /// # Errors
    /// If there is none; the message lists those there are.
    pub fn find(name: &str) -> Result<&'static Self> {
        match PRESETS.iter().find(|preset| preset.name.eq_ignore_ascii_case(name)) {
            Some(preset) => Ok(preset),
            None => {
                let known: Vec<_> = PRESETS.iter().map(|preset| preset.name).collect();
                fail!(Argument, "preset {name:?} is not known; known are {}", known.join(", "))
            }
        }
    }
}

/// Timesteps as a person writes them.
pub(super) fn written(timesteps: &[f64]) -> String {
    timesteps.iter().map(f64::to_string).collect::<Vec<_>>().join(",")
}

/// The timesteps that a person writes, with commas or blanks between.
pub(super) fn parse_timesteps(text: &str) -> Result<Vec<f64>> {
    let words = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
    match words.map(str::parse).collect::<std::result::Result<Vec<f64>, _>>() {
        Ok(timesteps) if !timesteps.is_empty() && timesteps.iter().all(|t| t.is_finite()) => Ok(timesteps),
        _ => fail!(Argument, "timesteps {text:?} are no numbers; write them like 999,749,499,249"),
    }
}

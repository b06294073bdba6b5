//! Programs whose pictures are to be made again: a seed, a prompt and a strength mean the same picture only together
//! with the habits of the program that they were chosen in.

use std::str::FromStr;

use ondine_graph::{Error, Result, fail};

use crate::{noise::Generator, prompt::emphasis::Emphasis};

/// A program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// Stable Diffusion web UI and its kin, on the graphics card that they draw noise with unless told otherwise.
    A1111,
    /// `ComfyUI`, whose noise is a processor's.
    Comfy,
    /// diffusers, with the generator of a processor.
    Diffusers,
}

/// Which of the steps draw on a picture that is there, at a strength between 0 and 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EditSteps {
    /// The last `steps * strength`, rounded down, or up for flow models: diffusers.
    #[default]
    Share,
    /// The last `steps * min(strength, 0.999)`, rounded down, and the one before: A1111.
    ShareAndOne,
    /// All, which are the last of `steps / strength`: `ComfyUI`.
    Denser,
}

/// Programs by name, the first of each being the one printed.
const TOOLS: [(Tool, &[&str]); 3] = [
    (Tool::A1111, &["a1111", "webui", "forge"]),
    (Tool::Comfy, &["comfy", "comfyui"]),
    (Tool::Diffusers, &["diffusers"]),
];

impl Tool {
    /// The name of each.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TOOLS.iter().map(|(_, names)| names[0])
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        TOOLS.iter().find(|(tool, _)| *tool == self).map_or("", |(_, names)| names[0])
    }

    /// How it reads marks in prompts.
    #[must_use]
    pub fn emphasis(self) -> Emphasis {
        match self {
            Self::A1111 => Emphasis::Original,
            Self::Comfy => Emphasis::Comfy,
            Self::Diffusers => Emphasis::Off,
        }
    }

    /// What it draws noise with.
    #[must_use]
    pub fn generator(self) -> Generator {
        match self {
            Self::A1111 => Generator::Philox,
            Self::Comfy | Self::Diffusers => Generator::TorchCpu,
        }
    }

    /// What it makes of a strength.
    #[must_use]
    pub fn edit_steps(self) -> EditSteps {
        match self {
            Self::A1111 => EditSteps::ShareAndOne,
            Self::Comfy => EditSteps::Denser,
            Self::Diffusers => EditSteps::Share,
        }
    }
}

impl FromStr for Tool {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let lower = name.to_ascii_lowercase();
        match TOOLS.iter().find(|(_, names)| names.contains(&lower.as_str())) {
            Some((tool, _)) => Ok(*tool),
            None => {
                let known: Vec<_> = Self::names().collect();
                fail!(Argument, "{name:?} is no program whose habits are known; known are {}", known.join(", "))
            }
        }
    }
}

impl EditSteps {
    /// How many steps the schedule has, and how many of them, the last, draw on a picture; `up` to round a share up.
    ///
    /// # Errors
    /// If none would.
    pub(crate) fn of(self, steps: usize, strength: f64, up: bool) -> Result<(usize, usize)> {
        let share = (steps as f64 * strength).min(steps as f64);
        let (total, kept) = match self {
            Self::Share if up => (steps, steps - (steps as f64 - share) as usize),
            Self::Share => (steps, share as usize),
            Self::ShareAndOne => (steps, ((steps as f64 * strength.min(0.999)) as usize + 1).min(steps)),
            Self::Denser if strength > 0.9999 => (steps, steps),
            Self::Denser if strength > 0.0 => ((steps as f64 / strength) as usize, steps),
            Self::Denser => (steps, 0),
        };
        if kept == 0 {
            let least = if self == Self::Share { 1.0 / steps as f64 } else { MOST_DENSE };
            fail!(
                Argument,
                "strength {strength} of {steps} steps is no step at all; give at least {least:.3}, or more steps"
            );
        }
        if total > (steps as f64 / MOST_DENSE) as usize {
            fail!(Argument, "strength {strength} makes {total} steps of {steps}; give at least {MOST_DENSE}");
        }
        Ok((total, kept))
    }
}

/// The least strength that a denser schedule is made for.
const MOST_DENSE: f64 = 0.01;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strength_means_what_it_means_elsewhere() {
        let of = |rule: EditSteps, steps, strength, up| rule.of(steps, strength, up).unwrap();
        assert_eq!(of(EditSteps::Share, 20, 0.55, false), (20, 11));
        assert_eq!(of(EditSteps::Share, 7, 0.5, false), (7, 3));
        assert_eq!(of(EditSteps::Share, 7, 0.5, true), (7, 4));
        // int(min(denoising_strength, 0.999) * steps) steps behind the first that is noised.
        assert_eq!(of(EditSteps::ShareAndOne, 20, 0.75, false), (20, 16));
        assert_eq!(of(EditSteps::ShareAndOne, 20, 1.0, false), (20, 20));
        assert_eq!(of(EditSteps::ShareAndOne, 20, 0.0, false), (20, 1));
        // int(steps / denoise), of which the last are run.
        assert_eq!(of(EditSteps::Denser, 20, 0.6, false), (33, 20));
        assert_eq!(of(EditSteps::Denser, 20, 1.0, false), (20, 20));
        let refused = |rule: EditSteps, steps, strength| rule.of(steps, strength, false).unwrap_err().to_string();
        assert!(refused(EditSteps::Share, 10, 0.05).contains("at least 0.100"));
        assert!(refused(EditSteps::Denser, 10, 0.0).contains("no step at all"));
        assert!(refused(EditSteps::Denser, 10, 0.001).contains("at least 0.01"));
    }
}

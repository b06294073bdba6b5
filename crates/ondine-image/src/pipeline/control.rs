//! Networks that steer the U-Net by pictures (Zhang et al. 2023): how far each has a say, and what they add together.

use std::collections::BTreeMap;

use ondine_graph::{NDArray, Result, fail};
use ondine_models::ControlFacts;
use ondine_runtime::{Function, State, Wish};

use super::{
    conditioning::takes,
    parameters::Parameters,
    part::{ControlParts, Terms},
};
use crate::request::Request;

/// What is added to the maps of a U-Net, under the names of its inputs.
type Residuals = BTreeMap<String, NDArray>;

/// The networks of a drawing that steer it.
#[derive(Default)]
pub(super) struct Steering {
    runs: Vec<Run>,
    /// As many zeros as there are values in each residual, once these are known.
    zeros: Option<Residuals>,
}

struct Run {
    function: Function,
    /// What the network made of the picture, `[1, height, width, channels]`.
    embedded: NDArray,
    state: State,
    scale: f32,
    start: f64,
    end: f64,
}

impl Run {
    /// True if it has a say in call `index` of `total`, as in diffusers.
    fn acts(&self, index: usize, total: usize) -> bool {
        let share = |calls: usize| calls as f64 / total as f64;
        self.scale != 0.0 && share(index) >= self.start && share(index + 1) <= self.end
    }
}

impl Steering {
    /// Loads the networks, and has them look at their pictures.
    pub(super) fn new(parts: &[ControlParts], request: &Request, terms: &Terms<'_>) -> Result<Self> {
        let mut runs = Vec::new();
        for (parts, control) in parts.iter().zip(&request.controls) {
            let picture = picture(&control.image, parts.facts)?;
            let mut state = State::default();
            let embed = parts.embed.function(terms)?;
            let embedded =
                embed.run_until(&[("controlnet_cond", &picture)], &mut state, terms.wish)?.take("embedded")?;
            let (scale, start, end) = (control.scale, control.start, control.end);
            runs.push(Run {
                function: parts.main.function(terms)?,
                embedded,
                state: State::default(),
                scale,
                start,
                end,
            });
        }
        Ok(Self { runs, zeros: None })
    }

    /// What all networks together add at call `index` of `total`; `inputs` are those of the U-Net, and `latents` what
    /// it sees without anything beside them.
    pub(super) fn residuals(
        &mut self,
        [index, total]: [usize; 2],
        inputs: &BTreeMap<&'static str, NDArray>,
        latents: &NDArray,
        wish: &Wish,
    ) -> Result<Residuals> {
        let mut sum: Option<Residuals> = None;
        for (number, run) in self.runs.iter_mut().enumerate() {
            let acts = run.acts(index, total);
            // Sizes of maps are those of what a network yields: one without a say is asked once.
            let asked = number == 0 && self.zeros.is_none();
            if !acts && !asked {
                continue;
            }
            let named = inputs.iter().map(|(name, array)| (*name, array)).filter(|(name, _)| *name != "sample");
            let mut named: Vec<_> = named.filter(|(name, _)| takes(run.function.graph(), name)).collect();
            named.extend([("sample", latents), ("embedded", &run.embedded)]);
            let mut outputs = run.function.run_until(&named, &mut run.state, wish)?;
            let names: Vec<String> = run.function.graph().outputs().iter().map(|(name, _)| name.to_string()).collect();
            let mut residuals = Residuals::new();
            for name in names {
                residuals.insert(name.clone(), outputs.take(&name)?);
            }
            if asked {
                let zeros =
                    residuals.iter().map(|(name, of)| Ok((name.clone(), NDArray::zeros(of.dtype(), of.shape())?)));
                self.zeros = Some(zeros.collect::<Result<_>>()?);
            }
            if acts {
                add(&mut sum, residuals, run.scale)?;
            }
        }
        Ok(sum.or_else(|| self.zeros.clone()).unwrap_or_default())
    }
}

/// Adds so much of residuals to a sum.
fn add(sum: &mut Option<Residuals>, mut residuals: Residuals, scale: f32) -> Result<()> {
    match sum {
        None => {
            for residual in residuals.values_mut() {
                residual.view_mut::<f32>()?.iter_mut().for_each(|x| *x *= scale);
            }
            *sum = Some(residuals);
        }
        Some(sum) => {
            for (name, residual) in &residuals {
                let Some(total) = sum.get_mut(name) else { fail!(Internal, "a map that only one network has") };
                for (x, other) in total.view_mut::<f32>()?.iter_mut().zip(residual.view::<f32>()?) {
                    *x += scale * other;
                }
            }
        }
    }
    Ok(())
}

/// The picture as the network takes it: with its colours in the other order, if it was trained so.
fn picture(image: &NDArray, facts: ControlFacts) -> Result<NDArray> {
    if !facts.reversed {
        return Ok(image.clone());
    }
    let values = image.view::<f32>()?;
    let plane = (values.len() / 3).max(1);
    let reversed: Vec<f32> = values.chunks(plane).rev().flatten().copied().collect();
    NDArray::new(image.shape(), &reversed)
}

/// The latents of all passes, without what a U-Net takes beside them.
pub(super) fn latents(scaled: &[f32], parameters: &Parameters) -> Result<NDArray> {
    let [channels, height, width] = parameters.latents;
    NDArray::new(&[parameters.batch(), channels, height, width], &scaled.repeat(parameters.passes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn residuals_are_scaled_and_summed() {
        let of = |values: [f32; 2]| Residuals::from([("a".to_owned(), NDArray::new(&[2], &values).unwrap())]);
        let mut sum = None;
        add(&mut sum, of([1.0, 2.0]), 0.5).unwrap();
        add(&mut sum, of([10.0, -10.0]), 0.1).unwrap();
        assert_eq!(sum.unwrap()["a"].view::<f32>().unwrap(), [1.5, 0.0]);
    }
}

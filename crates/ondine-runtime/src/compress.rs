//! Weights in fewer bits: integers, palettes, corrections of low rank; chosen layer by layer, measured on inputs.
//!
//! [`compress`] yields an asset whose functions are the same and whose weights take less room in files. Wherever
//! weights are read, a compressed one stands for numbers: no graph changes.

mod calibrate;
mod choose;
mod codes;
mod encode;
mod format;
mod integers;
mod layers;
mod low_rank;
mod measure;
mod options;
mod palette;
mod plain;
mod report;

use std::{borrow::Cow, collections::BTreeMap, time::Instant};

use crate::{cancel::Wish, device::Device, evaluate::weight_numbers};
use ondine_graph::{Asset, Context, Result, Weights, fail};

pub use format::{Format, Kind};
pub use options::{Goal, Options, Progress, Rule, matches};
pub use report::{LayerReport, Loss, Report};

use self::{
    choose::{Candidate, Ladder},
    encode::{Coded, encode},
    layers::{Layer, layers},
    measure::{Measure, Mix},
    plain::plain_tensor,
};

/// Compresses the weights of an asset. The same asset and options yield the same bytes.
///
/// # Errors
/// If a weight cannot be read, was altered or is not finite, if inputs do not fit the functions, if a goal cannot be
/// reached, or on the device's wish to stop.
pub fn compress(
    asset: &Asset,
    options: &Options,
    device: &Device,
    progress: &dyn Fn(Progress<'_>),
) -> Result<(Asset, Report)> {
    asset.weights().check_seals()?;
    let wish = device.cancel().listen();
    let layers = layers(asset);
    let fixed: Vec<Option<Option<Format>>> = layers.iter().map(|layer| options.rule(layer)).collect();
    let calibrated = options.wants_rows8() && !options.calibration.is_empty();
    let measured = options.measure || options.goal != Goal::Format || calibrated;
    let plain = decoded(asset, &layers)?;
    let measure = if measured { Some(Measure::new(&plain, &layers, options, device, progress)?) } else { None };
    let ranges = measure.as_ref().filter(|_| calibrated);
    let work = Work { asset, layers: &layers, device, progress, wish, ranges };
    let formats = match (&options.goal, &measure) {
        (Goal::Format, _) | (_, None) => fixed.iter().map(|fixed| fixed.unwrap_or(options.format)).collect::<Vec<_>>(),
        (goal, Some(measure)) => work.choose(goal, options, &fixed, measure)?,
    };
    work.build(&formats, measure.as_ref())
}

/// The asset with layers that are encoded already as plain numbers, which can be replaced by others.
fn decoded(asset: &Asset, layers: &[Layer]) -> Result<Asset> {
    if !layers.iter().any(|layer| asset.weights().is_encoded(&layer.path)) {
        return Ok(asset.clone());
    }
    let mut weights = asset.weights().clone();
    for layer in layers.iter().filter(|layer| asset.weights().is_encoded(&layer.path)) {
        let tensor = plain_tensor(&weight_numbers(asset, &layer.path)?, &layer.shape);
        weights.remove_encoding(&layer.path);
        weights.insert(&layer.path, tensor);
    }
    let functions: Vec<_> = asset.functions().iter().map(|(name, graph)| (name.clone(), graph.clone())).collect();
    Asset::with_recipes(asset.name().clone(), functions, weights, asset.recipes().clone())
}

impl Options {
    /// What a rule says of a layer.
    fn rule(&self, layer: &Layer) -> Option<Option<Format>> {
        let named = |rule: &&Rule| matches(&rule.pattern, layer.name()) || rule.pattern == *layer.path;
        self.rules.iter().find(named).map(|rule| rule.format)
    }

    /// True if weights may be made for activations of 8 bits.
    fn wants_rows8(&self) -> bool {
        let rows8 = |format: &Option<Format>| format.is_some_and(|format| format.kind == Kind::Rows8);
        rows8(&self.format) || self.rules.iter().any(|rule| rows8(&rule.format))
    }

    /// The formats that are tried for a goal.
    fn tried(&self) -> Vec<Format> {
        if let Some(format) = self.format {
            return vec![format];
        }
        let kinds = [
            Kind::Integer { bits: 8, symmetric: false },
            Kind::Palette { bits: 6 },
            Kind::Integer { bits: 4, symmetric: true },
            Kind::Palette { bits: 4 },
            Kind::Integer { bits: 2, symmetric: true },
            Kind::Palette { bits: 2 },
        ];
        let mut formats: Vec<_> = kinds.map(Format::new).to_vec();
        formats[2].group = Some(32);
        if self.low_rank > 0 {
            let corrected: Vec<_> =
                [formats[2], formats[4]].map(|format| Format { low_rank: self.low_rank, ..format }).to_vec();
            formats.extend(corrected);
        }
        formats
    }
}

/// A compression under way.
struct Work<'a> {
    asset: &'a Asset,
    layers: &'a [Layer],
    device: &'a Device,
    progress: &'a dyn Fn(Progress<'_>),
    wish: Wish,
    /// Knows the ranges of activations, if they become 8 bits.
    ranges: Option<&'a Measure>,
}

impl Work<'_> {
    /// Calls `body` for each of `items`, tells how far it is, and stops if that is wished for.
    fn each<'t, T, R>(
        &self,
        stage: &str,
        items: &'t [T],
        mut body: impl FnMut(usize, &'t T) -> Result<R>,
    ) -> Result<Vec<R>> {
        let mut results = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            self.wish.check()?;
            let start = Instant::now();
            results.push(body(index, item)?);
            let step = start.elapsed();
            (self.progress)(Progress { stage, done: index + 1, total: items.len(), step });
        }
        Ok(results)
    }

    /// A layer in a format, with the range of its activations if they become 8 bits.
    fn encode(&self, index: usize, values: &[f32], format: &Format) -> Result<Coded> {
        let layer = &self.layers[index];
        let mut coded = encode(values, &layer.shape, format, self.device.processor()?).at(|| &layer.path)?;
        let ranges = self.ranges.filter(|_| format.kind == Kind::Rows8);
        if let Some(range) = ranges.and_then(|measure| measure.range(index))
            && range.iter().all(|end| end.is_finite())
        {
            coded.set_range(range);
        }
        Ok(coded)
    }

    /// The format of each layer, for a goal.
    fn choose(
        &self,
        goal: &Goal,
        options: &Options,
        fixed: &[Option<Option<Format>>],
        measure: &Measure,
    ) -> Result<Vec<Option<Format>>> {
        let tried = options.tried();
        let ladders = self.each("trying formats", self.layers, |index, layer| {
            let formats: Vec<_> = match fixed[index] {
                Some(format) => vec![format],
                None => tried.iter().map(|&format| Some(format)).chain([None]).collect(),
            };
            let values = weight_numbers(self.asset, &layer.path)?;
            let mut candidates = Vec::with_capacity(formats.len());
            for format in formats {
                let (bytes, noise) = match &format {
                    None => (layer.kept, 0.0),
                    Some(format) => {
                        let coded = self.encode(index, &values, format)?;
                        (coded.bytes() as u64, measure.layer(index, &values, &coded)?.0)
                    }
                };
                candidates.push(Candidate { format, bytes, noise });
            }
            let sensitivity = measure.sensitivity(index, &values)?;
            candidates.iter_mut().for_each(|candidate| candidate.noise *= sensitivity);
            Ok(Ladder::new(candidates))
        })?;
        let before = self.asset_bytes();
        let others = self.other_bytes();
        let steps = choose::steps(&ladders);
        let bytes = |count: usize| others + choose::bytes(&ladders, &steps[..count]);
        let aim = match *goal {
            Goal::Bytes(bytes) => bytes,
            Goal::Share(share) => (share * before as f64) as u64,
            Goal::Psnr(psnr) => return self.reach(psnr, &ladders, &steps, measure),
            Goal::Format => fail!(Unsupported, "a format is no goal to choose for"),
        };
        match (0..=steps.len()).find(|&count| bytes(count) <= aim) {
            Some(count) => Ok(choose::formats(&ladders, &steps[..count])),
            None => fail!(
                Unsupported,
                "the weights cannot be {aim} bytes: the least is {}, of {before}",
                bytes(steps.len())
            ),
        }
    }

    /// The most steps after which results still have `psnr`, measured.
    fn reach(&self, psnr: f64, ladders: &[Ladder], steps: &[usize], measure: &Measure) -> Result<Vec<Option<Format>>> {
        let mut mix = Mix::new(measure, self.layers.len());
        let (mut good, mut bad) = (0, steps.len() + 1);
        // Start where the sum of what layers do alone says that the aim is.
        let allowed = 10.0_f64.powf(-psnr / 10.0);
        let mut next = (0..=steps.len()).rev().find(|&count| choose::noise(ladders, &steps[..count]) <= allowed);
        let rounds: Vec<usize> = (0..usize::BITS as usize - steps.len().leading_zeros() as usize + 3).collect();
        self.each("looking for the mix", &rounds, |_, _| {
            if bad - good <= 1 {
                return Ok(());
            }
            let count = next.take().filter(|count| (good + 1..bad).contains(count)).unwrap_or(good.midpoint(bad));
            let formats = choose::formats(ladders, &steps[..count]);
            let loss = self.apply(&mut mix, &formats, measure)?;
            if loss.psnr.is_none_or(|found| found >= psnr) {
                good = count;
            } else {
                bad = count;
            }
            Ok(())
        })?;
        Ok(choose::formats(ladders, &steps[..good]))
    }

    /// Brings a mix to these formats and measures it.
    fn apply(&self, mix: &mut Mix<'_>, formats: &[Option<Format>], measure: &Measure) -> Result<Loss> {
        if self.ranges.is_some() && formats.iter().flatten().any(|format| format.kind == Kind::Rows8) {
            // Numbers in place of codes would leave out what activations lose.
            let coded = (0..self.layers.len()).map(|index| Ok(self.coded(index, formats)?.1)).collect::<Result<_>>()?;
            return measure.asset(&self.assemble(coded)?);
        }
        let mut changed = Vec::new();
        for (index, (layer, format)) in self.layers.iter().zip(formats).enumerate() {
            if mix.formats[index] != *format {
                let values = weight_numbers(self.asset, &layer.path)?;
                let values = match format {
                    Some(format) => self.encode(index, &values, format)?.values,
                    None => values.into_owned(),
                };
                changed.push((&*layer.path, values));
                mix.formats[index] = *format;
            }
        }
        mix.loss(&changed)
    }

    /// Bytes of all tensors that the functions use.
    fn asset_bytes(&self) -> u64 {
        let mut sources = BTreeMap::new();
        for weight in self.asset.functions().values().flat_map(ondine_graph::Graph::weights) {
            layers::sources(self.asset, &weight.path, &mut sources);
        }
        sources.values().sum()
    }

    /// Bytes of the weights that are no layers, as they are copied.
    fn other_bytes(&self) -> u64 {
        let weights = self.asset.functions().values().flat_map(ondine_graph::Graph::weights);
        let others = weights.filter(|weight| self.layers.iter().all(|layer| layer.path != weight.path));
        let bytes: BTreeMap<_, _> =
            others.map(|weight| (&weight.path, layers::kept_bytes(self.asset, &weight.path, &weight.shape))).collect();
        bytes.values().sum()
    }

    /// The numbers of a layer, and what it becomes in its format: none if it stays as it is.
    fn coded(&self, index: usize, formats: &[Option<Format>]) -> Result<(Cow<'_, [f32]>, Option<Coded>)> {
        let layer = &self.layers[index];
        let values = weight_numbers(self.asset, &layer.path)?;
        let coded = formats[index].map(|format| self.encode(index, &values, &format)).transpose()?;
        // What takes more room than before stays as it was.
        Ok((values, coded.filter(|coded| (coded.bytes() as u64) < layer.kept)))
    }

    /// The asset with layers in place of others; none for those that stay.
    fn assemble(&self, coded: Vec<Option<Coded>>) -> Result<Asset> {
        let mut weights = Weights::default();
        for (layer, coded) in self.layers.iter().zip(coded) {
            if let Some(coded) = coded {
                coded.insert(&layer.path, &mut weights);
            }
        }
        for weight in self.asset.functions().values().flat_map(ondine_graph::Graph::weights) {
            if weights.get(&weight.path).is_none() {
                layers::copy_to(self.asset, &weight.path, &weight.shape, &mut weights)?;
            }
        }
        let functions: Vec<_> =
            self.asset.functions().iter().map(|(name, graph)| (name.clone(), graph.clone())).collect();
        Asset::new(self.asset.name().clone(), functions, weights)
    }

    /// The asset with its layers in these formats, and what that did.
    fn build(&self, formats: &[Option<Format>], measure: Option<&Measure>) -> Result<(Asset, Report)> {
        let mut all = Vec::with_capacity(self.layers.len());
        let layers = self.each("compressing", self.layers, |index, layer| {
            let (values, coded) = self.coded(index, formats)?;
            let report = match (&coded, formats[index]) {
                (Some(coded), Some(format)) => {
                    let loss = measure.map(|measure| measure.layer(index, &values, coded)).transpose()?;
                    let (bytes, loss) = (coded.bytes() as u64, loss.map(|(_, loss)| loss));
                    layer.report(format.to_string(), bytes, &coded.values, &values, loss)
                }
                _ => layer.report("keep".to_owned(), layer.kept, &values, &values, None),
            };
            all.push(coded.map(|mut coded| {
                coded.values = Vec::new();
                coded
            }));
            Ok(report)
        })?;
        let asset = self.assemble(all)?;
        let outputs = measure.map(|measure| measure.asset(&asset)).transpose()?;
        let bytes_after = asset.weights().iter().map(|(_, tensor)| tensor.bytes.len() as u64).sum();
        Ok((asset, Report { layers, bytes_before: self.asset_bytes(), bytes_after, outputs }))
    }
}

#[cfg(test)]
mod conv_tests;
#[cfg(test)]
mod tests;

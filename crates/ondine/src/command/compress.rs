//! `ondine compress`: a model with weights in fewer bits.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use clap::Args;
use ondine::model::{self, Opened};
use ondine_runtime::{
    Device, NDArray, Weights,
    compress::{Format, Goal, Kind, LayerReport, Loss, Options, Report, Rule, compress},
};
use serde::Deserialize;

use super::{bytes::parse_bytes, import::keep_config, running::parse_threads};
use crate::{interrupt, output, progress::Progress, report::usage};

/// Write a model with its weights in fewer bits.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ondine compress model.pt2 -o small.ondine --weights int4
  ondine compress model.pt2 -o small.ondine --size 0.15x --calibrate inputs.safetensors --report
  ondine compress model.pt2 -o small.ondine --psnr 40 --low-rank 16
  ondine compress model.pt2 -o small.ondine --weights palette4 --rules rules.toml --json

Rules are tried in order, the first that names a layer decides:
  [[rule]]
  match = \"encoder.layer.*.attention.*\"
  weights = \"int8\"            # or keep
  group = 64                  # also symmetric = true, low_rank = 16")]
pub(super) struct Compress {
    /// Model: an archive of torch.export.save, a folder of `ondine import` or of one network
    model: String,

    /// Folder to write; an older one there is replaced
    #[arg(short, long, value_name = "FOLDER")]
    output: PathBuf,

    /// Format: int8, int6, int4, int2, palette8, palette6, palette4, palette2, w8a8 [default: int8, or a mix for
    /// --size, --psnr]
    #[arg(long, value_name = "FORMAT", value_parser = str::parse::<Kind>)]
    weights: Option<Kind>,

    /// Weights of a row with one scale, or rows with one palette [default: a row (int8), 64 (int6, int4), 32
    /// (int2), all rows]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    group: Option<u32>,

    /// Integers around 0, without a zero point
    #[arg(long)]
    symmetric: bool,

    /// Keep the R largest singular vectors of the error beside the codes, in half precision
    #[arg(long, value_name = "R", default_value_t = 0)]
    low_rank: usize,

    /// Layers with formats of their own: a TOML file
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,

    /// Choose for each layer, to fit a size such as 0.25x or 100MB at the least error
    #[arg(long, value_name = "SIZE", value_parser = parse_size, conflicts_with = "psnr")]
    size: Option<Goal>,

    /// Choose for each layer, to keep so many dB of peak signal to noise in the worst result, in the least bytes
    #[arg(long, value_name = "DB", allow_negative_numbers = true)]
    psnr: Option<f64>,

    /// Safetensors file of inputs to measure with: tensors NAME, or 0.NAME, 1.NAME... of several calls [default:
    /// random]
    #[arg(long, value_name = "FILE")]
    calibrate: Option<PathBuf>,

    /// Seed of random inputs
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// Run the model to measure errors, and print a table of all layers
    #[arg(long)]
    report: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    /// Threads to use [default: one per core]
    #[arg(long, value_name = "N", value_parser = parse_threads)]
    threads: Option<NonZeroUsize>,
}

/// A size: bytes, or a share of those before.
fn parse_size(text: &str) -> Result<Goal, String> {
    match text.strip_suffix(['x', 'X']) {
        Some(share) => match share.parse::<f64>() {
            Ok(share) if share > 0.0 && share <= 1.0 => Ok(Goal::Share(share)),
            _ => Err("write a share such as 0.25x, or a size such as 100MB".to_owned()),
        },
        None => parse_bytes(text).map(Goal::Bytes),
    }
}

impl Compress {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let options = self.options()?;
        let device = Device::cpu(self.threads)?.with_cancel(interrupt::wish());
        let Opened::Asset(asset) = model::open(&self.model, &device)? else {
            bail!("{}: built for one kind of processor; compress what it was built from", self.model);
        };
        let progress = Progress::new(self.json);
        let shown = |step: ondine_runtime::compress::Progress<'_>| {
            progress.work(step.stage, step.done, step.total);
        };
        let (small, report) = compress(&asset, &options, &device, &shown)?;
        progress.finish();
        small.save(&self.output)?;
        keep_config(&self.model, &self.output)?;
        if self.json {
            output::json(&serde_json::to_value(&report)?);
        } else {
            if self.report {
                print_table(&report);
            }
            print_sums(&report, &self.output);
        }
        Ok(())
    }

    fn options(&self) -> anyhow::Result<Options> {
        let goal = match (self.size, self.psnr) {
            (Some(size), _) => size,
            (None, Some(psnr)) if psnr.is_finite() && psnr > 0.0 => Goal::Psnr(psnr),
            (None, Some(psnr)) => usage!("--psnr {psnr}: write decibels above 0, such as 40"),
            (None, None) => Goal::Format,
        };
        let default = (goal == Goal::Format).then_some(Kind::Integer { bits: 8, symmetric: false });
        let format = |kind: Kind| format(kind, self.symmetric, self.group.map(|n| n as usize), self.low_rank);
        let rules = self.rules.as_deref().map(read_rules).transpose()?.unwrap_or_default();
        let calibration = self.calibrate.as_deref().map(read_samples).transpose()?.unwrap_or_default();
        Ok(Options {
            format: self.weights.or(default).map(format).transpose()?,
            rules,
            goal,
            measure: self.report || self.calibrate.is_some(),
            calibration,
            seed: self.seed,
            low_rank: self.low_rank,
        })
    }
}

fn format(kind: Kind, symmetric: bool, group: Option<usize>, low_rank: usize) -> anyhow::Result<Format> {
    let kind = match kind {
        Kind::Integer { bits, .. } => Kind::Integer { bits, symmetric },
        other => other,
    };
    if kind == Kind::Rows8 && (group.is_some() || low_rank > 0) {
        usage!("w8a8 has neither groups nor a low rank");
    }
    Ok(Format { kind, group, low_rank })
}

/// A file of rules.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    #[serde(default)]
    rule: Vec<RuleText>,
}

/// One rule as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    r#match: String,
    weights: String,
    group: Option<usize>,
    #[serde(default)]
    symmetric: bool,
    #[serde(default)]
    low_rank: usize,
}

fn read_rules(path: &Path) -> anyhow::Result<Vec<Rule>> {
    let place = || path.display().to_string();
    let rules: Rules = toml::from_str(&std::fs::read_to_string(path).with_context(place)?).with_context(place)?;
    let rule = |text: RuleText| {
        let format = match text.weights.as_str() {
            "keep" => None,
            name => Some(format(name.parse()?, text.symmetric, text.group, text.low_rank)?),
        };
        Ok(Rule { pattern: text.r#match, format })
    };
    rules.rule.into_iter().map(rule).collect::<anyhow::Result<_>>().with_context(place)
}

/// The inputs of one call, or of several that are numbered.
fn read_samples(path: &Path) -> anyhow::Result<Vec<BTreeMap<String, NDArray>>> {
    let weights = Weights::open(path)?;
    let mut samples = BTreeMap::<usize, BTreeMap<String, NDArray>>::new();
    for name in weights.paths() {
        let numbered = name.split_once('.').and_then(|(number, rest)| Some((number.parse().ok()?, rest)));
        let (number, input) = numbered.unwrap_or((0, name));
        samples.entry(number).or_default().insert(input.to_owned(), weights.array(name)?);
    }
    ensure!(!samples.is_empty(), "{} holds no tensors", path.display());
    Ok(samples.into_values().collect())
}

fn print_table(report: &Report) {
    let name = |layer: &LayerReport| layer.path.split('#').next().unwrap_or_default().to_owned();
    let width = report.layers.iter().map(|layer| name(layer).len()).max().unwrap_or(0).clamp(5, 60);
    output::line(format_args!(
        "{:width$}  {:14} {:>11} {:>11}  {:>9} {:>7}  {:>9} {:>7}",
        "layer", "format", "before", "after", "weight", "PSNR", "output", "PSNR"
    ));
    for layer in &report.layers {
        let [weight, output] = [Some(layer.weight), layer.output].map(loss_columns);
        let (name, format, before, after) = (name(layer), &layer.format, layer.bytes_before, layer.bytes_after);
        output::line(format_args!("{name:width$}  {format:14} {before:>11} {after:>11}  {weight}  {output}"));
    }
}

/// A relative error and a ratio, in columns.
fn loss_columns(loss: Option<Loss>) -> String {
    match loss {
        Some(Loss { relative, psnr: Some(psnr) }) => format!("{relative:>9.5} {psnr:>7.2}"),
        Some(Loss { psnr: None, .. }) => format!("{:>9} {:>7}", 0, "inf"),
        None => format!("{:>9} {:>7}", "-", "-"),
    }
}

fn print_sums(report: &Report, output: &Path) {
    let Report { bytes_before, bytes_after, outputs, .. } = report;
    let share = *bytes_after as f64 / (*bytes_before).max(1) as f64;
    output::line(format_args!("{}: {bytes_after} bytes of weights, {share:.3} of {bytes_before}", output.display()));
    match outputs {
        Some(Loss { relative, psnr: Some(psnr) }) => {
            output::line(format_args!(
                "results: relative error {relative:.5}, {psnr:.2} dB of peak signal to noise, in the worst of all calls"
            ));
        }
        Some(_) => output::line("results: the same"),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bytes_or_shares() {
        assert_eq!(parse_size("0.25x"), Ok(Goal::Share(0.25)));
        assert_eq!(parse_size("100MB"), Ok(Goal::Bytes(100_000_000)));
        assert!(parse_size("2x").is_err() && parse_size("0x").is_err() && parse_size("small").is_err());
    }

    #[test]
    fn rules_are_read_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rules.toml");
        let write = |text: &str| std::fs::write(&file, text).unwrap();
        let keep = "[[rule]]\nmatch = \"a.*\"\nweights = \"keep\"\n";
        let int4 = "[[rule]]\nmatch = \"*\"\nweights = \"int4\"\ngroup = 32\nsymmetric = true\n";
        write(&format!("{keep}{int4}"));
        let rules = read_rules(&file).unwrap();
        assert_eq!((rules[0].pattern.as_str(), rules[0].format), ("a.*", None));
        let kind = Kind::Integer { bits: 4, symmetric: true };
        assert_eq!(rules[1].format, Some(Format { kind, group: Some(32), low_rank: 0 }));
        for bad in ["[[rule]]\nmatch = \"a\"\n", "[[rule]]\nmatch = \"a\"\nweights = \"int3\"\n", "[[rules]]\n"] {
            write(bad);
            assert!(read_rules(&file).is_err(), "{bad}");
        }
    }
}

//! `ondine compare`: the first node where a model's values part from a reference, or stop being finite.

mod difference;
mod nonfinite;
mod origin;
mod side;
mod values;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::{bail, ensure};
use clap::Args;
use ondine_runtime::{
    Graph, NDArray, Named, Origin, Precision, State, Value, Weights, file::check_writable, sample::Arguments,
    write_safetensors,
};
use serde_json::{Value as Json, json};

use super::{
    callee::{Callee, Given, Inputs, borrowed, fitted},
    running::Running,
};
use crate::{interrupt, output, report::usage};
use difference::{Difference, Tolerance};
use nonfinite::Hunt;
use origin::{describe_place, line_of, place_json, short_line};
use side::{Ready, Side};
use values::{Comparison, Recorder, Reference, Row, culprits, matches, partners, strangers};

/// Find the first node where values part from a reference, or stop being finite.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ondine compare model.pt2 --reference ref.safetensors        as PyTorch computed it: python/ondine_golden writes such files
  ondine compare model.pt2 --reference ref.safetensors --as-written
  ondine compare model.pt2 --precision int8 --against precision=f32
  ondine compare model.pt2 --against cpu=generic,threads=1
  ondine compare model.pt2 --against finetuned.pt2 --inputs in.safetensors
  ondine compare model.pt2 --nonfinite
  ondine compare model.pt2 --dump out.safetensors --module 'layers.*.attention' --module add_3

A reference names its tensors as the archive names its nodes, or as modules are called; output_0 and so on are the results. The
engine fuses nodes: those that went into others have no value of their own, and only the others are compared. --as-written
runs the program as it was exported (or a folder as it was imported), in f32 and node by node. Exit code 1 says that values
part, that the model lacks what the reference has, or that --nonfinite found something.")]
pub(super) struct Compare {
    #[command(flatten)]
    callee: Callee,

    #[command(flatten)]
    inputs: Inputs,

    /// Size of a symbolic dimension of random inputs [default: the exporter's example, or the least allowed]
    #[arg(long, value_name = "NAME=N")]
    size: Vec<String>,

    /// Safetensors file of values to compare with, by node or module; its inputs are taken unless others are given
    #[arg(long, value_name = "FILE", conflicts_with = "against")]
    reference: Option<PathBuf>,

    /// Another model to compare with, or this one run differently: precision=P, threads=N, cpu=TIER, as-written
    #[arg(long, value_name = "OTHER")]
    against: Option<String>,

    /// Run the program as it was exported, in f32 and node by node
    #[arg(long)]
    as_written: bool,

    /// Find the first node that makes a NaN or an infinity of finite inputs
    #[arg(long)]
    nonfinite: bool,

    /// Safetensors file to write intermediate values to, by node
    #[arg(long, value_name = "FILE")]
    dump: Option<PathBuf>,

    /// With --dump, only the node or module of this name, `*` standing for anything
    #[arg(long, value_name = "PATTERN", requires = "dump")]
    module: Vec<String>,

    /// Most difference, as a share of a tensor's largest magnitude [default: 1e-4, or 0.05 if either side is not f32]
    #[arg(long, value_name = "X", value_parser = parse_tolerance, allow_negative_numbers = true)]
    rtol: Option<f64>,

    /// Most difference in addition to that
    #[arg(long, value_name = "X", default_value_t = 1e-6, value_parser = parse_tolerance, allow_negative_numbers = true)]
    atol: f64,

    /// Least ratio of a tensor's peak to the noise
    #[arg(long, value_name = "DECIBELS", value_parser = parse_tolerance, allow_negative_numbers = true)]
    psnr: Option<f64>,

    /// Rows to print; 0 for all
    #[arg(long, value_name = "N", default_value_t = 30)]
    rows: usize,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    running: Running,
}

impl Compare {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let asked = self.reference.is_some() || self.against.is_some() || self.nonfinite || self.dump.is_some();
        if !asked {
            usage!("nothing to do; say --reference, --against, --nonfinite or --dump");
        }
        let precision = self.running.precision.unwrap_or_default();
        if self.as_written && precision != Precision::F32 {
            usage!("--as-written is f32; drop --precision");
        }
        self.dump.as_deref().map_or(Ok(()), check_writable)?;
        let (model, threads) = (self.callee.model.clone(), self.running.threads);
        let side = Side { model, precision, threads, tier: None, as_written: self.as_written };
        let cancel = interrupt::wish();
        let name = self.callee.function.as_deref();
        let planned = side.plan(name, &cancel)?;
        let reference = self.reference.as_ref().map(|path| Weights::open(path)).transpose()?;
        let given = self.given(planned.graph()?, reference.as_ref())?;
        let other = self.against.as_ref().map(|words| side.other(words)).transpose()?;
        let refined = || Side { as_written: true, precision: Precision::F32, ..side.clone() }.plan(name, &cancel);
        self.running.allow(&side.model, || {
            let mut bytes = planned.bytes(&given, self.dump.is_some())?;
            if let Some(other) = &other {
                bytes += other.plan(name, &cancel)?.bytes(&given, true)?;
            }
            // A model that is no archive cannot be looked at as it was written, which then is said where it matters.
            if let Some(refined) = (self.nonfinite && !self.as_written).then(refined).and_then(Result::ok) {
                bytes += refined.bytes(&given, false)?;
            }
            Ok(bytes)
        })?;
        let ready = planned.ready()?;
        let arguments = given.arguments(ready.function.graph())?;
        let mut facts = json!({"model": side.label(), "function": ready.asset.functions().keys().next()});
        let mut parted = None;
        if let Some(reference) = reference {
            let names = side.names(&ready.asset)?;
            let reference = Reference::File(reference);
            parted = self.compare(&ready, &arguments, &reference, names.as_ref(), side.precision, &mut facts)?;
        }
        if let Some(other) = other {
            facts["against"] = other.label().into();
            let precision = if other.precision == Precision::F32 { side.precision } else { other.precision };
            let reference = record(&other.plan(name, &cancel)?.ready()?, ready.function.graph(), &arguments)?;
            parted = self.compare(&ready, &arguments, &reference, None, precision, &mut facts)?;
        }
        if self.nonfinite
            && let Some(found) = self.hunt(&ready, &arguments, || refined()?.ready(), &mut facts)?
        {
            parted = parted.or(Some(found));
        }
        if let Some(path) = &self.dump {
            self.dump(&ready, &arguments, path, &mut facts)?;
        }
        if self.json {
            output::json(&facts);
        }
        match parted {
            Some(what) => bail!(what),
            None => Ok(()),
        }
    }

    /// The arguments of the files, else those of the reference, else random ones.
    fn given(&self, graph: &Graph, reference: Option<&Weights>) -> anyhow::Result<Given> {
        if let Some(reference) = reference.filter(|_| self.inputs.is_empty()) {
            let names: Vec<_> = graph.inputs().iter().map(|(name, _)| name.to_string()).collect();
            let missing: Vec<_> = names.iter().filter(|name| reference.get(name).is_none()).cloned().collect();
            ensure!(missing.is_empty(), "the reference has no input {}; give it with --inputs", missing.join(", "));
            let arguments = names.into_iter().map(|name| Ok((reference.array(&name)?, name)));
            let arguments = arguments.map(|pair: anyhow::Result<_>| pair.map(|(array, name)| (name, array)));
            return fitted(graph, arguments.collect::<anyhow::Result<_>>()?).map(Given::Read);
        }
        self.inputs.given(graph, &self.size)
    }

    /// Compares and tells; yields what is wrong: the first place where values part, or what the model, whose `known`
    /// names these are, does not have.
    fn compare(
        &self,
        ready: &Ready,
        arguments: &Arguments,
        reference: &Reference,
        known: Option<&BTreeSet<String>>,
        lowest: Precision,
        facts: &mut Json,
    ) -> anyhow::Result<Option<String>> {
        let graph = ready.function.graph();
        let default = if lowest == Precision::F32 { 1e-4 } else { 0.05 };
        let relative = self.rtol.unwrap_or(default);
        let tolerance = Tolerance { relative, absolute: self.atol, psnr: self.psnr };
        let names = reference.names();
        let partners = partners(graph, &names);
        let mut comparison = Comparison { reference, partners: &partners, rows: Vec::new() };
        let outputs = ready.function.observe(&borrowed(arguments), &mut State::default(), &mut comparison)?;
        let mut rows = comparison.rows;
        for (name, value) in graph.outputs() {
            let found = outputs.iter().find(|(known, _)| *known == name).map(|(_, array)| array);
            if let (Some(found), Some(wanted)) = (found, reference.get(name)?) {
                rows.push(result_row(graph, name, *value, found, &wanted));
            }
        }
        let compared: Vec<&str> = rows.iter().map(|row| &*row.name).collect();
        let is_input = |name: &str| graph.inputs().iter().any(|(known, _)| **known == *name);
        let absent: Vec<&String> =
            names.iter().filter(|name| !compared.contains(&name.as_str()) && !is_input(name)).collect();
        let strangers = known.map_or(Ok(Vec::new()), |known| strangers(&absent, known, reference))?;
        ensure!(!rows.is_empty(), "no tensor of the reference has the name of a node, a module or a result");
        let first = rows.iter().position(|row| row.difference.parts(tolerance));
        let worst: Vec<_> = culprits(graph, &rows).into_iter().take(5).collect();
        facts["tolerance"] = json!({"relative": relative, "absolute": self.atol, "psnr_db": self.psnr});
        facts["compared"] = rows.len().into();
        facts["without_value"] = json!(absent);
        facts["unknown"] = json!(strangers);
        facts["first"] = json!(first.map(|first| &rows[first].name));
        facts["nodes"] = rows.iter().map(|row| row_json(graph, row, tolerance)).collect();
        let error =
            |(row, given, own): &(&Row, f64, f64)| json!({"name": row.name, "error_given": given, "error": own});
        facts["adds_most"] = worst.iter().map(error).collect();
        if !self.json {
            self.tell(graph, &rows, first, &absent, &worst, tolerance);
        }
        let parted =
            first.map(|first| format!("values part at `{}`: {}", rows[first].name, rows[first].difference.describe()));
        Ok(parted.or_else(|| {
            let (first, others) = strangers.split_first()?;
            let others = if others.is_empty() { String::new() } else { format!(" and {} others", others.len()) };
            Some(format!("the model has no node, module or result `{first}`{others} of the reference"))
        }))
    }

    fn tell(
        &self,
        graph: &Graph,
        rows: &[Row],
        first: Option<usize>,
        absent: &[&String],
        worst: &[(&Row, f64, f64)],
        tolerance: Tolerance,
    ) {
        output::line(format_args!("   max diff   of peak       PSNR  {:32} Python line", "node (module)"));
        let most = if self.rows == 0 { usize::MAX } else { self.rows };
        let from = first.map_or(0, |first| first.saturating_sub(most / 3));
        for row in rows.iter().skip(from).take(most) {
            let mark = if row.difference.parts(tolerance) { '*' } else { ' ' };
            let place = if row.named.scope.is_empty() || *row.named.scope == row.name {
                row.name.clone()
            } else {
                format!("{} ({})", row.name, row.named.scope)
            };
            let line = line_of(row.named.origin.as_deref()).map_or_else(String::new, short_line);
            output::line(format_args!("{mark} {}  {place:32} {line}", row.difference.columns()));
        }
        let left = rows.len().saturating_sub(from.saturating_add(most)) + from;
        if left > 0 {
            output::line(format_args!("  {left} more rows; --rows 0 shows all"));
        }
        if !absent.is_empty() {
            let some: Vec<&str> = absent.iter().take(6).map(|name| name.as_str()).collect();
            let dots = if absent.len() > some.len() { ", …" } else { "" };
            let hint = if self.as_written { "" } else { "; --as-written compares what was fused" };
            output::line(format_args!("{} without a value here: {}{dots}{hint}", absent.len(), some.join(", ")));
        }
        for (row, given, own) in worst.iter().take(3).filter(|_| first.is_some()) {
            output::line(format_args!("adds most error: {} from {given:.2e} to {own:.2e} of its length", row.name));
        }
        match first {
            Some(first) => {
                let row = &rows[first];
                let origin = graph.node(row.named.value).origin.as_deref();
                let with = origin.filter(|origin| !origin.fused.is_empty()).map(Origin::names);
                let with = with.map_or_else(String::new, |names| format!(", computed in one with {names}"));
                let named = row.named.origin.as_deref();
                let op = graph.node(row.named.value).op.name();
                let place = describe_place(named, &row.named.scope, op, row.named.value);
                output::line(format_args!("first to part: {place}{with}"));
            }
            None => output::line(format_args!("all {} agree", rows.len())),
        }
    }

    /// Looks for what is not finite, and says if there is something; what was fused is looked at again node by node.
    fn hunt(
        &self,
        ready: &Ready,
        arguments: &Arguments,
        refined: impl FnOnce() -> anyhow::Result<Ready>,
        facts: &mut Json,
    ) -> anyhow::Result<Option<String>> {
        let search = |ready: &Ready| {
            let mut hunt = Hunt::new(&ready.asset);
            ready.function.observe(&borrowed(arguments), &mut State::default(), &mut hunt)?;
            anyhow::Ok(hunt.findings())
        };
        let mut findings = search(ready)?;
        facts["nonfinite"] = findings.iter().map(nonfinite::Finding::to_json).collect();
        if !findings.is_empty() && !self.as_written {
            let again = search(&refined()?)?;
            facts["nonfinite_as_written"] = again.iter().map(nonfinite::Finding::to_json).collect();
            if again.is_empty() && !self.json {
                output::line("run as written, in f32, every value is finite; as specialized:");
            } else if !again.is_empty() {
                findings = again;
            }
        }
        if !self.json {
            if findings.is_empty() {
                output::line("every value is finite, as far as finite inputs go");
            }
            findings.iter().for_each(|finding| output::line(finding.describe()));
        }
        Ok((!findings.is_empty()).then(|| "values stop being finite".to_owned()))
    }

    fn dump(&self, ready: &Ready, arguments: &Arguments, path: &Path, facts: &mut Json) -> anyhow::Result<()> {
        let wanted =
            |named: &Named| self.module.is_empty() || self.module.iter().any(|pattern| matches(pattern, named));
        let mut recorder = Recorder::new(&wanted);
        ready.function.observe(&borrowed(arguments), &mut State::default(), &mut recorder)?;
        ensure!(!recorder.values.is_empty(), "no node or module with a value of its own matches; try --as-written");
        let mut told = Vec::new();
        for (named, array) in &recorder.values {
            let mut fact = json!({"name": &*named.name, "dtype": array.dtype().name(), "shape": array.shape()});
            place_json(named.origin.as_deref(), &named.scope, named.value, &mut fact);
            told.push(fact);
            if !self.json {
                let line = line_of(named.origin.as_deref()).map_or_else(String::new, short_line);
                output::line(format_args!(
                    "{}: {} {:?}  {} {line}",
                    named.name,
                    array.dtype(),
                    array.shape(),
                    named.scope
                ));
            }
        }
        facts["dumped"] = told.into();
        let tensors: Vec<(String, NDArray)> =
            recorder.values.into_iter().map(|(named, array)| (named.name.to_string(), array)).collect();
        Ok(write_safetensors(path, &tensors)?)
    }
}

/// A number that can be compared with.
fn parse_tolerance(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if (0.0..f64::INFINITY).contains(&number) => Ok(number),
        _ => Err("write a number from 0 on, such as 1e-4".to_owned()),
    }
}

/// Calls the other side and keeps what this one has names for.
fn record(other: &Ready, graph: &Graph, arguments: &Arguments) -> anyhow::Result<Reference> {
    let names: std::collections::HashSet<&str> = graph.named().iter().map(|named| &*named.name).collect();
    let wanted = |named: &Named| names.contains(&*named.name);
    let mut recorder = Recorder::new(&wanted);
    let arguments = fitted(other.function.graph(), arguments.clone())?;
    let outputs = other.function.observe(&borrowed(&arguments), &mut State::default(), &mut recorder)?;
    Ok(Reference::of(recorder.values, &outputs))
}

/// The row of a result of the function.
fn result_row(graph: &Graph, name: &str, value: Value, found: &NDArray, wanted: &NDArray) -> Row {
    let node = graph.node(value);
    let (scope, origin) = (node.scope.clone(), node.origin.clone());
    let named = Named { name: name.into(), scope, origin, value, axes: Vec::new() };
    Row { name: name.to_owned(), named, difference: Difference::of(found, wanted) }
}

fn row_json(graph: &Graph, row: &Row, tolerance: Tolerance) -> Json {
    let node = graph.node(row.named.value);
    let mut facts = json!({"name": row.name, "node": &*row.named.name, "operator": node.op.name()});
    place_json(row.named.origin.as_deref(), &row.named.scope, row.named.value, &mut facts);
    facts["computed_with"] = json!(node.origin.as_ref().map(|origin| origin.names()));
    facts["parts"] = row.difference.parts(tolerance).into();
    if let (Json::Object(facts), Json::Object(difference)) = (&mut facts, row.difference.to_json()) {
        facts.extend(difference);
    }
    facts
}

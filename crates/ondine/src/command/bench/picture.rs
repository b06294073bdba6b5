//! Pictures as people get them: `ondine draw` from the start of the process to the file on the disk.

use std::{fs, path::Path, process::Command, time::Instant};

use anyhow::{Context, bail, ensure};
use ondine_runtime::Precision;
use serde_json::Value;

use super::{
    machine::Machine,
    models,
    options::{Bench, folder},
    report::{Drawn, Report, Times},
    works::{Picture, Until},
};

const PROMPT: &str = "a laughing cat";

/// Times drawings: a first one that packs the weights, then ones that find them in the cache.
pub(super) fn measure(
    bench: &Bench,
    name: &'static str,
    picture: &Picture,
    machine: &Machine,
) -> anyhow::Result<Report> {
    let home = folder();
    fs::create_dir_all(&home).with_context(|| home.display().to_string())?;
    let drawing = Drawing { command: command(bench, picture, &home)?, cache: home.join("cache"), until: picture.until };
    let gflop = drawing.gflop()?;
    if drawing.cache.exists() {
        fs::remove_dir_all(&drawing.cache).with_context(|| drawing.cache.display().to_string())?;
    }
    let first = drawing.run()?;
    let mut runs = vec![drawing.run()?];
    let times = Times::of(bench.repeat, || {
        let run = drawing.run()?;
        let time = run.time;
        runs.push(run);
        Ok(time)
    })?;
    // What warmed up does not count.
    runs.remove(0);
    fs::remove_file(home.join(FILE)).with_context(|| home.display().to_string())?;
    let precision = first.facts["precision"].as_str().context("draw names no precision")?;
    Ok(Report {
        work: name,
        precision: precision.parse()?,
        threads: machine.threads(),
        gflop: (picture.until == Until::End).then_some(gflop),
        peak_rss: runs.iter().filter_map(|run| run.facts["peak_rss_bytes"].as_u64()).max(),
        profile: Vec::new(),
        error: None,
        drawn: Some(Drawn {
            first: first.time,
            planned: first.facts["planned_peak_bytes"].as_u64().unwrap_or_default(),
            stages: stages(&runs),
        }),
        times,
    })
}

/// The file that is drawn.
const FILE: &str = "picture.png";

/// The words of the command line.
fn command(bench: &Bench, picture: &Picture, home: &Path) -> anyhow::Result<Vec<String>> {
    let (side, steps) = (picture.side.to_string(), picture.steps.to_string());
    let output = home.join(FILE).display().to_string();
    let mut words = vec!["draw", PROMPT, "--json", "--quiet", "--output", &output, "--steps", &steps];
    words.extend(["--width", &side, "--height", &side]);
    let mut words: Vec<String> = words.into_iter().map(str::to_owned).collect();
    let mut option =
        |name: &str, value: Option<String>| words.extend(value.into_iter().flat_map(|value| [name.to_owned(), value]));
    let precision: Option<Precision> = bench.running.precision.or(picture.precision);
    option("--precision", precision.map(|precision| precision.to_string()));
    option("--threads", bench.running.threads.map(|threads| threads.to_string()));
    option("--memory", bench.running.memory.map(|bytes| bytes.to_string()));
    if let Some(model) = picture.model {
        option("--model", Some(models::write(home, model)?.display().to_string()));
        option("--guidance", Some("1".to_owned()));
    }
    Ok(words)
}

/// A command that draws.
struct Drawing {
    command: Vec<String>,
    cache: std::path::PathBuf,
    until: Until,
}

/// One run of it.
struct Run {
    /// Seconds until the clock stops.
    time: f64,
    /// Seconds from the start of the process to its end.
    wall: f64,
    /// What `draw` says.
    facts: Value,
}

impl Drawing {
    fn start(&self, more: &[&str]) -> anyhow::Result<Value> {
        let program = std::env::current_exe().context("this program does not know where it is")?;
        let mut command = Command::new(program);
        let output = command.args(&self.command).args(more).env("ONDINE_CACHE", &self.cache).output()?;
        ensure!(output.status.success(), "ondine draw: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// What a picture takes to compute.
    fn gflop(&self) -> anyhow::Result<f64> {
        self.start(&["--plan"])?["gflop"].as_f64().context("the plan tells no arithmetic")
    }

    fn run(&self) -> anyhow::Result<Run> {
        let start = Instant::now();
        let facts = self.start(&[])?;
        let wall = start.elapsed().as_secs_f64();
        let time = match self.until {
            Until::End => wall,
            Until::FirstStep => match facts["stages_began_at_seconds"]["denoising"].as_f64() {
                Some(time) => time,
                None => bail!("draw does not say when it began to denoise"),
            },
        };
        Ok(Run { time, wall, facts })
    }
}

/// The stages with the median of their seconds. What is left at the end is the file, and what a process costs.
fn stages(runs: &[Run]) -> Vec<(String, f64)> {
    let began = |run: &Run, name: &str| run.facts["stages_began_at_seconds"][name].as_f64();
    let Some(Value::Object(first)) = runs.first().map(|run| &run.facts["stages_began_at_seconds"]) else {
        return Vec::new();
    };
    let names: Vec<&String> = first.keys().collect();
    let median = |from: &dyn Fn(&Run) -> Option<f64>| {
        let mut times: Vec<f64> = runs.iter().filter_map(from).collect();
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied().unwrap_or_default()
    };
    let opening = median(&|run| began(run, names.first()?));
    let stage = |(i, name): (usize, &&String)| {
        let next = names.get(i + 1);
        let length = |run: &Run| {
            let end = next.map_or_else(|| run.facts["seconds"].as_f64(), |next| began(run, next))?;
            Some(end - began(run, name)?)
        };
        (name.to_string(), median(&length))
    };
    let rest = median(&|run| Some(run.wall - run.facts["seconds"].as_f64()?));
    let stages = names.iter().enumerate().map(stage);
    [("opening".to_owned(), opening)].into_iter().chain(stages).chain([("process".to_owned(), rest)]).collect()
}

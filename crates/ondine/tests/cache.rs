//! The cache of packed weights and built files, as processes that are killed, race, and find damage meet them.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};

use ondine::runtime::{Asset, DType, Dim, Graph, NDArray, Tensor, Weights, write_safetensors};
use serde_json::Value;
use tempfile::TempDir;

/// A folder with a model, inputs for it, and a cache.
struct Place(TempDir);

/// Rows and columns of each of the model's matrices.
const WIDTH: usize = 1024;
const LAYERS: usize = 5;

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let mut graph = Graph::new();
        let mut x = graph.input("x", DType::F32, [Dim::symbol("batch"), WIDTH.into()]);
        let mut weights = Weights::default();
        let mut seed = 7_u32;
        for layer in 0..LAYERS {
            let name = format!("layers.{layer}.weight");
            let mut random = || {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                ((seed >> 8) as f32 / f32::from(u16::MAX) / 128.0 - 1.0) / 16.0
            };
            let bytes: Vec<u8> = (0..WIDTH * WIDTH).flat_map(|_| random().to_le_bytes()).collect();
            let tensor =
                Tensor { dtype: DType::F32, shape: vec![WIDTH; 2], bytes: (&*bytes).into(), file: "memory".into() };
            weights.insert(&name, tensor);
            let weight = graph.weight(&name, &[WIDTH; 2]).unwrap();
            x = graph.linear(x, weight, None).unwrap();
        }
        graph.output("y", x);
        Asset::new("net", [("main", graph)], weights).unwrap().save(&place.path("net.ondine")).unwrap();
        let x: Vec<f32> = (0..WIDTH).map(|i| (i as f32).sin()).collect();
        let x = NDArray::new(&[1, WIDTH], &x).unwrap();
        write_safetensors(&place.path("in.safetensors"), &[("x".to_owned(), x)]).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ondine"));
        command.args(words).current_dir(self.0.path()).env("ONDINE_CACHE", self.path("cache"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// `ondine run` of a model, its results in `name`.
    fn run(&self, model: &str, name: &str) -> Command {
        self.command(&["run", model, "--inputs", "in.safetensors", "--outputs", name, "--json"])
    }

    fn json(&self, words: &[&str]) -> Value {
        parse(&self.command(words).output().unwrap())
    }

    fn result(&self, name: &str) -> Vec<u8> {
        let bytes = fs::read(self.path(name)).unwrap();
        fs::remove_file(self.path(name)).unwrap();
        bytes
    }

    /// The one entry of the cache.
    fn entry(&self) -> PathBuf {
        let mut files = fs::read_dir(self.path("cache/specialized")).unwrap().map(|file| file.unwrap().path());
        files.find(|path| path.extension().is_some_and(|extension| extension == "packed")).unwrap()
    }
}

fn parse(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn error(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The entries that are being written, or were when their process was killed.
fn unfinished(place: &Place) -> Vec<PathBuf> {
    let files = fs::read_dir(place.path("cache/specialized")).into_iter().flatten().flatten().map(|file| file.path());
    files.filter(|path| path.to_string_lossy().contains(".packed.") && path.extension().unwrap() == "part").collect()
}

#[test]
fn a_process_killed_at_any_moment_leaves_nothing_broken() {
    let place = Place::new();
    let first = parse(&place.run("net.ondine", "y").output().unwrap());
    let wanted = place.result("y");
    assert_eq!(first["from_cache"], false);
    let whole = place.entry().metadata().unwrap().len();
    let mut killed = 0;
    for moment in 0..10 {
        place.json(&["cache", "clear", "--json"]);
        let before = unfinished(&place);
        let mut process = place.run("net.ondine", "killed").spawn().unwrap();
        // From the first byte to the last, which then waits for the disk.
        let is_written = || {
            let files = unfinished(&place).into_iter().filter(|path| !before.contains(path));
            files.filter_map(|path| path.metadata().ok()).any(|meta| meta.len() >= whole * moment / 9)
        };
        while !is_written() && process.try_wait().unwrap().is_none() {
            thread::sleep(Duration::from_micros(100));
        }
        process.kill().unwrap();
        process.wait().unwrap();
        killed += usize::from(unfinished(&place).len() > before.len());
        let listed = place.json(&["cache", "list", "--json"]);
        let entries = listed["entries"].as_array().unwrap();
        assert!(entries.iter().all(|entry| entry["error"].is_null()), "{listed}");
        assert!(place.json(&["cache", "check", "--json"])["removed"].as_array().unwrap().is_empty());
        let next = parse(&place.run("net.ondine", "y").output().unwrap());
        assert_eq!(next["from_cache"], !entries.is_empty(), "{moment}");
        assert!(place.result("y") == wanted, "{moment}");
    }
    assert!(killed >= 5, "{killed} of 10 were killed while writing");
    // What they left goes when it is old enough not to be somebody's first moment.
    thread::sleep(Duration::from_millis(2100));
    place.json(&["cache", "clear", "--json"]);
    assert!(unfinished(&place).is_empty());
}

#[test]
fn two_processes_that_specialize_at_once_are_both_right() {
    let place = Place::new();
    let wanted = {
        parse(&place.run("net.ondine", "y").arg("--no-cache").output().unwrap());
        place.result("y")
    };
    for round in 0..3 {
        place.json(&["cache", "clear", "--json"]);
        let both = ["a", "b"].map(|name| place.run("net.ondine", name).spawn().unwrap());
        for process in both {
            parse(&process.wait_with_output().unwrap());
        }
        assert!(place.result("a") == wanted && place.result("b") == wanted, "{round}");
        let listed = place.json(&["cache", "list", "--json"]);
        assert_eq!(listed["entries"].as_array().unwrap().len(), 1, "{listed}");
        assert_eq!(place.json(&["cache", "check", "--json"])["whole"], 1);
    }
}

#[test]
fn damage_is_noticed_and_repaired() {
    let place = Place::new();
    let run = |name| parse(&place.run("net.ondine", name).output().unwrap())["from_cache"].clone();
    assert_eq!(run("y"), false);
    let wanted = place.result("y");
    let entry = place.entry();
    let whole = fs::read(&entry).unwrap();
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 16;
        bytes
    };
    let damages =
        [flipped(3), flipped(12), flipped(30), flipped(90), whole[..whole.len() - 1].to_vec(), whole[..5000].to_vec()];
    for (index, damage) in damages.iter().chain([&Vec::new()]).enumerate() {
        fs::write(&entry, damage).unwrap();
        assert_eq!(run("y"), false, "{index}");
        assert!(place.result("y") == wanted && fs::read(&entry).unwrap() == whole, "{index}");
        assert_eq!(run("y"), true, "{index}");
        assert!(place.result("y") == wanted, "{index}");
    }
    // Weights are mapped, not read: only a check sees them.
    fs::write(&entry, flipped(whole.len() / 2)).unwrap();
    let checked = place.json(&["cache", "check", "--json"]);
    assert_eq!((checked["whole"].as_u64(), checked["removed"].as_array().map(Vec::len)), (Some(0), Some(1)));
    assert_eq!(run("y"), false);
    assert!(place.result("y") == wanted);
}

#[test]
fn the_cache_is_listed_limited_and_cleared() {
    let place = Place::new();
    for precision in ["f32", "bf16"] {
        parse(&place.run("net.ondine", "y").args(["--precision", precision]).output().unwrap());
    }
    let listed = place.json(&["cache", "list", "--json"]);
    let entries = listed["entries"].as_array().unwrap();
    let precisions: Vec<_> = entries.iter().map(|entry| entry["about"]["precision"].as_str().unwrap()).collect();
    assert_eq!(precisions, ["bf16", "f32"], "the one used last comes first");
    assert_eq!(entries[0]["about"]["model"], "net.ondine");
    let f32_bytes = entries[1]["bytes"].as_u64().unwrap();
    assert!(f32_bytes > (4 * WIDTH * WIDTH * LAYERS) as u64);
    // Used again, the f32 entry outlives the other when there is room for one.
    assert_eq!(parse(&place.run("net.ondine", "y").output().unwrap())["from_cache"], true);
    place.json(&["cache", "limit", &f32_bytes.to_string(), "--json"]);
    assert_eq!(place.json(&["cache", "limit", "--json"])["limit_bytes"], f32_bytes);
    let listed = place.json(&["cache", "list", "--json"]);
    assert_eq!(listed["entries"].as_array().unwrap().len(), 1);
    let name = listed["entries"][0]["name"].as_str().unwrap();
    assert_eq!(listed["entries"][0]["about"]["precision"], "f32");
    // What does not fit at all is not kept, and nothing goes for it.
    place.json(&["cache", "limit", &f32_bytes.to_string(), "--json"]);
    assert!(error(&place.command(&["cache", "clear", "zz"]).output().unwrap()).contains("there is no entry `zz`"));
    let cleared = place.json(&["cache", "clear", &name[..12], "--json"]);
    assert_eq!((cleared["freed_bytes"].as_u64(), cleared["removed"][0].as_str()), (Some(f32_bytes), Some(name)));
    place.json(&["cache", "limit", "1MB", "--json"]);
    for _ in 0..2 {
        assert_eq!(parse(&place.run("net.ondine", "y").output().unwrap())["from_cache"], false);
    }
    assert!(place.json(&["cache", "list", "--json"])["entries"].as_array().unwrap().is_empty());
}

#[test]
fn built_files_run_without_a_cache_and_only_where_they_can() {
    let place = Place::new();
    parse(&place.run("net.ondine", "y").output().unwrap());
    let wanted = place.result("y");
    let built = place.json(&["build", "net.ondine", "-o", "net.built", "--json"]);
    let tier = built["about"]["tier"].as_str().unwrap().to_owned();
    place.json(&["cache", "clear", "--json"]);
    assert_eq!(parse(&place.run("net.built", "y").output().unwrap())["from_cache"], true);
    assert!(place.result("y") == wanted);
    assert!(place.json(&["cache", "list", "--json"])["entries"].as_array().unwrap().is_empty());
    let facts = place.json(&["inspect", "net.built", "--json", "--size", "batch=3"]);
    assert_eq!(
        (facts["built_for"].as_str(), facts["functions"]["main"]["sizes"]["batch"].as_u64()),
        (Some(&*tier), Some(3))
    );
    assert_eq!(facts["functions"]["main"]["flops"].as_u64(), Some((2 * 3 * LAYERS * WIDTH * WIDTH) as u64));
    if tier != "generic" {
        let refused = place.run("net.built", "y").env("ONDINE_CPU", "generic").output().unwrap();
        assert!(error(&refused).contains("this one has generic at most"));
        place.json(&["build", "net.ondine", "--cpu", "generic", "-o", "net.generic", "--json"]);
        parse(&place.run("net.ondine", "y").env("ONDINE_CPU", "generic").output().unwrap());
        let wanted = place.result("y");
        parse(&place.run("net.generic", "y").output().unwrap());
        assert!(place.result("y") == wanted);
    }
    let refused = place.run("net.built", "y").args(["--precision", "bf16"]).output().unwrap();
    assert!(error(&refused).contains("built for f32, not bf16"));
    let bytes = fs::read(place.path("net.built")).unwrap();
    fs::write(place.path("net.built"), &bytes[..bytes.len() - 4096]).unwrap();
    assert!(error(&place.run("net.built", "y").output().unwrap()).contains("cut or altered"));
    fs::write(place.path("net.built"), &bytes[..4]).unwrap();
    assert!(error(&place.run("net.built", "y").output().unwrap()).contains("is it whole?"));
}

#[test]
fn networks_of_pipelines_are_imported_under_the_same_names() {
    let place = Place::new();
    let imported = place.json(&["import", "genmoji/vae", "--json"]);
    assert_eq!(imported["folder"], "vae.ondine");
    let [part, folder] = ["genmoji/vae", "vae.ondine"].map(|model| place.json(&["inspect", model, "--json"]));
    assert_eq!((&part["functions"], &part["parameters"]), (&folder["functions"], &folder["parameters"]));
    let refused = place.command(&["import", "genmoji"]).output().unwrap();
    assert!(error(&refused).contains("choose genmoji/PART of: "));
    let refused = place.command(&["import", "models/nothing.pt2"]).output().unwrap();
    assert!(error(&refused).contains("models/nothing.pt2: there is no such model"));
}

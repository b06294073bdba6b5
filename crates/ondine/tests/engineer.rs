//! `ondine profile` and `ondine compare` on a small network, against what PyTorch computed at each of its nodes:
//! `python/golden/traced.py` makes both.

use std::{
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

fn data(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name).display().to_string()
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ondine"));
    command.args(words).env("ONDINE_CACHE", "").env_remove("ONDINE_CPU");
    command
}

fn ondine(words: &[&str]) -> Output {
    command(words).output().unwrap()
}

/// The JSON object of a command that ends with `code`, and its message.
fn facts(words: &[&str], code: i32) -> (Value, String) {
    let output = ondine(&[words, &["--json", "--threads", "2"]].concat());
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{words:?}: {error}");
    (serde_json::from_slice(&output.stdout).unwrap(), error)
}

fn nodes(facts: &Value) -> Vec<&str> {
    facts["nodes"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect()
}

/// The archive with the first numbers of a weight replaced.
fn changed(folder: &TempDir, weight: &str, numbers: &[f32]) -> String {
    let asset = ondine_pt2::open_as_written(data("traced.pt2").as_ref()).unwrap();
    let bytes = asset.weights().get(weight).unwrap().bytes.to_vec();
    let mut archive = std::fs::read(data("traced.pt2")).unwrap();
    let at = (0..archive.len() - bytes.len()).find(|&at| archive[at..].starts_with(&bytes)).unwrap();
    for (i, number) in numbers.iter().enumerate() {
        archive[at + 4 * i..][..4].copy_from_slice(&number.to_le_bytes());
    }
    // As a program writes it that changes a weight on purpose: with the sum of what is there now.
    let sum = |bytes: &[u8]| crc32fast::hash(bytes).to_le_bytes();
    let (before, after) = (sum(&bytes), sum(&archive[at..at + bytes.len()]));
    let places: Vec<usize> = (0..archive.len() - 4).filter(|&at| archive[at..].starts_with(&before)).collect();
    assert!(!places.is_empty(), "the archive has a sum of the weight");
    places.iter().for_each(|&at| archive[at..at + 4].copy_from_slice(&after));
    let path: PathBuf = folder.path().join("changed.pt2");
    std::fs::write(&path, archive).unwrap();
    path.display().to_string()
}

#[test]
fn every_node_agrees_with_pytorch_as_written() {
    let (model, reference) = (data("traced.pt2"), data("traced.nodes.safetensors"));
    let (facts, _) = facts(&["compare", &model, "--reference", &reference, "--as-written"], 0);
    assert_eq!(facts["without_value"], serde_json::json!([]));
    assert_eq!(facts["first"], Value::Null);
    let names = nodes(&facts);
    assert_eq!(names.len(), 29, "{names:?}");
    assert!(
        ["conv2d_1", "batch_norm", "transpose", "silu_2", "linear_1", "output_1"].iter().all(|n| names.contains(n))
    );
    for row in facts["nodes"].as_array().unwrap() {
        assert!(row["of_peak"].as_f64().unwrap() < 1e-5, "{row}");
    }
}

#[test]
fn surviving_nodes_agree_after_fusion_and_modules_too() {
    let model = data("traced.pt2");
    let (by_node, _) = facts(&["compare", &model, "--reference", &data("traced.nodes.safetensors")], 0);
    let absent: Vec<&str> = by_node["without_value"].as_array().unwrap().iter().map(|n| n.as_str().unwrap()).collect();
    assert!(absent.contains(&"conv2d") && absent.contains(&"batch_norm"), "{absent:?}");
    assert!(nodes(&by_node).contains(&"add") && !nodes(&by_node).contains(&"conv2d_1"));
    let (by_module, _) =
        facts(&["compare", &model, "--reference", &data("traced.modules.safetensors"), "--as-written"], 0);
    for module in ["stem", "blocks.0", "blocks.1.norm", "norm", "query", "head", "output_0"] {
        assert!(nodes(&by_module).contains(&module), "{module}");
    }
}

#[test]
fn a_changed_weight_is_traced_to_its_python_line() {
    let folder = TempDir::new().unwrap();
    let model = changed(&folder, "query.weight", &[1.5]);
    let reference = data("traced.nodes.safetensors");
    for mode in [&["--as-written"][..], &[]] {
        let words = [&["compare", &model, "--reference", &reference], mode].concat();
        let (facts, error) = facts(&words, 1);
        assert_eq!(facts["first"], "linear", "{error}");
        let row = facts["nodes"].as_array().unwrap().iter().find(|row| row["name"] == "linear").unwrap();
        assert_eq!((row["module"].as_str(), row["operator"].as_str()), (Some("query"), Some("linear")));
        assert_eq!(row["line"]["file"], "traced.py");
        assert!(row["line"]["text"].as_str().unwrap().contains("self.query(tokens)"), "{row}");
        assert!(error.starts_with("error: values part at `linear`: ") && error.lines().count() == 1, "{error}");
    }
    // In a convolution that is fused with what follows, it is the first value that there is.
    let model = changed(&folder, "blocks.1.conv.weight", &[4.0]);
    let (fused, _) = facts(&["compare", &model, "--against", &data("traced.pt2")], 1);
    let first = fused["first"].as_str().unwrap();
    let row = fused["nodes"].as_array().unwrap().iter().find(|row| row["name"] == first).unwrap();
    assert!(row["computed_with"].as_str().unwrap().starts_with("conv2d_2+"), "{row}");
    let words = ["compare", &model, "--against", &data("traced.pt2"), "--as-written"];
    let (written, _) = facts(&words, 1);
    assert_eq!(written["first"], "conv2d_2");
}

#[test]
fn a_precision_adds_error_and_tiers_and_threads_do_not() {
    let model = data("traced.pt2");
    let (facts_of_bf16, _) = facts(&["compare", &model, "--precision", "bf16", "--against", "precision=f32"], 0);
    let relative: Vec<f64> =
        facts_of_bf16["nodes"].as_array().unwrap().iter().map(|row| row["relative"].as_f64().unwrap()).collect();
    assert!(relative.iter().any(|&error| error > 1e-4) && relative.iter().all(|&error| error < 0.05));
    assert!(!facts_of_bf16["adds_most"].as_array().unwrap().is_empty());
    facts(&["compare", &model, "--against", "cpu=generic"], 0);
    let (same, _) = facts(&["compare", &model, "--against", "threads=1"], 0);
    assert!(same["nodes"].as_array().unwrap().iter().all(|row| row["max_difference"] == 0.0));
}

#[test]
fn a_nan_in_a_weight_is_found() {
    let folder = TempDir::new().unwrap();
    let model = changed(&folder, "blocks.1.norm.running_var", &[f32::NAN]);
    let (facts_of_norm, _) = facts(&["compare", &model, "--nonfinite"], 1);
    let finding = &facts_of_norm["nonfinite_as_written"][0];
    assert_eq!(
        (finding["what"].as_str(), finding["module"].as_str()),
        (Some("NaN"), Some("blocks.1.norm")),
        "{finding}"
    );
    assert!(finding["origin"].as_str().unwrap().starts_with("batch_norm_1"));
    let model = changed(&folder, "head.weight", &[0.0, f32::NAN]);
    let (facts_of_head, _) = facts(&["compare", &model, "--nonfinite"], 1);
    let finding = &facts_of_head["nonfinite"][0];
    assert_eq!((finding["weight"].as_str(), finding["origin"].as_str()), (Some("head.weight"), Some("linear_1")));
    assert!(finding["line"]["text"].as_str().unwrap().contains("self.head(ratio.relu())"), "{finding}");

    let whole = data("traced.pt2");
    let scale = ondine_runtime::NDArray::new(&[1, 1], &[0.0_f32]).unwrap();
    let image = ondine_runtime::NDArray::zeros(ondine_runtime::DType::F32, &[1, 3, 16, 16]).unwrap();
    let inputs = folder.path().join("in.safetensors");
    ondine_runtime::write_safetensors(&inputs, &[("scale".into(), scale), ("image".into(), image)]).unwrap();
    let (by_input, _) = facts(&["compare", &whole, "--nonfinite", "--inputs", &inputs.display().to_string()], 1);
    let found: Vec<_> = by_input["nonfinite_as_written"].as_array().unwrap().iter().map(|f| &f["origin"]).collect();
    assert!(found.iter().any(|origin| **origin == "div" || **origin == "log"), "{by_input}");
}

#[test]
fn intermediate_values_are_dumped_by_module() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("dump.safetensors");
    let reference = data("traced.nodes.safetensors");
    let words = [
        "compare",
        &data("traced.pt2"),
        "--as-written",
        "--dump",
        &path.display().to_string(),
        "--module",
        "blocks.*",
        "--inputs",
    ];
    // The inputs alone: a reference holds more than a call takes.
    let golden = ondine_runtime::Weights::open(reference.as_ref()).unwrap();
    let inputs = folder.path().join("in.safetensors");
    let arrays = ["image", "scale"].map(|name| (name.to_owned(), golden.array(name).unwrap()));
    ondine_runtime::write_safetensors(&inputs, &arrays).unwrap();
    let inputs = inputs.display().to_string();
    let (facts, _) = facts(&[&words[..], &[inputs.as_str()]].concat(), 0);
    let names: Vec<_> = facts["dumped"].as_array().unwrap().iter().map(|fact| fact["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["conv2d_1", "batch_norm", "silu_1", "add", "conv2d_2", "batch_norm_1", "silu_2", "add_1"]);
    let dumped = ondine_runtime::Weights::open(&path).unwrap();
    for name in names {
        let (found, wanted) = (dumped.array(name).unwrap(), golden.array(name).unwrap());
        assert_eq!(found.shape(), wanted.shape());
        let apart = found.to_f32().iter().zip(wanted.to_f32()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart < 1e-5, "{name}: {apart}");
    }
}

#[test]
fn a_profile_accounts_for_all_operators() {
    let folder = TempDir::new().unwrap();
    let [trace, html] = ["trace.json", "report.html"].map(|name| folder.path().join(name).display().to_string());
    let words =
        ["profile", &data("traced.pt2"), "--repeat", "3", "--trace", &trace, "--html", &html, "--size", "s40=3"];
    let (facts, _) = facts(&words, 0);
    assert_eq!(facts["calls_s"].as_array().unwrap().len(), 3);
    assert_eq!(facts["inputs"][0], "image: F32 [3, 3, 16, 16]");
    let number = |facts: &Value, key: &str| facts[key].as_f64().unwrap_or_else(|| panic!("{key} of {facts}"));
    for table in ["operators", "nodes"] {
        let shares: f64 = facts[table].as_array().unwrap().iter().map(|row| number(row, "share")).sum();
        assert!((shares - 1.0).abs() < 1e-9, "{table}: {shares}");
    }
    let modules = &facts["modules"];
    assert!((number(modules, "share") - 1.0).abs() < 1e-9);
    let names: Vec<_> =
        modules["children"].as_array().unwrap().iter().map(|child| child["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["stem", "blocks", "norm", "query", "head"]);
    let stem =
        facts["nodes"].as_array().unwrap().iter().find(|row| row["module"] == "stem" && row["op"] == "conv2d").unwrap();
    assert_eq!(stem["name"], "conv2d+silu");
    // 3 pictures of 8 x 8 with 16 channels, each of 3 x 3 x 3 numbers.
    assert!((number(stem, "gflop") - 2.0 * (3 * 64 * 16 * 27) as f64 / 1e9).abs() < 1e-12, "{stem}");
    assert!(facts["lines"].as_array().unwrap().iter().any(|line| line["text"] == "x = F.silu(self.stem(image))"));

    let trace: Value = serde_json::from_str(&std::fs::read_to_string(trace).unwrap()).unwrap();
    let slices: Vec<&Value> =
        trace["traceEvents"].as_array().unwrap().iter().filter(|event| event["ph"] == "X").collect();
    let span = |event: &Value| (number(event, "ts"), number(event, "ts") + number(event, "dur"));
    for pair in slices.iter().flat_map(|a| slices.iter().map(move |b| (span(a), span(b)))) {
        let ((a, b), (c, d)) = pair;
        let apart = b <= c + 1e-3 || d <= a + 1e-3;
        let nested = a <= c + 1e-3 && d <= b + 1e-3 || c <= a + 1e-3 && b <= d + 1e-3;
        assert!(apart || nested, "slices cross: {pair:?}");
    }
    assert!(slices.iter().any(|event| event["cat"] == "module" && event["args"]["path"] == "blocks.1"));
    assert!(std::fs::read_to_string(html).unwrap().contains("self.stem(image)"));
}

/// As `ondine ... | head -1` in a shell: the reader goes away early, and that is no failure.
#[test]
fn printing_ends_quietly_when_nobody_reads_on() {
    let model = data("traced.pt2");
    for words in [&["inspect", &model][..], &["profile", &model, "--rows", "0", "--repeat", "1"], &["models", "list"]] {
        let mut child = command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut error = String::new();
        child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        assert_eq!((child.wait().unwrap().code(), error.as_str()), (Some(0), ""), "{words:?}");
    }
}

/// The one line with which a command fails.
fn failure(words: &[&str]) -> String {
    let output = ondine(words);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{words:?}: {error}");
    assert_eq!(error.lines().count(), 1, "{words:?}: {error}");
    error
}

#[test]
fn sizes_beyond_all_memory_are_refused() {
    let model = "genmoji/unet";
    for size in ["batch=4611686018427387904", "batch=1000000000000000"] {
        for words in [&["profile", model, "--size", size][..], &["compare", model, "--nonfinite", "--size", size]] {
            let error = failure(words);
            assert!(error.contains("too large") || error.contains("memory"), "{error}");
        }
    }
}

#[test]
fn what_takes_more_memory_than_allowed_is_refused_before_it_runs() {
    let folder = TempDir::new().unwrap();
    let built = folder.path().join("unet.built").display().to_string();
    assert!(ondine(&["build", "genmoji/unet", "--output", &built]).status.success());
    let traced = data("traced.pt2");
    let inputs = folder.path().join("in.safetensors");
    let numbers = |shape: &[usize]| ondine_runtime::NDArray::zeros(ondine_runtime::DType::F32, shape).unwrap();
    let arrays = [("scale".into(), numbers(&[1, 1])), ("image".into(), numbers(&[1, 3, 16, 16]))];
    ondine_runtime::write_safetensors(&inputs, &arrays).unwrap();
    let inputs = inputs.display().to_string();
    let dump = folder.path().join("dump.safetensors").display().to_string();
    let cases: [&[&str]; 7] = [
        &["run", &traced, "--inputs", &inputs],
        &["profile", "genmoji/unet"],
        &["profile", &built],
        &["compare", "genmoji/unet", "--nonfinite"],
        &["compare", "genmoji/unet", "--dump", &dump],
        &["compare", &traced, "--against", "precision=bf16"],
        &["bench", "clip-l"],
    ];
    for words in cases {
        let error = failure(&[words, &["--memory", "5KB"]].concat());
        assert!(error.contains("takes") && error.contains("--memory allows 5 kB"), "{error}");
        assert!(!Path::new(&dump).exists());
    }
    for words in &cases[..6] {
        let output = ondine(&[words, &["--memory", "1GB", "--threads", "2"][..]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

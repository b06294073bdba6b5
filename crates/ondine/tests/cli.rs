//! The command as people and programs meet it.

use std::{
    fs,
    process::{Command, Output},
};

use ondine::image::{codec::Picture, infotext::Infotext};
use tempfile::TempDir;

/// Runs `ondine` in `folder`, its cache there too.
fn ondine(folder: &TempDir, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ondine"))
        .args(words)
        .current_dir(folder)
        .env("ONDINE_CACHE", folder.path().join("cache"))
        .output()
        .expect("the command starts")
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("there is room for a folder")
}

fn names(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).expect("the folder is there");
    entries.map(|entry| entry.expect("it can be listed").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn the_same_request_gives_the_same_bytes() {
    let folder = folder();
    for (file, threads) in [("a.png", "1"), ("b.png", "2"), ("c.png", "2"), ("d.png", "3")] {
        let words = ["draw", "a laughing cat", "--steps", "4", "--threads", threads, "--output", file];
        let output = ondine(&folder, &words);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let read = |name: &str| fs::read(folder.path().join(name)).expect("it was drawn");
    let first = read("a.png");
    assert!(["b.png", "c.png", "d.png"].iter().all(|name| read(name) == first));
}

#[test]
fn pictures_carry_what_made_them() {
    let folder = folder();
    let words =
        ["draw", "a cat, 1:1", "--negative", "dog", "--steps", "2", "--seed", "5", "--sampler", "Euler a", "--json"];
    let output = ondine(&folder, &words);
    let facts: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert_eq!((facts["file"].as_str(), facts["files"][0].as_str()), (Some("ondine.png"), Some("ondine.png")));
    assert_eq!((facts["prompt"].as_str(), facts["negative"].as_str()), (Some("a cat, 1:1"), Some("dog")));
    assert_eq!((facts["model"].as_str(), facts["sampler"].as_str()), (Some("genmoji"), Some("Euler a")));
    assert_eq!(
        (facts["steps"].as_u64(), facts["seed"].as_u64(), facts["guidance"].as_f64()),
        (Some(2), Some(5), Some(2.0))
    );
    assert_eq!(
        (&facts["size"], &facts["drawn_size"]),
        (&serde_json::json!([512, 512]), &serde_json::json!([128, 128]))
    );
    let bytes = fs::read(folder.path().join("ondine.png")).expect("it was drawn");
    let picture = Picture::read_png(std::io::Cursor::new(bytes)).expect("it is a PNG");
    let text = Infotext::parse(picture.text("parameters").expect("it carries its parameters"));
    assert_eq!((text.prompt.as_str(), text.negative_prompt.as_str()), ("a cat, 1:1", "dog"));
    assert_eq!((text.steps, text.seed, text.size), (Some(2), Some(5), Some((128, 128))));
    assert_eq!((text.sampler.as_deref(), text.model.as_deref()), (Some("Euler a"), Some("genmoji")));
    assert_eq!((picture.width, picture.height), (512, 512));
}

#[test]
fn pictures_are_made_larger_unless_they_shall_not() {
    let folder = folder();
    let read = |name: &str| {
        let bytes = fs::read(folder.path().join(name)).expect("it was drawn");
        Picture::read_png(std::io::Cursor::new(bytes)).expect("it is a PNG")
    };
    draw(&folder, &["cat", "-o", "large.png"]);
    draw(&folder, &["cat", "--upscale", "none", "-o", "small.png"]);
    let output = ondine(&folder, &["upscale", "small.png", "-o", "later.png", "--quiet"]);
    assert!(output.status.success(), "{}", error(&output));
    let (large, small, later) = (read("large.png"), read("small.png"), read("later.png"));
    assert_eq!([large.width, small.width, later.width], [512, 128, 512]);
    assert!(large.rgb == later.rgb, "drawing enlarges as upscaling does, from pixels of 8 bits");
    // A picture is made again as it was.
    for (file, again) in [("large.png", &large), ("small.png", &small)] {
        let output = ondine(&folder, &["draw", "--from", file, "-o", "again.png", "--quiet"]);
        assert!(output.status.success(), "{}", error(&output));
        assert!(read("again.png").rgb == again.rgb, "{file}");
    }
}

/// What `ondine draw` did, which must have worked.
fn draw(folder: &TempDir, words: &[&str]) -> Output {
    let output = ondine(folder, &[&["draw", "--steps", "1"], words].concat());
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_second_drawing_has_a_name_of_its_own() {
    let folder = folder();
    for name in ["ondine.png", "ondine-2.png", "ondine-3.png"] {
        assert_eq!(draw(&folder, &["cat"]).stdout, format!("{name}\n").as_bytes());
    }
    assert_eq!(draw(&folder, &["cat", "--count", "2"]).stdout, b"ondine-1.png\nondine-4.png\n");
    assert!(!error(&draw(&folder, &["cat", "-o", "x.png"])).contains("replaced"));
    assert!(error(&draw(&folder, &["dog", "-o", "x.png"])).contains("x.png: a file of this name was replaced"));
}

#[test]
fn pictures_have_the_format_of_their_names() {
    let folder = folder();
    for (name, start) in [("a.jpg", &b"\xff\xd8\xff"[..]), ("a.WEBP", b"RIFF"), ("a", b"\x89PNG")] {
        draw(&folder, &["cat", "-o", name]);
        let bytes = fs::read(folder.path().join(name)).expect("it was drawn");
        assert!(bytes.starts_with(start), "{name}");
    }
}

#[test]
fn random_seeds_are_told() {
    let folder = folder();
    let seed = || {
        let facts = draw(&folder, &["cat", "--seed", "-1", "-o", "x.png", "--json"]).stdout;
        serde_json::from_slice::<serde_json::Value>(&facts).expect("one JSON object")["seed"].as_u64().expect("a seed")
    };
    let (first, second) = (seed(), seed());
    assert_ne!(first, second);
    let drawn = fs::read(folder.path().join("x.png")).expect("it was drawn");
    assert_eq!(draw(&folder, &["cat", "--seed", &second.to_string(), "-o", "-"]).stdout, drawn);
}

#[test]
fn what_may_not_come_out_as_expected_is_told() {
    let folder = folder();
    for (words, part) in [
        (&["qzxv"][..], "knows no word"),
        (&["a cat", "-W", "256", "-H", "256"], "made for 128x128"),
        (&["a (cat:1.3) BREAK"], "`(cat:1.3)`, `BREAK` in the prompt"),
    ] {
        let error = error(&draw(&folder, &[words, &["-o", "x.png"]].concat()));
        assert!(error.contains("warning: ") && error.contains(part), "{words:?}: {error}");
    }
    let picture = |prompt| draw(&folder, &[prompt, "--no-metadata", "--quiet", "-o", "-"]).stdout;
    assert_eq!(picture("🐈"), picture("cat"));
    assert_ne!(picture("cat"), picture("dog"));
}

#[test]
fn failures_are_one_line_and_leave_nothing() {
    let cases: &[(&[&str], i32, &str)] = &[
        (&["draw", "cat", "--model", "nowhere"], 1, "nowhere"),
        (&["draw", "ꙮꙮ", "--quiet"], 1, "knows no word"),
        (&["draw", "cat", "--width", "100"], 2, "multiple of 8"),
        (&["draw", "cat", "--steps", "0"], 2, "steps is 0"),
        (&["draw", "cat", "--guidance", "NaN"], 2, "guidance"),
        (&["draw", "cat", "--sampler", "nonsense"], 2, "nonsense"),
        (&["draw", "cat", "--seed", "dice"], 2, "-1 for a random one"),
        (&["draw", "cat", "--output", "cat.gif"], 2, ".png, .jpg or .webp"),
        (&["draw", "cat", "--output", "-", "--count", "2"], 2, "standard output"),
        (&["draw", "cat", "--output", "-", "--json"], 2, "--json"),
        (&["draw", "cat", "--stesp", "3"], 2, "'--steps'; see `ondine draw --help`"),
        (&["cache", "limit", "--nope"], 2, "see `ondine cache limit --help`"),
        (&["draw", "\u{1b}[31m", "--model", "a\u{1b}[2J\nb"], 1, "a\\u{1b}[2J\\nb"),
        (&["draw", "cat", "--memory", "1MB"], 1, "--memory"),
        (&["draw", "cat", "--output", "nowhere/cat.png"], 1, "nowhere"),
        (&["draw", "cat", "--noise", "nowhere.safetensors"], 1, "nowhere.safetensors"),
        (&["draw", "cat", "--steps", "many"], 2, "--steps"),
        (&["draw"], 2, "PROMPT"),
        (&["inspect", "nowhere"], 1, "nowhere"),
        (&["bench", "nothing"], 2, "nothing"),
        (&["run", "genmoji/unet", "--function", "nothing"], 2, "nothing"),
        (&["run", "genmoji/unet", "--input", "nothing"], 2, "NAME=FILE"),
        (&["profile", "genmoji/unet", "--size", "nothing=3"], 2, "nothing"),
        (&["compare", "genmoji/unet"], 2, "nothing to do"),
        (&["compare", "genmoji/unet", "--against", "cpu=nothing"], 2, "nothing"),
        (&["build", "genmoji/unet", "--output", "x", "--cpu", "nothing"], 2, "nothing"),
        (&["models", "path", "nowhere"], 1, "nowhere"),
    ];
    for (words, code, part) in cases {
        let folder = folder();
        let output = ondine(&folder, words);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(*code), "{words:?}: {error}");
        assert!(
            error.lines().count() == 1 && error.starts_with("error: ") && error.contains(part),
            "{words:?}: {error}"
        );
        assert_eq!(names(&folder), Vec::<String>::new(), "{words:?}");
    }
}

/// One line of `ondine bench --json`.
fn bench(words: &[&str]) -> serde_json::Value {
    let folder = folder();
    let output = ondine(&folder, &[&["bench", "--json", "--repeat", "1", "--threads", "2"], words].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

#[test]
fn the_bench_tells_times_beside_limits() {
    let facts = bench(&["clip-l", "--precision", "bf16", "--against", "f32", "--profile"]);
    assert_eq!((facts["work"].as_str(), facts["precision"].as_str()), (Some("clip-l"), Some("bf16")));
    let number = |facts: &serde_json::Value, key: &str| facts[key].as_f64().expect(key);
    let seconds = number(&facts, "gflop") / number(&facts, "gflops");
    assert!((seconds / number(&facts, "median_s") - 1.0).abs() < 1e-6);
    let peak = number(&facts["machine"], "peak_bf16_gflops");
    assert!((number(&facts, "gflops") / peak / number(&facts, "fraction_of_peak") - 1.0).abs() < 1e-6);
    assert!((1e-4..3e-2).contains(&number(&facts, "relative_error")), "{facts}");
    let shares: f64 = facts["profile"].as_array().expect("a profile").iter().map(|row| number(row, "share")).sum();
    assert!((shares - 1.0).abs() < 1e-6);
}

#[test]
#[cfg(target_os = "linux")]
fn the_bench_plans_the_memory_that_a_language_model_takes() {
    let deep = ["smollm2", "--quant", "Q4_0", "--precision", "a8", "--depth", "700"];
    for words in [&deep[..], &deep[..5], &["smollm2", "--quant", "Q8_0"]] {
        let facts = bench(words);
        let [planned, peak] = ["planned_peak_bytes", "peak_rss_bytes"].map(|key| facts[key].as_f64().expect(key));
        assert!((planned / peak - 1.0).abs() < 0.1, "{words:?}: {planned} planned, {peak} at most");
    }
}

#[test]
fn the_bench_draws_as_people_do() {
    let facts = bench(&["picture-default"]);
    assert_eq!((facts["work"].as_str(), facts["precision"].as_str()), (Some("picture-default"), Some("bf16")));
    let stages = facts["stages_s"].as_object().expect("stages");
    let seconds: f64 = stages.values().filter_map(serde_json::Value::as_f64).sum();
    assert!((seconds / facts["median_s"].as_f64().expect("seconds") - 1.0).abs() < 0.05, "{facts}");
    assert!(facts["first_start_s"].as_f64() > Some(0.0) && facts["gflop"].as_f64() > Some(10.0));
}

#[test]
fn the_built_in_model_can_be_looked_at() {
    let folder = folder();
    let output = ondine(&folder, &["inspect", "genmoji", "--json"]);
    let facts: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert_eq!(facts["components"]["unet"]["class"], "UNet2DConditionModel");
    let listed = ondine(&folder, &["models", "list"]);
    assert!(String::from_utf8_lossy(&listed.stdout).starts_with("genmoji"));
}

#[test]
fn help_shows_examples() {
    let output = ondine(&folder(), &["draw", "--help"]);
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("Examples:"));
}

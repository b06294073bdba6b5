//! The program in surroundings that are against it.
#![cfg(target_os = "linux")]

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::fs::{FileTypeExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

fn command(folder: &TempDir, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ondine"));
    command.args(words).current_dir(folder.path()).env("ONDINE_CACHE", folder.path().join("cache"));
    command
}

fn ondine(folder: &TempDir, words: &[&str]) -> Output {
    command(folder, words).output().expect("the command starts")
}

/// The same under the limits and the ignored signals that a shell sets up.
fn shell(folder: &TempDir, setup: &str, words: &[&str]) -> Command {
    let program = command(folder, &[]);
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{setup}; exec \"$0\" \"$@\"")]).arg(program.get_program()).args(words);
    shell.current_dir(folder.path()).env("ONDINE_CACHE", folder.path().join("cache"));
    shell
}

fn works(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The one line of a failure.
fn failure(output: &Output, code: i32) -> String {
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert!(error.lines().count() == 1 && error.starts_with("error: "), "{error}");
    error
}

fn traced() -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/traced.pt2").display().to_string()
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).expect("the file is there");
    bytes[at] ^= 16;
    fs::write(path, bytes).expect("it can be written");
}

#[test]
fn files_are_written_where_links_lead_and_through_what_is_no_file() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    symlink("behind.png", at("link.png")).unwrap();
    let draw = ["draw", "cat", "--steps", "1", "--quiet", "-o"];
    for _ in 0..2 {
        works(&ondine(&folder, &[&draw[..], &["link.png"]].concat()));
        assert!(at("link.png").is_symlink() && fs::read(at("behind.png")).unwrap().starts_with(b"\x89PNG"));
    }
    works(&ondine(&folder, &[&draw[..], &["/dev/null"]].concat()));
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
    let model = traced();
    for words in [&["profile", &model, "--repeat", "1", "--html", "pipe"][..], &["compare", &model, "--dump", "pipe"]] {
        let child = command(&folder, words).stdout(Stdio::null()).spawn().unwrap();
        let bytes = fs::read(at("pipe")).unwrap();
        works(&child.wait_with_output().unwrap());
        assert!(bytes.len() > 100 && fs::metadata(at("pipe")).unwrap().file_type().is_fifo(), "{words:?}");
    }
}

#[test]
fn altered_weights_are_refused_when_they_are_packed_and_by_check() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::copy(traced(), at("m.pt2")).unwrap();
    works(&ondine(&folder, &["import", "m.pt2", "-o", "m.ondine"]));
    works(&ondine(&folder, &["build", "m.pt2", "-o", "m.built"]));
    works(&ondine(&folder, &["check", "m.pt2", "m.ondine", "m.built"]));
    let written = "the bytes are not those that were written";
    let weights = fs::read(at("m.ondine/weights.safetensors")).unwrap();
    let some = weights.len() * 2 / 3 / 64 * 64;
    let wanted = &weights[some..some + 16];
    let archive = fs::read(at("m.pt2")).unwrap();
    flip(&at("m.pt2"), archive.windows(16).position(|bytes| bytes == wanted).unwrap());
    flip(&at("m.ondine/weights.safetensors"), some);
    for model in ["m.pt2", "m.ondine"] {
        for words in [&["profile", model, "--repeat", "1"][..], &["build", model, "-o", "x"], &["check", model]] {
            assert!(failure(&ondine(&folder, words), 1).contains(written), "{words:?}");
        }
    }
    assert!(failure(&ondine(&folder, &["import", "m.pt2", "-o", "x"]), 1).contains("data/weights/"));
    let len = fs::metadata(at("m.built")).unwrap().len() as usize;
    flip(&at("m.built"), len - 100);
    assert!(failure(&ondine(&folder, &["check", "m.built"]), 1).contains("not those that were written"));
    assert!(!at("x").exists());
}

#[test]
fn too_little_memory_is_a_line() {
    let folder = TempDir::new().unwrap();
    let words = ["draw", "cat", "--steps", "1", "--upscale", "none", "--quiet", "-o", "x.png"];
    works(&ondine(&folder, &words));
    let mut refused = 0;
    // Below the sizes of the program and its libraries the system does not even start it.
    let least = fs::metadata(env!("CARGO_BIN_EXE_ondine")).unwrap().len() / 1024 + 12_000;
    for more in [0, 10_000, 20_000, 30_000, 45_000, 60_000, 90_000, 140_000] {
        let kilobytes = least + more;
        let output = shell(&folder, &format!("ulimit -v {kilobytes}"), &words).output().unwrap();
        if !output.status.success() {
            failure(&output, 1);
            refused += 1;
        }
    }
    assert!(refused > 0);
}

#[test]
fn a_limit_on_files_is_a_line() {
    let folder = TempDir::new().unwrap();
    let built = shell(&folder, "ulimit -f 200", &["build", "genmoji/vae", "-o", "vae.built"]).output().unwrap();
    assert!(failure(&built, 1).contains("vae.built"));
    let words = ["draw", "cat", "--steps", "1", "--upscale", "none", "--quiet", "-o", "x.png"];
    works(&shell(&folder, "ulimit -f 200", &words).output().unwrap());
    assert!(!folder.path().join("vae.built").exists());
}

/// Sends a signal by name.
fn send(signal: &str, process: u32) {
    assert!(Command::new("kill").args([format!("-{signal}"), process.to_string()]).status().unwrap().success());
}

#[test]
fn signals_stop_soon_and_hang_ups_can_be_ignored() {
    let folder = TempDir::new().unwrap();
    let long = ["draw", "cat", "--steps", "1000", "--quiet", "-o", "x.png", "-W", "512", "-H", "512"];
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let child = command(&folder, &long).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(Duration::from_secs(1));
        send(signal, child.id());
        let begin = Instant::now();
        let output = child.wait_with_output().unwrap();
        assert!(failure(&output, code).contains("stopped by"));
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    }
    let short = ["draw", "cat", "--steps", "20", "--quiet", "-o", "y.png"];
    let child = shell(&folder, "trap '' HUP", &short).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    send("HUP", child.id());
    works(&child.wait_with_output().unwrap());
    assert!(!folder.path().join("x.png").exists() && folder.path().join("y.png").exists());
}

#[test]
fn a_file_that_is_cut_while_it_is_mapped_is_a_line() {
    let folder = TempDir::new().unwrap();
    let built = folder.path().join("vae.built");
    works(&ondine(&folder, &["build", "genmoji/vae", "-o", "vae.built"]));
    let words = ["profile", "vae.built", "--function", "decode", "--repeat", "100000"];
    let child = command(&folder, &words).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(4));
    File::options().write(true).open(&built).unwrap().set_len(4096).unwrap();
    let error = failure(&child.wait_with_output().unwrap(), 1);
    assert!(error.contains("vae.built: was cut"), "{error}");
}

#[test]
fn clearing_the_cache_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    works(&ondine(&folder, &["draw", "cat", "--steps", "1", "--quiet", "-o", "x.png"]));
    let cache = folder.path().join("cache");
    fs::write(cache.join("specialized/.left.1-0.part"), "x").unwrap();
    works(&ondine(&folder, &["cache", "clear"]));
    assert!(!cache.exists());
}

#[test]
fn standard_input_and_output_are_prompts_and_pictures() {
    let folder = TempDir::new().unwrap();
    let mut command = command(&folder, &["draw", "-", "--steps", "1", "--quiet", "-o", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"a red heart\n").unwrap();
    let mut picture = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut picture).unwrap();
    assert!(child.wait().unwrap().success() && picture.starts_with(b"\x89PNG"));
    assert!(picture.windows(18).any(|bytes| bytes == b"a red heart\nSteps:"));
}

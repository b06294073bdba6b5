//! `ondine ask`, `chat` and `models` with a tiny model of random weights, whose tokens are words `t0`, `t1`, ...

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::{Map, Value, json};

/// The folder of a model of `ondine-models` with a vocabulary.
fn folder() -> tempfile::TempDir {
    let network = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../ondine-models/tests/data/language/llama");
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(network.join(file), folder.path().join(file)).unwrap();
    }
    let words: Map<String, Value> = (0..42).map(|id| (format!("t{id}"), id.into())).collect();
    let write = |name: &str, value: Value| std::fs::write(folder.path().join(name), value.to_string()).unwrap();
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "t0"},
    });
    write("tokenizer.json", tokenizer);
    let template = "{% for message in messages %}t1 {{ message.content }} {% endfor %}t2";
    write("tokenizer_config.json", json!({"chat_template": template}));
    folder
}

fn command(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ondine"));
    command.env("ONDINE_MODELS", home.join("models")).env("ONDINE_CACHE", home.join("cache"));
    command
}

fn ondine(home: &Path, words: &[&str], input: &str) -> (Output, String, String) {
    let mut child =
        command(home).args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // One that has refused its words does not listen.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    (output, out, err)
}

#[test]
fn questions_are_answered_with_their_tokens_and_logits() {
    let (model, home) = (folder(), tempfile::tempdir().unwrap());
    let path = model.path().to_str().unwrap();
    let logits = home.path().join("l.safetensors");
    let words = ["ask", "t5 t6", "--model", path, "--max-tokens", "3", "--json", "--tokens", "--logits"];
    let (output, out, err) = ondine(home.path(), &[&words[..], &[logits.to_str().unwrap()]].concat(), "");
    assert!(output.status.success(), "{err}");
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(told["prompt_tokens"], json!([1, 5, 6, 2]));
    assert_eq!((told["output_tokens"].as_array().unwrap().len(), &told["reason"]), (3, &json!("max_tokens")));
    let logits = ondine_runtime::Weights::open(&logits).unwrap();
    assert_eq!(logits.array("logits").unwrap().shape(), [4, 42]);
    assert_eq!(logits.array("input_ids").unwrap().view::<i64>().unwrap(), [1, 5, 6, 2]);
    let (_, plain, _) =
        ondine(home.path(), &["ask", "-", "-m", path, "--max-tokens", "3", "--tokens", "-q"], "t5 t6\n");
    let ids: Vec<String> = told["output_tokens"].as_array().unwrap().iter().map(Value::to_string).collect();
    let text = told["text"].as_str().unwrap();
    assert_eq!(plain, format!("{text}\nprompt tokens: 1 5 6 2\noutput tokens: {}\n", ids.join(" ")));
    let (_, raw, _) = ondine(home.path(), &["ask", "t5 t6", "-m", path, "--raw", "--max-tokens", "0", "--tokens"], "");
    assert!(raw.contains("prompt tokens: 5 6\n"), "{raw}");
}

#[test]
fn forms_are_read_from_standard_input_unless_something_else_is() {
    let (model, home) = (folder(), tempfile::tempdir().unwrap());
    let path = model.path().to_str().unwrap();
    let form = "start: \"t7\"\n";
    let (output, out, err) = ondine(home.path(), &["ask", "t5", "-m", path, "-q", "--grammar", "-"], form);
    assert!(output.status.success(), "{err}");
    assert_eq!(out, "t7\n");
    let refused = [
        (&["ask", "-", "-m", path, "--grammar", "-"][..], "cannot be the question and its form"),
        (&["ask", "--prompts", "-", "-m", path, "--schema", "-"], "cannot be the question and its form"),
        (&["chat", path, "--schema", "-"], "write the form of answers to a file"),
    ];
    for (words, why) in refused {
        let (output, _, err) = ondine(home.path(), words, form);
        assert!(output.status.code() == Some(2) && err.contains(why), "{words:?}: {err}");
    }
}

#[test]
fn conversations_are_held_line_by_line() {
    let (model, home) = (folder(), tempfile::tempdir().unwrap());
    let saved = home.path().join("c.json");
    let input = format!(
        "t5\nt6 \\\nt7\n\"\"\"t8\nt9\"\"\"\n/undo\n\n/usage\n/save {}\n/nonsense\n{}\n/clear\n/system t30\n/system\n/quit\nt10\n",
        saved.display(),
        "t3 ".repeat(80)
    );
    let words = ["chat", model.path().to_str().unwrap(), "--max-tokens", "2", "--system", "t20"];
    let (output, out, err) = ondine(home.path(), &words, &input);
    assert!(output.status.success(), "{err}");
    let saved: Value = serde_json::from_str(&std::fs::read_to_string(saved).unwrap()).unwrap();
    let said: Vec<&str> =
        saved["messages"].as_array().unwrap().iter().map(|message| message["content"].as_str().unwrap()).collect();
    assert_eq!((said.len(), said[0], said[1], said[3]), (5, "t20", "t5", "t6 \nt7"));
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!((lines[0], lines[1], lines[lines.len() - 1]), (said[2], said[4], "t30"));
    assert!(out.contains(" of 64 tokens\n"), "{out}");
    assert!(err.contains("/nonsense: there is no such command") && err.contains("the context holds 64"), "{err}");
}

#[cfg(unix)]
#[test]
fn an_interrupt_stops_the_answer_and_not_the_conversation() {
    use std::io::{BufRead, BufReader, Read};

    let (model, home) = (folder(), tempfile::tempdir().unwrap());
    // A model that goes on as long as there is room, and room for a while.
    let mut child = command(home.path())
        .args(["chat", model.path().to_str().unwrap(), "--temperature", "1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"t5\n").unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut first = [0; 1];
    out.read_exact(&mut first).unwrap();
    let interrupt = || interrupt_process(child.id());
    interrupt();
    input.write_all(b"/usage\n").unwrap();
    let usage = out.by_ref().lines().map(|line| line.unwrap()).find(|line| line.ends_with("of 64 tokens"));
    assert!(usage.is_some());
    interrupt();
    input.write_all(b"/system\n/quit\n").unwrap();
    let rest: Vec<String> = out.lines().map(|line| line.unwrap()).collect();
    assert_eq!(rest, ["nothing"]);
    assert!(child.wait().unwrap().success());
}

/// Sends Ctrl-C to a process.
#[cfg(unix)]
fn interrupt_process(process: u32) {
    assert!(Command::new("kill").args(["-INT", &process.to_string()]).status().unwrap().success());
}

#[test]
fn what_is_not_here_is_said_with_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let cases: [(&[&str], i32, &str); 8] = [
        (&["ask", "hi"], 1, "`ondine models pull smollm2-135m` fetches it"),
        (&["chat", "nowhere"], 1, "nowhere: there is no such model or file"),
        (&["chat", "-m", "nowhere"], 1, "nowhere: there is no such model or file"),
        (&["ask", "", "-m", "x"], 2, "the question is empty"),
        (&["ask", "hi", "--top-p", "2"], 2, "write a number from 0 to 1"),
        (&["models", "pull", "nothing"], 2, "smollm2-135m"),
        (&["models", "pull", "gemma-3-270m"], 2, "say --accept if you do"),
        (&["models", "remove", "genmoji"], 1, "built in"),
    ];
    for (words, code, told) in cases {
        let (output, _, err) = ondine(home.path(), words, "");
        assert_eq!((output.status.code(), err.lines().count()), (Some(code), 1), "{words:?}: {err}");
        assert!(err.contains(told), "{words:?}: {err}");
    }
    let (_, out, _) = ondine(home.path(), &["models", "list", "--json"], "");
    let listed: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(listed["fetchable"][0]["name"], "smollm2-135m");
}

#[test]
fn models_in_the_folder_of_models_have_names() {
    let (model, home) = (folder(), tempfile::tempdir().unwrap());
    std::fs::create_dir(home.path().join("models")).unwrap();
    std::fs::rename(model.path(), home.path().join("models/tiny")).unwrap();
    let (output, out, err) = ondine(home.path(), &["ask", "t5", "-m", "tiny", "--max-tokens", "1", "-q"], "");
    assert!(output.status.success() && out.starts_with('t'), "{err}");
    assert!(ondine(home.path(), &["models", "list"], "").1.contains("tiny "));
    assert!(ondine(home.path(), &["models", "remove", "tiny"], "").0.status.success());
    assert!(!home.path().join("models/tiny").exists());
}

#[test]
fn own_models_are_timed() {
    let (model, home) = (folder(), tempfile::tempdir().unwrap());
    let path = model.path().to_str().unwrap();
    let words = ["bench", "--model", path, "--repeat", "1", "--streams", "2", "--depth", "50", "--json"];
    let (output, out, err) = ondine(home.path(), &words, "");
    assert!(output.status.success(), "{err}");
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&told["prefill"]["tokens"], &told["before"]["tokens"]), (&json!(64), &json!(50)));
    assert_eq!((&told["quant"], &told["streams"]["count"]), (&json!(null), &json!(2)));
    // Every weight but the table of embeddings, of which a row is read, and keys and values of four tokens.
    let file = std::fs::metadata(model.path().join("model.safetensors")).unwrap().len() as f64;
    let bytes = told["decode"]["bytes"].as_f64().unwrap();
    assert!((0.5 * file..1.5 * file).contains(&bytes), "{bytes} of {file}");
    for (words, said) in
        [(["llama-1b", "--repeat", "1"], "--model"), (["--depth", "60", "--json"], "made for 64 tokens")]
    {
        let (output, _, err) = ondine(home.path(), &[&["bench", "--model", path], &words[..]].concat(), "");
        assert!(!output.status.success() && err.contains(said), "{err}");
    }
}

#[test]
fn texts_are_measured_and_compared() {
    let (model, home) = (folder(), tempfile::tempdir().unwrap());
    let text = home.path().join("t.txt");
    std::fs::write(&text, (0..100).map(|i| format!("t{} ", i * 7 % 42)).collect::<String>()).unwrap();
    let words = ["eval", "perplexity", text.to_str().unwrap(), "-m", model.path().to_str().unwrap(), "--window", "16"];
    let (output, out, err) = ondine(home.path(), &[&words[..], &["--json"]].concat(), "");
    assert!(output.status.success(), "{err}");
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&told["tokens"], &told["windows"]), (&json!(6 * 7), &json!(6)));
    assert!(told["perplexity"].as_f64().unwrap() > 1.0);
    let (output, _, err) = ondine(home.path(), &[&words[..6], &["128"]].concat(), "");
    assert!(!output.status.success() && err.contains("100 tokens fill no window of 128"), "{err}");

    let (output, out, err) = ondine(home.path(), &["embed", "a cat", "a kitten", "a lorry"], "");
    assert!(output.status.success(), "{err}");
    let alike: Vec<f32> = out.lines().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
    assert!(alike[0] > 0.6 && alike[1] < 0.5, "{out}");
    let (_, out, _) = ondine(home.path(), &["embed", "-", "--json"], "a cat\n");
    let told: Value = serde_json::from_str(&out).unwrap();
    // [CLS] a cat [SEP]
    assert_eq!(told["embeddings"][0]["tokens"], 4);
    let numbers: Vec<f64> =
        told["embeddings"][0]["embedding"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
    assert_eq!(numbers.len(), 384);
    assert!((numbers.iter().map(|x| x * x).sum::<f64>() - 1.0).abs() < 1e-5);
}

//! Benchmarks on small data: what is asked, what is judged, what is refused.

use std::path::Path;

use ondine_language::{
    Model, Session,
    eval::{Asked, Benchmark, Line, mmlu, mmlu::Mmlu, numbers::Numbers},
    model::Settings,
};
use ondine_runtime::Device;
use serde_json::json;

fn write(folder: &Path, file: &str, text: &str) {
    let path = folder.join(file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn choice(shots: usize) -> mmlu::Choice {
    mmlu::Choice { shots, limit: None, subjects: Vec::new() }
}

#[test]
fn mmlu_is_asked_as_the_harness_asks_it() {
    let folder = tempfile::tempdir().unwrap();
    // As it was published, and with a first row of names and numbers for letters.
    write(folder.path(), "test/high_school_art_test.csv", "\" What, then? \",a,\"b\nc\",d,e,C\nWhy?,1,2,3,4,A\n");
    write(
        folder.path(),
        "dev/high_school_art_dev.csv",
        "question,a,b,c,d,answer\nWho?,I,you,he,she,1\nWhen?,w,x,y,z,3\n",
    );
    let asked = Mmlu::read(folder.path(), &choice(1)).unwrap();
    assert_eq!((asked.len(), asked.id(1)), (2, "high_school_art 1".into()));
    let wanted = "The following are multiple choice questions (with answers) about high school art.\n\nWho?\nA. I\nB. you\n\
                  C. he\nD. she\nAnswer: B\n\nWhat, then?\nA. a\nB. b\nc\nC. d\nD. e\nAnswer:";
    assert_eq!(asked.prompt(0).unwrap(), wanted);
    assert!(
        Mmlu::read(folder.path(), &choice(0))
            .unwrap()
            .prompt(1)
            .unwrap()
            .ends_with("art.\n\nWhy?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:")
    );
    let line = |subject: &str, correct: bool| -> Line {
        json!({"id": "", "subject": subject, "correct": correct}).as_object().unwrap().clone()
    };
    let scores = asked.scores(&[line("b", true), line("a", false), line("a", true), line("a", true)]);
    assert_eq!(
        scores.iter().map(|s| (s.name.as_str(), s.value)).collect::<Vec<_>>(),
        [("acc", 0.75), ("acc a", 2.0 / 3.0), ("acc b", 1.0)]
    );
    assert!((scores[0].error - 0.25).abs() < 1e-12);
    let told = |choice: &mmlu::Choice| Mmlu::read(folder.path(), choice).unwrap_err().to_string();
    assert!(told(&choice(3)).contains("has 2 examples, not 3"));
    assert!(told(&mmlu::Choice { subjects: vec!["law".into()], ..choice(1) }).contains("there are high_school_art"));
    write(folder.path(), "test/high_school_art_test.csv", "Why?,1,2,3,4,E\n");
    assert!(told(&choice(0)).contains("row 1: the answer \"E\""));
    write(folder.path(), "test/high_school_art_test.csv", "Why?,1,2\n");
    assert!(told(&choice(0)).contains("row 1 has 3 columns"));
    assert!(Mmlu::read(Path::new("/nowhere"), &choice(0)).unwrap_err().to_string().contains("SUBJECT_test.csv"));
}

/// The id of the first letter: smaller ones are those that the config says begin and end texts.
const LETTERS: usize = 31;

/// A model whose tokens are words `t0`, `t1`, ..., and the marks of the prompts.
fn model() -> (tempfile::TempDir, Model) {
    let network = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ondine-models/tests/data/language/llama");
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(network.join(file), folder.path().join(file)).unwrap();
    }
    let words = ["?", " A", " B", " C", " D"];
    let tokens: serde_json::Map<_, _> = (0..42_usize)
        .map(|id| {
            (
                id.checked_sub(LETTERS - 1)
                    .and_then(|at| words.get(at))
                    .map_or_else(|| format!("t{id}"), |word| (*word).to_owned()),
                json!(id),
            )
        })
        .collect();
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": " [A-D]|t[0-9]+| |[^ ]+"}, "behavior": "Isolated", "invert": false},
        "model": {"type": "WordLevel", "vocab": tokens, "unk_token": "?"},
    });
    write(folder.path(), "tokenizer.json", &tokenizer.to_string());
    let settings = Settings { context: Some(64), ..Settings::default() };
    let model = Model::open(folder.path(), settings, &Device::cpu(None).unwrap(), None);
    (folder, model.unwrap())
}

#[test]
fn the_likeliest_letter_is_the_pick() {
    let (_folder, model) = model();
    let data = tempfile::tempdir().unwrap();
    write(data.path(), "test/a_test.csv", "t9 t10?,t11,t12,t13,t14,D\nt15?,t11,t12,t13,t14,A\n");
    let asked = Mmlu::read(data.path(), &choice(0)).unwrap();
    let mut session = Session::new(&model).unwrap();
    for index in 0..2 {
        let line = asked.ask(index, &mut Asked::new(&mut session, false)).unwrap();
        // By hand: the logits after the prompt, of a session that remembers nothing.
        let ids = model.vocabulary().encode(&asked.prompt(index).unwrap(), ondine_models::vocabulary::Controls::Meant);
        let logits = Session::new(&model).unwrap().logits(&ids.unwrap()).unwrap();
        let last: Vec<f64> = logits.to_f32().chunks_exact(42).last().unwrap().iter().map(|x| f64::from(*x)).collect();
        let sum: f64 = last.iter().map(|x| x.exp()).sum::<f64>().ln();
        let wanted: Vec<f64> = (LETTERS..LETTERS + 4).map(|id| last[id] - sum).collect();
        let found: Vec<f64> = line["likelihoods"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
        assert!(found.iter().zip(&wanted).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?} {wanted:?}");
        let best = (0..4).max_by(|&a, &b| wanted[a].total_cmp(&wanted[b])).unwrap();
        assert_eq!(line["pick"], ["A", "B", "C", "D"][best]);
        assert_eq!(line["correct"], line["pick"] == line["right"]);
    }
    // Continuations of several tokens: as likely as each token after those before it.
    let before = [9, 10, 11];
    let found = session.likelihoods(&before, &[vec![12], vec![12, 13, 14], vec![13]]).unwrap();
    let logits = Session::new(&model).unwrap().logits(&[9, 10, 11, 12, 13]).unwrap().to_f32();
    let likelihood = |row: usize, id: usize| {
        let row = &logits[row * 42..][..42];
        f64::from(row[id]) - row.iter().map(|x| f64::from(*x).exp()).sum::<f64>().ln()
    };
    let wanted = [likelihood(2, 12), likelihood(2, 12) + likelihood(3, 13) + likelihood(4, 14), likelihood(2, 13)];
    assert!(found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?} {wanted:?}");
    assert!(session.likelihoods(&[], &[vec![1]]).is_err() && session.likelihoods(&before, &[vec![]]).is_err());
}

#[test]
fn problems_are_asked_and_judged_as_the_harness_does() {
    let folder = tempfile::tempdir().unwrap();
    let record =
        |number: usize| json!({"question": format!("q{number}"), "answer": format!("so\n#### {number}")}).to_string();
    write(folder.path(), "gsm8k_test.jsonl", &format!("{}\n{}\n", record(1200), record(8)));
    assert!(Numbers::gsm8k(folder.path(), 5, None).unwrap_err().to_string().contains("ask with --shots 0"));
    let bare = Numbers::gsm8k(folder.path(), 0, Some(1)).unwrap();
    assert_eq!((bare.len(), bare.prompt(0).unwrap()), (1, "Question: q1200\nAnswer:".into()));
    let train: Vec<String> = (0..7473).map(record).collect();
    write(folder.path(), "gsm8k_train.jsonl", &train.join("\n"));
    let shots = Numbers::gsm8k(folder.path(), 5, None).unwrap();
    let example = |number: usize| format!("Question: q{number}\nAnswer: so\n#### {number}\n\n");
    let wanted =
        |drawn: [usize; 5], asked: usize| format!("{}Question: q{asked}\nAnswer:", drawn.map(example).concat());
    // The draws of Python's generator seeded with 1234.
    assert_eq!(shots.prompt(0).unwrap(), wanted([6374, 3610, 957, 61, 742], 1200));
    assert_eq!(shots.prompt(1).unwrap(), wanted([7462, 6610, 4769, 286, 5501], 8));

    let judged = |problems: &Numbers, answer: &str| problems.judge(0, answer).unwrap();
    let gsm8k = |answer: &str| {
        let line = judged(&bare, answer);
        [line["strict"] == true, line["flexible"] == true]
    };
    assert_eq!(gsm8k("It is 5 * 240.\n#### 1,200"), [true, true]);
    assert_eq!(gsm8k("#### $1200"), [false, true]);
    assert_eq!(gsm8k("The answer is 1200."), [false, true]);
    assert_eq!(gsm8k("#### 1200 of 3"), [true, false]);
    assert_eq!(gsm8k("#### 7\n#### 1200"), [false, true]);
    assert_eq!(gsm8k("none"), [false, false]);
    write(folder.path(), "mgsm_de.tsv", "Wie viele?\t1,200\n");
    let german = Numbers::mgsm(folder.path(), "de", None).unwrap();
    assert_eq!(german.prompt(0).unwrap(), "Frage: Wie viele?\nSchritt-für-Schritt-Antwort:");
    let mgsm = |answer: &str| {
        let line = judged(&german, answer);
        [line["strict"] == true, line["flexible"] == true]
    };
    assert_eq!(mgsm("Die Antwort lautet 1.200."), [true, true]);
    assert_eq!(mgsm("Die Antwort lautet 12"), [false, false]);
    assert_eq!(mgsm("Es sind 1200"), [false, true]);
    assert!(Numbers::mgsm(folder.path(), "xx", None).unwrap_err().to_string().contains("bn, de, en"));
    write(folder.path(), "mgsm_en.tsv", "no number\n");
    assert!(Numbers::mgsm(folder.path(), "en", None).unwrap_err().to_string().contains("row 1"));
}

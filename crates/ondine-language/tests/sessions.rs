//! Sessions with a tiny model of random weights, whose tokens are words `t0`, `t1`, ...

use std::path::{Path, PathBuf};

use ondine_language::{
    Chat, Event, Model, Session,
    model::Settings,
    sample::Sampling,
    session::{Options, Reason},
};
use ondine_models::vocabulary::Controls;
use ondine_runtime::{Cancel, Device, ErrorKind};
use serde_json::{Map, Value, json};

/// The folder of a model of `ondine-models` with a vocabulary.
fn folder(ends: &[u32]) -> tempfile::TempDir {
    let network = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../ondine-models/tests/data/language/llama");
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(network.join(file), folder.path().join(file)).unwrap();
    }
    let config: Value = serde_json::from_str(&std::fs::read_to_string(network.join("config.json")).unwrap()).unwrap();
    let words: Map<String, Value> =
        (0..config["vocab_size"].as_u64().unwrap()).map(|id| (format!("t{id}"), id.into())).collect();
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
    write("generation_config.json", json!({"eos_token_id": ends}));
    folder
}

fn model(folder: &Path, context: usize) -> Model {
    let settings = Settings { context: Some(context), ..Settings::default() };
    Model::open(folder, settings, &Device::cpu(None).unwrap(), None).unwrap()
}

fn tokens(count: usize) -> Options {
    Options { max_tokens: Some(count), ..Options::default() }
}

#[test]
fn what_was_read_is_not_read_again_and_changes_nothing() {
    let folder = folder(&[]);
    let model = model(folder.path(), 48);
    let mut session = Session::new(&model).unwrap();
    let prompts: [&[u32]; 5] =
        [&[5, 6, 7, 8, 9, 10], &[5, 6, 7, 8, 9, 10], &[5, 6, 7, 11], &[5, 6, 7, 11, 12, 13], &[20, 6, 7]];
    let mut first = Vec::new();
    for prompt in prompts {
        let remembered = session.remembered().to_vec();
        let same = remembered.iter().zip(prompt).take_while(|(a, b)| a == b).count();
        let answer = session.answer(prompt, &tokens(4), &mut |_| {}).unwrap();
        let fresh = Session::new(&model).unwrap().answer(prompt, &tokens(4), &mut |_| {}).unwrap();
        assert_eq!(answer.tokens, fresh.tokens, "{prompt:?}");
        assert_eq!(answer.usage.cached_tokens, same.min(prompt.len() - 1), "{prompt:?}");
        assert_eq!((answer.usage.prompt_tokens, answer.usage.output_tokens), (prompt.len(), 4));
        assert_eq!(answer.reason, Reason::MaxTokens);
        first.push(answer.tokens);
    }
    assert_eq!(first[0], first[1]);
    // The answer itself is remembered but for its last token, which nothing has read yet.
    let prompt = [prompts[4], &first[4], &[3]].concat();
    assert_eq!(session.answer(&prompt, &tokens(1), &mut |_| {}).unwrap().usage.cached_tokens, 6);
    session.rewind(2);
    assert_eq!(session.remembered(), [20, 6]);
    assert_eq!(session.answer(prompts[4], &tokens(4), &mut |_| {}).unwrap().tokens, first[4]);
}

#[test]
fn the_context_is_a_limit_that_is_told() {
    let folder = folder(&[]);
    let model = model(folder.path(), 16);
    let mut session = Session::new(&model).unwrap();
    let error = session.answer(&[3; 16], &tokens(1), &mut |_| {}).unwrap_err();
    let told = "the prompt and one token of the answer take 17 tokens, the context holds 16";
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Argument, told));
    assert!(session.answer(&[], &tokens(1), &mut |_| {}).is_err());
    let answer = session.answer(&[3; 10], &Options::default(), &mut |_| {}).unwrap();
    assert_eq!((answer.reason, answer.usage.output_tokens), (Reason::ContextFull, 6));
    assert_eq!(answer.text.matches('t').count(), 6);
}

#[test]
fn answers_end_where_they_are_told_to() {
    let plain = folder(&[]);
    let likeliest = |folder: &Path, options: &Options| {
        Session::new(&model(folder, 32)).unwrap().answer(&[5, 6, 7], options, &mut |_| {}).unwrap()
    };
    let answer = likeliest(plain.path(), &tokens(6));
    let third = answer.tokens[2];
    let ends = folder(&[third]);
    let until = answer.tokens.iter().position(|&id| id == third).unwrap() + 1;
    let ended = likeliest(ends.path(), &tokens(6));
    assert_eq!((ended.reason, ended.tokens.as_slice()), (Reason::End, &answer.tokens[..until]));
    assert!(!ended.text.contains(&format!("t{third}")));
    let on = likeliest(ends.path(), &Options { ignore_end: true, ..tokens(6) });
    assert_eq!(on.tokens, answer.tokens);
    let stop = Options { stop: vec![format!("t{third}")], ..tokens(6) };
    let mut heard = String::new();
    let mut session = Session::new(&model(plain.path(), 32)).unwrap();
    let stopped = session.answer(&[5, 6, 7], &stop, &mut |event| {
        if let Event::Text(text) = event {
            heard.push_str(text);
        }
    });
    let stopped = stopped.unwrap();
    assert_eq!((stopped.reason, &stopped.text), (Reason::Stop, &heard));
    assert!(answer.text.starts_with(&heard) && !heard.contains(&format!("t{third}")));
}

#[test]
fn an_answer_that_is_stopped_leaves_no_trace() {
    let folder = folder(&[]);
    let model = model(folder.path(), 64);
    let cancel = Cancel::default();
    let mut session = Session::new(&model).unwrap().with_cancel(cancel.clone());
    let mut heard = 0;
    let answer = session.answer(&[5, 6, 7], &Options::default(), &mut |event| {
        heard += usize::from(matches!(event, Event::Text(_)));
        if heard == 3 {
            cancel.cancel();
        }
    });
    let answer = answer.unwrap();
    assert_eq!((answer.reason, answer.tokens.len()), (Reason::Cancelled, 3));
    let again = session.answer(&[5, 6, 7, 8], &tokens(8), &mut |_| {}).unwrap();
    assert_eq!(again.usage.cached_tokens, 3);
    assert_eq!(
        again.tokens,
        Session::new(&model).unwrap().answer(&[5, 6, 7, 8], &tokens(8), &mut |_| {}).unwrap().tokens
    );
}

#[test]
fn draws_are_those_of_their_seed() {
    let folder = folder(&[]);
    let model = model(folder.path(), 64);
    let drawn = |seed| {
        let sampling = Sampling { temperature: 1.0, seed, ..Sampling::default() };
        let options = Options { sampling, ..tokens(12) };
        Session::new(&model).unwrap().answer(&[5, 6, 7], &options, &mut |_| {}).unwrap().tokens
    };
    assert_eq!(drawn(1), drawn(1));
    assert_ne!(drawn(1), drawn(2));
}

#[test]
fn conversations_are_remembered_from_turn_to_turn() {
    let folder = folder(&[]);
    let model = model(folder.path(), 64);
    let mut chat = Chat::new(&model, Some("t30 t31")).unwrap();
    let mut read = 0;
    for turn in 0..5 {
        let answer = chat.ask(&format!("t{} t40", 10 + turn), &tokens(2), &mut |_| {}).unwrap();
        assert_eq!(answer.usage.cached_tokens, read, "turn {turn}");
        // Tokens of `Plain` spelling have no blanks between: the answer of two words is read again as one.
        read = answer.usage.prompt_tokens - 1;
    }
    assert_eq!(chat.transcript.messages.len(), 11);
    let prompt = chat.prompt_tokens().unwrap();
    assert_eq!(prompt, model.vocabulary().encode(&chat.prompt().unwrap(), Controls::Meant).unwrap());
    let long = vec!["t3"; 80].join(" ");
    assert!(chat.ask(&long, &tokens(2), &mut |_| {}).unwrap_err().to_string().contains("the context holds 64"));
    assert_eq!(chat.transcript.messages.len(), 11);
}

#[test]
fn a_real_model_answers_as_it_does_elsewhere() {
    let Some(path) = std::env::var_os("ONDINE_SMOLLM2") else {
        eprintln!("skipped: ONDINE_SMOLLM2 names no file (SmolLM2-135M-Instruct, Q4_1)");
        return;
    };
    let model = Model::open(Path::new(&path), Settings::default(), &Device::cpu(None).unwrap(), None).unwrap();
    let mut chat = Chat::new(&model, None).unwrap();
    let answer = chat.ask("What is the capital of France?", &Options::default(), &mut |_| {}).unwrap();
    assert_eq!(answer.tokens, [504, 3575, 282, 4649, 314, 7042, 30, 2]);
    assert_eq!((answer.text.as_str(), answer.reason), ("The capital of France is Paris.", Reason::End));
    // As transformers writes and cuts it.
    let wanted =
        [1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28, 7018, 411, 407, 19712, 8182];
    let prompt = &chat.session.remembered()[..37];
    assert_eq!(prompt[..19], wanted);
    assert_eq!(prompt[19..], [2, 198, 1, 4093, 198, 1780, 314, 260, 3575, 282, 4649, 47, 2, 198, 1, 520, 9531, 198]);
    let again = chat.ask("And of Portugal?", &Options::default(), &mut |_| {}).unwrap();
    // All that was read is the beginning of what is read now; the token that ended the answer was not read.
    assert_eq!(again.usage.cached_tokens, 37 + 7);
}

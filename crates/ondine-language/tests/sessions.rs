//! Sessions with a tiny model of random weights, whose tokens are words `t0`, `t1`, ...

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use ondine_language::{
    Batch, Chat, Event, Model, Session,
    draft_model::DraftModel,
    guide::Grammar,
    model::{Plan, Settings},
    sample::{Sampler, Sampling},
    session::{Options, Reason},
};
use ondine_models::{KvCache, vocabulary::Controls};
use ondine_runtime::{Cancel, Device, ErrorKind};
use serde_json::{Map, Value, json};

/// The folder of a model of `ondine-models` with a vocabulary.
fn folder(ends: &[u32]) -> tempfile::TempDir {
    folder_of(&|id| format!("t{id}"), ends)
}

/// The same, with tokens of these texts.
fn folder_of(token: &dyn Fn(u64) -> String, ends: &[u32]) -> tempfile::TempDir {
    let network = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../ondine-models/tests/data/language/llama");
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(network.join(file), folder.path().join(file)).unwrap();
    }
    let config: Value = serde_json::from_str(&std::fs::read_to_string(network.join("config.json")).unwrap()).unwrap();
    let words: Map<String, Value> =
        (0..config["vocab_size"].as_u64().unwrap()).map(|id| (token(id), id.into())).collect();
    let write = |name: &str, value: Value| std::fs::write(folder.path().join(name), value.to_string()).unwrap();
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "vocab": words, "unk_token": token(0)},
    });
    write("tokenizer.json", tokenizer);
    let template = "{% for message in messages %}t1 {{ message.content }} {% endfor %}t2";
    write("tokenizer_config.json", json!({"chat_template": template}));
    write("generation_config.json", json!({"eos_token_id": ends}));
    folder
}

fn model(folder: &Path, context: usize) -> Model {
    model_that_keeps(folder, context, KvCache::default())
}

fn model_that_keeps(folder: &Path, context: usize, kv: KvCache) -> Model {
    let settings = Settings { context: Some(context), kv, ..Settings::default() };
    Model::open(folder, settings, &Device::cpu(None).unwrap(), None).unwrap()
}

fn tokens(count: usize) -> Options {
    Options { max_tokens: Some(count), ..Options::default() }
}

#[test]
fn what_was_read_is_not_read_again_and_changes_nothing() {
    for kv in [KvCache::AsComputed, KvCache::Bf16, KvCache::Int8] {
        check_what_was_read(kv);
    }
}

fn check_what_was_read(kv: KvCache) {
    let folder = folder(&[]);
    let model = model_that_keeps(folder.path(), 48, kv);
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
fn what_is_kept_in_fewer_bits_is_taken_back_to_the_bit() {
    let folder = folder(&[]);
    for kv in [KvCache::Bf16, KvCache::Int8] {
        let model = model_that_keeps(folder.path(), 48, kv);
        let (before, rest) = ([5, 6, 7, 8, 9], [10, 11, 12]);
        let logits = |session: &mut Session| session.logits_after(&before, &rest).unwrap().to_f32();
        let wanted = logits(&mut Session::new(&model).unwrap());
        let mut session = Session::new(&model).unwrap();
        session.logits_after(&before, &[20, 21, 22, 23, 24]).unwrap();
        session.rewind(5);
        assert_eq!(logits(&mut session), wanted, "{kv:?}");
    }
}

#[test]
fn fewer_bits_take_less_memory_and_the_plan_knows() {
    let folder = folder(&[]);
    let device = Device::cpu(None).unwrap();
    let bytes = |kv: KvCache, context: usize| {
        let settings = Settings { context: Some(context), kv, ..Settings::default() };
        Plan::new(folder.path(), settings, &device).unwrap().bytes().unwrap() as i64
    };
    // 3 layers, 2 heads of 6 numbers of keys and of values: what another token takes, its place in the workspace being
    // the same for all.
    let each = |kv: KvCache| bytes(kv, 64) - bytes(kv, 32);
    let exact = each(KvCache::AsComputed);
    assert_eq!(exact - each(KvCache::Bf16), 32 * 3 * 2 * 12 * 2);
    assert_eq!(exact - each(KvCache::Int8), 32 * 3 * 2 * (12 * 3 - 2 * 4));
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
fn guesses_change_no_answer() {
    let folder = folder(&[]);
    let model = model(folder.path(), 64);
    let prompt: Vec<u32> = [5, 6, 7, 8, 9].iter().cycle().take(22).copied().collect();
    for temperature in [0.0, 0.4, 1.0] {
        for seed in 0..6 {
            let sampling = Sampling { temperature, seed, presence_penalty: 0.1, ..Sampling::default() };
            let plain = Options { sampling, ..tokens(38) };
            let wanted = Session::new(&model).unwrap().answer(&prompt, &plain, &mut |_| {}).unwrap();
            for draft_tokens in [1, 4, 16] {
                let options = Options { draft_tokens, ..plain.clone() };
                let mut heard = String::new();
                let mut on = |event: Event<'_>| {
                    if let Event::Text(text) = event {
                        heard.push_str(text);
                    }
                };
                let looked = Session::new(&model).unwrap().answer(&prompt, &options, &mut on).unwrap();
                assert_eq!(
                    (&looked.tokens, &looked.text, looked.reason),
                    (&wanted.tokens, &wanted.text, wanted.reason)
                );
                assert_eq!(heard, wanted.text);
                let small = Box::new(DraftModel::new(&model, &model).unwrap());
                let mut session = Session::new(&model).unwrap().with_drafter(small);
                let drafted = session.answer(&prompt, &options, &mut |_| {}).unwrap();
                assert_eq!(drafted.tokens, wanted.tokens, "{draft_tokens} tokens, seed {seed} at {temperature}");
                let usage = drafted.usage;
                assert!(usage.drafted_tokens > 0 && usage.accepted_tokens <= usage.drafted_tokens);
                if temperature == 0.0 {
                    // The same model guesses what it says, but where penalties make it say something else.
                    assert!(usage.accepted_tokens * 4 >= usage.drafted_tokens, "{usage:?}");
                }
                // What was wrong has left no trace.
                let again = session.answer(&prompt, &options, &mut |_| {}).unwrap();
                assert_eq!(again.tokens, wanted.tokens);
            }
        }
    }
}

/// Tokens that JSON can be written with. The last one ends answers, and so do the second and the third by the config.
const JSON_TOKENS: [&str; 42] = [
    "{", "-", "true", "}", "[", "]", "\"", ",", " ", ":", ".", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "a",
    "b", "c", "d", "e", "f", "g", "i", "k", "l", "m", "n", "r", "s", "t", "u", "z", "\": ", ", \"", "null", "<end>",
];

#[test]
fn answers_of_a_schema_are_whole_or_say_that_they_are_not() {
    let folder = folder_of(&|id| JSON_TOKENS[id as usize].to_owned(), &[41]);
    let model = model(folder.path(), 64);
    let schema = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "pattern": "^[a-f]{2,6}$"},
            "sizes": {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 99}, "minItems": 1, "maxItems": 3},
            "kind": {"enum": ["tree", "grass", null]},
        },
        "required": ["name", "kind"],
        "additionalProperties": false,
    });
    let validator = jsonschema::validator_for(&schema).unwrap();
    let grammar = Some(Arc::new(Grammar::Schema(schema)));
    for seed in 0..12 {
        let sampling = Sampling { temperature: if seed == 0 { 0.0 } else { 1.0 }, seed, ..Sampling::default() };
        let options = Options { sampling, grammar: grammar.clone(), ..Options::default() };
        let answer =
            |options: &Options| Session::new(&model).unwrap().answer(&[20, 21, 22], options, &mut |_| {}).unwrap();
        let whole = answer(&options);
        assert_eq!((whole.reason, whole.complete), (Reason::End, true));
        let value: Value = serde_json::from_str(&whole.text).unwrap();
        assert!(validator.is_valid(&value), "{}", whole.text);
        assert!(whole.usage.forced_tokens > 0);
        // Guesses are checked under the same form.
        let drafted = answer(&Options { draft_tokens: 8, ..options.clone() });
        assert_eq!(drafted.tokens, whole.tokens);
        let cut = answer(&Options { max_tokens: Some(whole.tokens.len() / 2), ..options.clone() });
        assert_eq!((cut.reason, cut.complete), (Reason::MaxTokens, false));
        assert_eq!(cut.tokens, whole.tokens[..cut.tokens.len()]);
        let stopped = answer(&Options { stop: vec!["kind".into()], ..options.clone() });
        assert_eq!((stopped.reason, stopped.complete), (Reason::Stop, false));
    }
    let endless = Options { grammar, ignore_end: true, ..Options::default() };
    assert!(Session::new(&model).unwrap().answer(&[20], &endless, &mut |_| {}).is_err());
    let refused = Options { grammar: Some(Arc::new(Grammar::schema("{\"not\": {}}").unwrap())), ..Options::default() };
    let told = Session::new(&model).unwrap().answer(&[20], &refused, &mut |_| {}).unwrap_err().to_string();
    assert!(told.contains("\"not\""), "{told}");
}

/// What is chosen under a form if every step computes all logits of the whole text.
fn of_all_logits(model: &Model, prompt: &[u32], grammar: &Grammar, sampling: &Sampling) -> Vec<u32> {
    let mut guide = model.guides().unwrap().start(grammar).unwrap();
    let mut sampler = Sampler::new(sampling, prompt).unwrap();
    let mut ids = prompt.to_vec();
    while !guide.is_over() {
        let all = Session::new(model).unwrap().logits(&ids).unwrap();
        let mut logits = all.to_f32().split_off((ids.len() - 1) * all.shape()[1]);
        guide.mask(&mut logits).unwrap();
        let id = sampler.choose(&mut logits).unwrap();
        guide.push(id).unwrap();
        ids.push(id);
    }
    ids.split_off(prompt.len())
}

#[test]
fn of_few_tokens_that_a_form_leaves_the_same_one_is_chosen_as_of_all() {
    let folder = folder_of(&|id| JSON_TOKENS[id as usize].to_owned(), &[41]);
    let settings = Settings { context: Some(64), texts: 3, ..Settings::default() };
    let model = Model::open(folder.path(), settings, &Device::cpu(None).unwrap(), None).unwrap();
    // Some leave a single token, some few, some most; one begins with what must be.
    let forms = ["[a-c]{2,3}(tree|grass)[0-4]{3}[uz]", "(null)+[a-f]{1,4}", "[a-z0-9]{4}[-{}]{3}"];
    let prompts = [vec![20, 21, 22], vec![3, 4, 5, 6], vec![9, 30, 1], vec![7], vec![40, 2]];
    for (form, temperature) in forms.into_iter().flat_map(|form| [(form, 0.0), (form, 0.9)]) {
        let grammar = Grammar::Regex(form.into());
        let sampling = Sampling { temperature, seed: 5, presence_penalty: 0.2, ..Sampling::default() };
        let wanted: Vec<_> = prompts.iter().map(|prompt| of_all_logits(&model, prompt, &grammar, &sampling)).collect();
        let options = Options { sampling, grammar: Some(Arc::new(grammar)), ..Options::default() };
        let mut session = Session::new(&model).unwrap();
        for (prompt, wanted) in prompts.iter().zip(&wanted) {
            let found = session.answer(prompt, &options, &mut |_| {}).unwrap();
            assert_eq!(found.tokens, *wanted, "{prompt:?} {form} {temperature}");
        }
        let found = Batch::new(&model).unwrap().answer(&prompts, &options, &mut |_, _| {}).unwrap();
        let found: Vec<_> = found.into_iter().map(|answer| answer.tokens).collect();
        assert_eq!(found, wanted, "{form} {temperature}");
    }
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

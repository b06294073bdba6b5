//! Against what the checkers of lm-evaluation-harness say; `python/golden/ifeval.py` made the file.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;

#[derive(Deserialize)]
struct Case {
    id: String,
    settings: Map<String, Value>,
    answers: Vec<String>,
    followed: Vec<bool>,
}

#[test]
fn every_kind_is_checked_as_the_harness_checks_it() {
    let mut kinds: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    for line in include_str!("../../../tests/data/ifeval.jsonl").lines() {
        let case: Case = serde_json::from_str(line).unwrap();
        let instruction = Instruction::new(&case.id, &case.settings).unwrap();
        for (answer, followed) in case.answers.iter().zip(case.followed) {
            assert_eq!(instruction.is_followed(answer), followed, "{} {:?}: {answer:?}", case.id, case.settings);
            kinds.entry(case.id.clone()).or_default()[usize::from(followed)] += 1;
        }
    }
    assert_eq!(kinds.len(), 25);
    assert!(kinds.values().all(|counts| counts[0] > 0 && counts[1] > 0), "{kinds:?}");
}

#[test]
fn loosely_the_first_and_last_lines_and_asterisks_may_be_more() {
    let quoted = [Instruction::new("startend:quotation", &Map::new()).unwrap()];
    for (answer, wanted) in [
        ("\"a\"", [true, true]),
        ("Sure!\n\"a\"", [false, true]),
        ("\"a\"\nThat is it.", [false, true]),
        ("Sure!\n*\"a\"*\nThat is it.", [false, true]),
        ("Sure! \"a\"", [false, false]),
        ("  ", [false, false]),
    ] {
        assert_eq!([strict(&quoted, answer)[0], loose(&quoted, answer)[0]], wanted, "{answer:?}");
    }
}

#[test]
fn scores_count_prompts_and_instructions() {
    let line = |strict: Value| json!({"id": "1", "strict": strict, "loose": [true]}).as_object().unwrap().clone();
    let none = IfEval { prompts: Vec::new() };
    let scores = none.scores(&[line(json!([true, false])), line(json!([true]))]);
    let values: Vec<(&str, f64, usize)> = scores.iter().map(|s| (s.name.as_str(), s.value, s.count)).collect();
    let wanted = [
        ("prompt_level_strict_acc", 0.5, 2),
        ("inst_level_strict_acc", 2.0 / 3.0, 3),
        ("prompt_level_loose_acc", 1.0, 2),
        ("inst_level_loose_acc", 1.0, 2),
    ];
    assert_eq!(values, wanted);
}

#[test]
fn files_that_lie_are_refused_with_their_line() {
    let folder = tempfile::tempdir().unwrap();
    let told = |line: &str| {
        std::fs::write(folder.path().join("ifeval_input_data.jsonl"), line).unwrap();
        IfEval::read(folder.path(), None).unwrap_err().to_string()
    };
    assert!(IfEval::read(folder.path(), None).unwrap_err().to_string().contains("ifeval_input_data.jsonl"));
    assert!(told("{}").starts_with("ifeval_input_data.jsonl: line 1: "));
    let prompt = |id: &str, settings: &str| {
        format!("{{\"key\": 1, \"prompt\": \"p\", \"instruction_id_list\": [\"{id}\"], \"kwargs\": [{settings}]}}")
    };
    assert!(told(&prompt("a:b", "{}")).contains("\"a:b\" is not known"));
    assert!(told(&prompt("startend:end_checker", "{}")).contains("\"end_phrase\""));
    let near = r#"{"relation": "near", "num_words": 3}"#;
    assert!(told(&prompt("length_constraints:number_words", near)).contains("\"near\""));
}

//! GSM8K (Cobbe et al. 2021) and MGSM (Shi et al. 2023): word problems whose answer is a number.

use std::path::Path;

use ondine_graph::{Error, ErrorKind, Result, fail};
use regex::Regex;
use serde::Deserialize;

use super::{Asked, Benchmark, Line, Score, draws::Draws, flags, read};

/// Problems with the numbers that are right.
#[derive(Clone, Debug)]
pub struct Numbers {
    name: String,
    problems: Vec<Problem>,
    /// Texts that end an answer.
    until: Vec<String>,
    /// What stands before the number in an answer that keeps to the form.
    strict: Regex,
    loose: Regex,
    /// What counts as nothing when numbers are compared.
    ignored: Vec<Regex>,
    /// True if no punctuation counts.
    plain: bool,
}

#[derive(Clone, Debug)]
struct Problem {
    prompt: String,
    right: String,
}

/// A line of GSM8K.
#[derive(Deserialize)]
struct Record {
    question: String,
    answer: String,
}

/// Tokens of an answer at most, as the harness has it.
const MOST: usize = 256;

/// What an answer without a number is taken for.
const INVALID: &str = "[invalid]";

/// Where the harness begins to draw examples.
const SEED: u32 = 1234;

/// The last number of an answer.
const LOOSE: &str = r"(-?[$0-9.,]{2,})|(-?[0-9]+)";

/// How a language of MGSM writes its problems.
struct Language {
    code: &'static str,
    question: &'static str,
    answer: &'static str,
    /// What the number stands behind and before.
    around: [&'static str; 2],
    /// What begins another problem.
    next: &'static str,
}

const ENGLISH: [&str; 2] = ["The answer is ", ""];

const LANGUAGES: &[Language] = &[
    language("bn", "প্রশ্ন: ", "ধাপে ধাপে উত্তর:", ENGLISH, "প্রশ্ন:"),
    language("de", "Frage: ", "Schritt-für-Schritt-Antwort:", ["Die Antwort lautet ", ""], "Frage:"),
    language("en", "Question: ", "Step-by-Step Answer:", ENGLISH, "Question:"),
    language("es", "Pregunta: ", "Respuesta paso a paso:", ["La respuesta es ", ""], "Pregunta:"),
    language("fr", "Question : ", "Réponse étape par étape :", ["La réponse est ", ""], "Question :"),
    language("ja", "問題： ", "ステップごとの答え:", ["答えは", "です。"], "問題："),
    language("ru", "Задача: ", "Пошаговоерешение:", ["Ответ — ", ""], "Задача:"),
    language("sw", "Swali: ", "Jibu la Hatua kwa Hatua:", ["Jibu ni ", ""], "Swali:"),
    language("te", "ప్రశ్న: ", "దశలవారీగా సమాధానం:", ["సమాధానం ", ""], "ప్రశ్న:"),
    language("th", "โจทย์: ", "คำตอบทีละขั้นตอน:", ["คำตอบคือ ", ""], "โจทย์:"),
    language("zh", "问题： ", "逐步解答:", ["答案是 ", "。"], "问题："),
];

const fn language(
    code: &'static str,
    question: &'static str,
    answer: &'static str,
    around: [&'static str; 2],
    next: &'static str,
) -> Language {
    Language { code, question, answer, around, next }
}

impl Numbers {
    /// Reads `gsm8k_test.jsonl` of a folder. The examples are those that the harness draws for each problem out of
    /// `gsm8k_train.jsonl`, in the same order.
    ///
    /// # Errors
    /// If a file is missing or broken, or has too few examples.
    pub fn gsm8k(folder: &Path, shots: usize, limit: Option<usize>) -> Result<Self> {
        let mut records = records(folder, "gsm8k_test.jsonl")?;
        records.truncate(limit.unwrap_or(usize::MAX));
        let examples = if shots > 0 { records_or_hint(folder, "gsm8k_train.jsonl")? } else { Vec::new() };
        if examples.len() < shots {
            fail!(Argument, "gsm8k_train.jsonl has {} examples, not {shots}; lower --shots", examples.len());
        }
        let mut draws = Draws::new(SEED);
        let problem = |record: &Record| {
            let drawn = draws.sample(examples.len(), shots);
            let before: String = drawn
                .iter()
                .filter_map(|&at| examples.get(at))
                .map(|Record { question, answer }| format!("Question: {question}\nAnswer: {answer}\n\n"))
                .collect();
            Problem { prompt: format!("{before}Question: {}\nAnswer:", record.question), right: record.answer.clone() }
        };
        Ok(Self {
            name: "gsm8k".into(),
            problems: records.iter().map(problem).collect(),
            until: ["Question:", "</s>", "<|im_end|>"].map(str::to_owned).to_vec(),
            strict: expression(r"#### (\-?[0-9\.\,]+)")?,
            loose: expression(LOOSE)?,
            ignored: [",", r"\$", "(?s).*#### ", r"\.$"].into_iter().map(expression).collect::<Result<_>>()?,
            plain: false,
        })
    }

    /// Reads `mgsm_LANGUAGE.tsv` of a folder: problems with their numbers, without examples, as the harness has them in
    /// their own language.
    ///
    /// # Errors
    /// If the language is none of the eleven, or the file is missing or broken.
    pub fn mgsm(folder: &Path, code: &str, limit: Option<usize>) -> Result<Self> {
        let Some(language) = LANGUAGES.iter().find(|language| language.code == code) else {
            let codes: Vec<&str> = LANGUAGES.iter().map(|language| language.code).collect();
            fail!(Argument, "MGSM has no language {code:?}; it has {}", codes.join(", "));
        };
        let nested = folder.join("mgsm");
        let folder = if nested.is_dir() { nested.as_path() } else { folder };
        let file = format!("mgsm_{code}.tsv");
        let mut problems = Vec::new();
        for (number, row) in read(folder, &file)?.lines().enumerate() {
            let Some((question, right)) = row.rsplit_once('\t') else {
                fail!(Format, "{file}: row {} has no tab between problem and number", number + 1);
            };
            let Language { question: begin, answer, .. } = language;
            // Numbers are written with commas in some rows, which count for nothing.
            let right = right.trim().replace(',', "");
            problems.push(Problem { prompt: format!("{begin}{question}\n{answer}"), right });
        }
        problems.truncate(limit.unwrap_or(usize::MAX));
        let [before, after] = language.around;
        Ok(Self {
            name: format!("mgsm_{code}"),
            problems,
            until: [language.next, "</s>", "<|im_end|>"].map(str::to_owned).to_vec(),
            strict: expression(&format!(r"{before}(\-?[0-9\.\,]+){after}"))?,
            loose: expression(LOOSE)?,
            ignored: Vec::new(),
            plain: true,
        })
    }

    fn problem(&self, index: usize) -> Result<&Problem> {
        let problem = self.problems.get(index);
        problem.ok_or_else(|| Error::new(ErrorKind::Argument, format!("there is no problem {index}")))
    }

    /// The number in an answer that keeps to the form: the first that stands where it shall.
    fn strict(&self, answer: &str) -> String {
        let found = self.strict.captures(answer).and_then(|found| found.get(1));
        found.map_or(INVALID, |found| found.as_str().trim()).to_owned()
    }

    /// The last number in an answer.
    fn flexible(&self, answer: &str) -> String {
        let found = self.loose.find_iter(answer).last();
        found.map_or(INVALID, |found| found.as_str().trim()).to_owned()
    }

    /// What is compared of a number.
    fn bare(&self, number: &str) -> String {
        let mut bare = number.to_owned();
        for ignored in &self.ignored {
            bare = ignored.replace_all(&bare, "").into_owned();
        }
        bare = bare.to_lowercase();
        if self.plain {
            bare.retain(|c| !c.is_ascii_punctuation());
        }
        bare
    }

    /// What an answer to a problem is worth.
    ///
    /// # Errors
    /// If there is no such problem.
    pub fn judge(&self, index: usize, answer: &str) -> Result<Line> {
        let right = &self.problem(index)?.right;
        let (strict, flexible) = (self.strict(answer), self.flexible(answer));
        let mut line = Line::new();
        line.insert("id".into(), self.id(index).into());
        line.insert("strict".into(), self.is_right(&strict, right).into());
        line.insert("flexible".into(), self.is_right(&flexible, right).into());
        line.insert("found".into(), serde_json::json!([strict, flexible]));
        line.insert("right".into(), self.bare(right).into());
        line.insert("answer".into(), answer.into());
        Ok(line)
    }

    fn is_right(&self, found: &str, right: &str) -> bool {
        self.bare(found) == self.bare(right)
    }
}

fn expression(text: &str) -> Result<Regex> {
    Regex::new(text).map_err(|error| Error::new(ErrorKind::Internal, format!("{text}: {error}")))
}

fn records(folder: &Path, file: &str) -> Result<Vec<Record>> {
    let parse = |(number, line): (usize, &str)| {
        serde_json::from_str(line)
            .map_err(|error| Error::new(ErrorKind::Format, format!("{file}: line {}: {error}", number + 1)))
    };
    read(folder, file)?.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(parse).collect()
}

fn records_or_hint(folder: &Path, file: &str) -> Result<Vec<Record>> {
    if !folder.join(file).is_file() {
        fail!(
            Missing,
            "{}: it is not there, and examples are drawn out of it; put it there, or ask with --shots 0",
            folder.join(file).display()
        );
    }
    records(folder, file)
}

impl Benchmark for Numbers {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> usize {
        self.problems.len()
    }

    fn id(&self, index: usize) -> String {
        format!("{} {index}", self.name)
    }

    fn prompt(&self, index: usize) -> Result<String> {
        Ok(self.problem(index)?.prompt.clone())
    }

    fn ask(&self, index: usize, asked: &mut Asked<'_>) -> Result<Line> {
        let until: Vec<&str> = self.until.iter().map(String::as_str).collect();
        let answer = asked.answer(&self.problem(index)?.prompt, MOST, &until)?;
        self.judge(index, &answer.text)
    }

    fn scores(&self, lines: &[Line]) -> Vec<Score> {
        vec![
            Score::of("exact_match strict-match", &flags(lines, "strict")),
            Score::of("exact_match flexible-extract", &flags(lines, "flexible")),
        ]
    }
}

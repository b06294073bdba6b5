//! MMLU (Hendrycks et al. 2021): questions of 57 subjects with four answers, of which the likeliest letter is the pick.

use std::{collections::BTreeMap, path::Path};

use ondine_graph::{Error, ErrorKind, Result, fail};
use serde_json::{Value, json};

use super::{Asked, Benchmark, Line, Score, flags, read};

const LETTERS: [&str; 4] = ["A", "B", "C", "D"];

/// The questions of some subjects.
#[derive(Clone, Debug)]
pub struct Mmlu {
    subjects: Vec<Subject>,
    /// Where each question stands: its subject, and its number there.
    order: Vec<(usize, usize)>,
}

#[derive(Clone, Debug)]
struct Subject {
    name: String,
    /// What stands before each question: what it is about, and examples.
    before: String,
    questions: Vec<Question>,
}

#[derive(Clone, Debug)]
struct Question {
    /// The question with its answers, up to where the letter comes.
    text: String,
    right: usize,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// Examples before each question.
    pub shots: usize,
    /// The first so many questions of each subject.
    pub limit: Option<usize>,
    /// Subjects by name; none is all.
    pub subjects: Vec<String>,
}

impl Mmlu {
    /// Reads `test/SUBJECT_test.csv` of a folder, and the examples in `dev/SUBJECT_dev.csv`.
    ///
    /// # Errors
    /// If there are none, or they are broken, or too few for the examples.
    pub fn read(folder: &Path, choice: &Choice) -> Result<Self> {
        let nested = folder.join("mmlu");
        let folder = if nested.is_dir() { nested.as_path() } else { folder };
        let mut names = subjects(folder)?;
        for name in &choice.subjects {
            if !names.contains(name) {
                fail!(Argument, "{}: there is no subject {name:?}; there are {}", folder.display(), names.join(", "));
            }
        }
        names.retain(|name| choice.subjects.is_empty() || choice.subjects.contains(name));
        let subjects = names.iter().map(|name| Subject::read(folder, name, choice)).collect::<Result<Vec<_>>>()?;
        let numbers = |(at, subject): (usize, &Subject)| (0..subject.questions.len()).map(move |number| (at, number));
        let order = subjects.iter().enumerate().flat_map(numbers).collect();
        Ok(Self { subjects, order })
    }

    fn question(&self, index: usize) -> Result<(&Subject, usize, &Question)> {
        let at = self.order.get(index);
        let found = at.and_then(|&(subject, number)| {
            let subject = self.subjects.get(subject)?;
            Some((subject, number, subject.questions.get(number)?))
        });
        found.ok_or_else(|| Error::new(ErrorKind::Argument, format!("there is no question {index}")))
    }
}

fn subjects(folder: &Path) -> Result<Vec<String>> {
    let place = folder.join("test");
    let mut names = Vec::new();
    if place.is_dir() {
        for entry in std::fs::read_dir(&place)? {
            let file = entry?.file_name().to_string_lossy().into_owned();
            names.extend(file.strip_suffix("_test.csv").map(str::to_owned));
        }
    }
    names.sort();
    if names.is_empty() {
        fail!(
            Missing,
            "{}: no SUBJECT_test.csv is there; give the folder that holds `test` and `dev`",
            place.display()
        );
    }
    Ok(names)
}

impl Subject {
    fn read(folder: &Path, name: &str, choice: &Choice) -> Result<Self> {
        let mut questions = questions(folder, &format!("test/{name}_test.csv"))?;
        questions.truncate(choice.limit.unwrap_or(usize::MAX));
        let about = name.replace('_', " ");
        let mut before = format!("The following are multiple choice questions (with answers) about {about}.\n\n");
        if choice.shots > 0 {
            let file = format!("dev/{name}_dev.csv");
            let examples = self::questions(folder, &file)?;
            if examples.len() < choice.shots {
                let (count, shots) = (examples.len(), choice.shots);
                fail!(Argument, "{file} has {count} examples, not {shots}; lower --shots");
            }
            for Question { text, right } in examples.iter().take(choice.shots) {
                before.push_str(&format!("{text} {}\n\n", LETTERS[*right]));
            }
        }
        Ok(Self { name: name.to_owned(), before, questions })
    }
}

/// Reads a table of question, four answers and the right one, a letter or a number from 0; a first row of names is
/// none.
fn questions(folder: &Path, file: &str) -> Result<Vec<Question>> {
    let text = read(folder, file)?;
    let mut questions = Vec::new();
    for (number, row) in csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes()).records().enumerate()
    {
        let row = row.map_err(|error| Error::new(ErrorKind::Format, format!("{file}: {error}")))?;
        let cells: Vec<&str> = row.iter().collect();
        let [question, a, b, c, d, right] = cells[..] else {
            fail!(Format, "{file}: row {} has {} columns, not 6", number + 1, cells.len());
        };
        if number == 0 && right == "answer" {
            continue;
        }
        let letter = LETTERS.iter().position(|letter| *letter == right.trim());
        let Some(right) = letter.or_else(|| right.trim().parse().ok()).filter(|&right| right < LETTERS.len()) else {
            fail!(Format, "{file}: row {}: the answer {right:?} is none of A, B, C and D", number + 1);
        };
        let text = format!("{}\nA. {a}\nB. {b}\nC. {c}\nD. {d}\nAnswer:", question.trim());
        questions.push(Question { text, right });
    }
    Ok(questions)
}

impl Benchmark for Mmlu {
    fn name(&self) -> &str {
        "mmlu"
    }

    fn len(&self) -> usize {
        self.order.len()
    }

    fn id(&self, index: usize) -> String {
        self.question(index).map_or_else(|_| index.to_string(), |(subject, at, _)| format!("{} {at}", subject.name))
    }

    fn prompt(&self, index: usize) -> Result<String> {
        let (subject, _, question) = self.question(index)?;
        Ok(format!("{}{}", subject.before, question.text))
    }

    fn ask(&self, index: usize, asked: &mut Asked<'_>) -> Result<Line> {
        let (subject, _, question) = self.question(index)?;
        let continuations = LETTERS.map(|letter| format!(" {letter}"));
        let likelihoods = asked.likelihoods(&self.prompt(index)?, &continuations.each_ref().map(String::as_str))?;
        // The first of those that are alike.
        let pick =
            (0..likelihoods.len()).fold(0, |best, at| if likelihoods[at] > likelihoods[best] { at } else { best });
        let mut line = Line::new();
        line.insert("id".into(), self.id(index).into());
        line.insert("subject".into(), subject.name.as_str().into());
        line.insert("pick".into(), LETTERS[pick].into());
        line.insert("right".into(), LETTERS[question.right].into());
        line.insert("correct".into(), (pick == question.right).into());
        line.insert("likelihoods".into(), json!(likelihoods));
        Ok(line)
    }

    fn scores(&self, lines: &[Line]) -> Vec<Score> {
        let mut scores = vec![Score::of("acc", &flags(lines, "correct"))];
        let mut subjects: BTreeMap<&str, Vec<Line>> = BTreeMap::new();
        for line in lines {
            let subject = line.get("subject").and_then(Value::as_str).unwrap_or_default();
            subjects.entry(subject).or_default().push(line.clone());
        }
        scores.extend(subjects.iter().map(|(name, lines)| Score::of(&format!("acc {name}"), &flags(lines, "correct"))));
        scores
    }
}

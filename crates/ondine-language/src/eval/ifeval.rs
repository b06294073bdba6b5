//! IFEval (Zhou et al. 2023): prompts with instructions that a program can check.

mod instruction;
mod tongue;
mod words;

use std::path::Path;

use ondine_graph::{Context, Error, ErrorKind, Result, fail};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Asked, Benchmark, Line, Score, read};

pub use instruction::Instruction;

/// The prompts, with what is asked of answers.
#[derive(Debug)]
pub struct IfEval {
    prompts: Vec<Prompt>,
}

#[derive(Debug)]
struct Prompt {
    key: u64,
    text: String,
    instructions: Vec<Instruction>,
}

/// A line of the file.
#[derive(Deserialize)]
struct Record {
    key: u64,
    prompt: String,
    instruction_id_list: Vec<String>,
    kwargs: Vec<Map<String, Value>>,
}

/// The files that may hold the prompts.
const FILES: [&str; 2] = ["ifeval_input_data.jsonl", "input_data.jsonl"];

/// Tokens of an answer at most, as the harness has it.
const MOST: usize = 1280;

impl IfEval {
    /// Reads `ifeval_input_data.jsonl` of a folder, or `input_data.jsonl` as it was published.
    ///
    /// # Errors
    /// If it is missing or broken, or holds an instruction that is not known here.
    pub fn read(folder: &Path, limit: Option<usize>) -> Result<Self> {
        let Some(file) = FILES.into_iter().find(|file| folder.join(file).is_file()) else {
            fail!(Missing, "{}: neither {} is there", folder.display(), FILES.join(" nor "));
        };
        let mut prompts = Vec::new();
        for (number, line) in read(folder, file)?.lines().enumerate().take(limit.unwrap_or(usize::MAX)) {
            prompts.push(Prompt::read(line).at(|| format!("{file}: line {}", number + 1))?);
        }
        Ok(Self { prompts })
    }

    fn get(&self, index: usize) -> Result<&Prompt> {
        let prompt = self.prompts.get(index);
        prompt.ok_or_else(|| Error::new(ErrorKind::Argument, format!("there is no prompt {index}")))
    }
}

impl Prompt {
    fn read(line: &str) -> Result<Self> {
        let Record { key, prompt, instruction_id_list, kwargs } =
            serde_json::from_str(line).map_err(|error| Error::new(ErrorKind::Format, error.to_string()))?;
        if instruction_id_list.len() != kwargs.len() {
            fail!(Format, "{} instructions and {} settings", instruction_id_list.len(), kwargs.len());
        }
        let instructions = instruction_id_list.iter().zip(&kwargs).map(|(id, settings)| Instruction::new(id, settings));
        Ok(Self { key, text: prompt, instructions: instructions.collect::<Result<_>>()? })
    }
}

/// Which instructions an answer follows as it is.
fn strict(instructions: &[Instruction], answer: &str) -> Vec<bool> {
    let is_something = !answer.trim().is_empty();
    instructions.iter().map(|instruction| is_something && instruction.is_followed(answer)).collect()
}

/// Which instructions an answer follows, with or without its first line, its last line and its asterisks.
fn loose(instructions: &[Instruction], answer: &str) -> Vec<bool> {
    let lines: Vec<&str> = answer.split('\n').collect();
    let part = |from: usize, to: usize| lines.get(from..to).unwrap_or_default().join("\n").trim().to_owned();
    let (count, last) = (lines.len(), lines.len() - 1);
    let mut answers = vec![answer.to_owned(), part(1, count), part(0, last), part(1, last)];
    answers.extend(answers.clone().iter().map(|answer| answer.replace('*', "")));
    answers.retain(|answer| !answer.trim().is_empty());
    let followed = |instruction: &Instruction| answers.iter().any(|answer| instruction.is_followed(answer));
    instructions.iter().map(followed).collect()
}

impl Benchmark for IfEval {
    fn name(&self) -> &str {
        "ifeval"
    }

    fn len(&self) -> usize {
        self.prompts.len()
    }

    fn id(&self, index: usize) -> String {
        self.get(index).map_or_else(|_| index.to_string(), |prompt| prompt.key.to_string())
    }

    fn prompt(&self, index: usize) -> Result<String> {
        Ok(self.get(index)?.text.clone())
    }

    fn ask(&self, index: usize, asked: &mut Asked<'_>) -> Result<Line> {
        let prompt = self.get(index)?;
        let answer = asked.answer(&prompt.text, MOST, &[])?.text;
        let mut line = Line::new();
        line.insert("id".into(), self.id(index).into());
        line.insert("strict".into(), strict(&prompt.instructions, &answer).into());
        line.insert("loose".into(), loose(&prompt.instructions, &answer).into());
        line.insert("instructions".into(), prompt.instructions.iter().map(Instruction::id).collect());
        line.insert("answer".into(), json!(answer));
        Ok(line)
    }

    fn scores(&self, lines: &[Line]) -> Vec<Score> {
        let of = |field: &str| -> Vec<Vec<bool>> {
            let flags = |line: &Line| line.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
            lines.iter().map(|line| flags(line).iter().map(|flag| *flag == Value::Bool(true)).collect()).collect()
        };
        let mut scores = Vec::new();
        for field in ["strict", "loose"] {
            let followed = of(field);
            let all: Vec<bool> = followed.iter().map(|flags| flags.iter().all(|flag| *flag)).collect();
            scores.push(Score::of(&format!("prompt_level_{field}_acc"), &all));
            scores.push(Score::of(&format!("inst_level_{field}_acc"), &followed.concat()));
        }
        scores
    }
}

#[cfg(test)]
mod tests;

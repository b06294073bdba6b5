//! The file with what came of each question: a line of JSON each, behind one that says what was asked.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;
use ondine_language::eval::Line;
use serde_json::Value;

/// What has come so far, and where it is kept.
pub(super) struct Results {
    file: Option<(File, PathBuf)>,
    /// What came of questions, in the order in which they were asked.
    pub(super) lines: Vec<Line>,
}

impl Results {
    /// Results that are not kept.
    pub(super) fn unkept() -> Self {
        Self { file: None, lines: Vec::new() }
    }

    /// Opens a file, with what is in it: `about` must be what was asked then. A line that was not written to its end is
    /// none.
    pub(super) fn open(path: &Path, about: &Value) -> anyhow::Result<Self> {
        Self::read(path, about).with_context(|| path.display().to_string())
    }

    fn read(path: &Path, about: &Value) -> anyhow::Result<Self> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        file.set_len(whole as u64)?;
        file.seek(SeekFrom::End(0))?;
        let mut written = text[..whole].lines();
        let mut results = Self { file: Some((file, path.to_path_buf())), lines: Vec::new() };
        let Some(first) = written.next() else {
            results.write(about)?;
            return Ok(results);
        };
        let before: Value =
            serde_json::from_str(first).context("its first line is no JSON: it is no file of results")?;
        if &before != about {
            anyhow::bail!("it holds results of another question: {before}, now it is {about}; name another file");
        }
        for (number, line) in written.enumerate() {
            results.lines.push(serde_json::from_str(line).with_context(|| format!("line {}", number + 2))?);
        }
        Ok(results)
    }

    /// True if a question has been asked.
    pub(super) fn has(&self, id: &str) -> bool {
        self.lines.iter().any(|line| line.get("id").and_then(Value::as_str) == Some(id))
    }

    /// Adds what came of a question, and keeps it before anything else is asked.
    pub(super) fn add(&mut self, line: Line) -> anyhow::Result<()> {
        self.write(&Value::Object(line.clone()))?;
        self.lines.push(line);
        Ok(())
    }

    fn write(&mut self, line: &Value) -> anyhow::Result<()> {
        let Some((file, path)) = &mut self.file else { return Ok(()) };
        // One write: what is cut off in the middle is seen to be.
        file.write_all(format!("{line}\n").as_bytes())
            .and_then(|()| file.sync_data())
            .with_context(|| path.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_cut_off_is_asked_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.jsonl");
        let about = json!({"benchmark": "b"});
        let line = |id: &str| json!({"id": id}).as_object().unwrap().clone();
        let mut results = Results::open(&path, &about).unwrap();
        results.add(line("a")).unwrap();
        results.add(line("b")).unwrap();
        drop(results);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 3]).unwrap();
        let mut results = Results::open(&path, &about).unwrap();
        assert!(results.has("a") && !results.has("b"));
        results.add(line("b")).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), whole);
        let told = Results::open(&path, &json!({"benchmark": "c"})).err().unwrap();
        assert!(format!("{told:#}").contains("name another file"));
        std::fs::write(&path, "no\n").unwrap();
        assert!(Results::open(&path, &about).is_err());
    }
}

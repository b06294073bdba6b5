//! `ondine profile`: where the time of a call goes, by operator, node, module and Python line.

mod html;
mod measure;
mod options;
mod table;
mod trace;

use std::path::Path;

use ondine_runtime::file::write_whole;

use crate::output;

pub(super) use options::Profile;

impl Profile {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let measured = self.measure()?;
        let facts = measured.to_json();
        if let Some(path) = &self.trace {
            write(path, &trace::events(&measured).to_string())?;
        }
        if let Some(path) = &self.html {
            write(path, &html::page(&facts))?;
        }
        if self.json {
            output::json(&facts);
        } else {
            let rows = if self.rows == 0 { usize::MAX } else { self.rows };
            table::lines(&measured, rows).iter().for_each(output::line);
        }
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let write = |file: &mut std::io::BufWriter<std::fs::File>| Ok(std::io::Write::write_all(file, text.as_bytes())?);
    Ok(write_whole(path, write)?)
}

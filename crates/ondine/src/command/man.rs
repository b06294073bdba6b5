//! `ondine man`: the manual pages of all commands.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Command};
use clap_mangen::Man;

use crate::output;

/// Write the manual pages.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ondine man | man -l -
  ondine man ~/.local/share/man/man1")]
pub(super) struct Manual {
    /// Folder to write `ondine.1`, `ondine-draw.1`... into [default: print `ondine.1`]
    folder: Option<PathBuf>,
}

impl Manual {
    pub(super) fn run(self, program: Command) -> anyhow::Result<()> {
        let Some(folder) = self.folder else {
            let mut page = Vec::new();
            Man::new(program).render(&mut page)?;
            output::bytes(&page);
            return Ok(());
        };
        let place = || folder.display().to_string();
        std::fs::create_dir_all(&folder).with_context(place)?;
        clap_mangen::generate_to(program, &folder).with_context(place)
    }
}

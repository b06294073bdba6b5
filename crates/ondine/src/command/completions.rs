//! `ondine completions`: what a shell needs to complete command lines.

use clap::{Args, Command};
use clap_complete::{Shell, generate};

use crate::output;

/// Print the completions of a shell.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ondine completions bash > ~/.local/share/bash-completion/completions/ondine
  ondine completions fish > ~/.config/fish/completions/ondine.fish
  ondine completions zsh > ~/.zfunc/_ondine                       # a folder in $fpath")]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self, mut program: Command) {
        let mut script = Vec::new();
        generate(self.shell, &mut program, "ondine", &mut script);
        output::bytes(&script);
    }
}

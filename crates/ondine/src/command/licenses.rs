//! `ondine licenses`: under which terms the program and all that it is made of may be used.

use clap::Args;

use crate::output;

/// Print the licences of the program, of the built-in models and of all packages inside.
#[derive(Args)]
pub(super) struct Licenses {}

/// The licences of this repository's own code.
const OWN: [&str; 2] = [include_str!("../../../../LICENSE-MIT"), include_str!("../../../../LICENSE-APACHE")];
/// The card of the built-in model, which ends with the licences of what it was made of.
const CARD: &str = include_str!("../../assets/genmoji/README.md");
/// The card of the built-in upscaler, which ends with its licence.
const UPSCALER: &str = include_str!("../../assets/realesrgan/README.md");
/// The notices of all packages, as `cargo xtask licenses` gathers them.
const PACKAGES: &str = include_str!("../../assets/licenses.txt");

impl Licenses {
    #[expect(clippy::unused_self, reason = "the same call as for all commands")]
    pub(super) fn run(self) {
        output::bytes(text().as_bytes());
    }
}

fn text() -> String {
    let [model, upscaler] =
        [CARD, UPSCALER].map(|card| card.split("\n## Licences\n").nth(1).unwrap_or_default().trim());
    let [mit, apache] = OWN.map(str::trim);
    let rule = "=".repeat(80);
    let parts = [
        "Ondine is licensed under Apache-2.0 or MIT, at your option; both texts follow.".to_owned(),
        mit.to_owned(),
        apache.to_owned(),
        format!("The built-in model:\n\n{model}"),
        format!("The built-in upscaler:\n\n{upscaler}"),
        PACKAGES.trim().to_owned(),
    ];
    parts.join(&format!("\n\n{rule}\n\n")) + "\n"
}

#[cfg(test)]
mod tests {
    #[test]
    fn code_model_and_packages_are_there() {
        let text = super::text();
        for part in [
            "Permission is hereby granted",
            "Apache License",
            "Fluent Emoji",
            "Xintao Wang",
            "\ntokenizers ",
            "\nclap ",
        ] {
            assert!(text.contains(part), "{part}");
        }
    }
}

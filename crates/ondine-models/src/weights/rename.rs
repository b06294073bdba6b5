//! Names that old or new versions of a checkpoint use.

use ondine_graph::{Result, Weights};

/// A part of tensor names that some versions of a checkpoint write otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Rename {
    /// What the file says; `^` at the beginning stands for the beginning of the name.
    pub from: &'static str,
    /// What it stands for.
    pub to: &'static str,
}

impl Rename {
    fn apply(&self, name: &str) -> Option<String> {
        match self.from.strip_prefix('^') {
            Some(prefix) => name.strip_prefix(prefix).map(|rest| format!("{}{rest}", self.to)),
            None => name.contains(self.from).then(|| name.replacen(self.from, self.to, 1)),
        }
    }
}

/// Gives every tensor the name that the network uses.
///
/// # Errors
/// If two tensors would have one name.
pub fn rename(weights: &mut Weights, renames: &[Rename]) -> Result<()> {
    weights.rename(|name| {
        let renamed = renames
            .iter()
            .fold(None::<String>, |renamed, rename| rename.apply(renamed.as_deref().unwrap_or(name)).or(renamed));
        renamed.filter(|renamed| renamed != name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renames_are_anchored_only_where_they_say_so() {
        let strip = Rename { from: "^bert.", to: "" };
        assert_eq!(strip.apply("bert.encoder.bert.x"), Some("encoder.bert.x".to_owned()));
        assert_eq!(strip.apply("x.bert.y"), None);
        let inner = Rename { from: ".query.", to: ".to_q." };
        assert_eq!(inner.apply("mid.query.weight"), Some("mid.to_q.weight".to_owned()));
    }
}

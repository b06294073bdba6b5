//! What a graph asks of the sizes of a call, beyond that they fit its inputs.

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    dim::{Bindings, Comparison, Condition, Dim, Real},
    error::{Result, fail},
};

/// What must hold of the sizes of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guard {
    /// The condition.
    pub condition: Condition,
    /// The condition in the words of whoever asked for it, for messages.
    pub text: Arc<str>,
}

impl Guard {
    /// Two sizes that must be equal, or `what` makes no sense.
    #[must_use]
    pub fn equal(what: &str, a: &Dim, b: &Dim) -> Self {
        let condition = Condition::compare(Comparison::Equal, &Real::Of(a.clone()), &Real::Of(b.clone()));
        Self { condition, text: format!("{a} == {b} ({what})").into() }
    }

    /// Makes sure that the condition holds; what speaks of sizes that are not known yet is not asked.
    ///
    /// # Errors
    /// If it does not hold, or has no value.
    pub fn check(&self, bindings: &Bindings) -> Result<()> {
        let mut symbols = BTreeSet::new();
        self.condition.symbols(&mut symbols);
        if symbols.iter().any(|symbol| !bindings.contains_key(symbol)) {
            return Ok(());
        }
        if self.condition.evaluate(bindings)? == Some(true) {
            return Ok(());
        }
        let sizes = symbols.iter().map(|symbol| format!("{symbol} is {}", bindings[symbol])).collect::<Vec<_>>();
        fail!(Shape, "the model was made for sizes with {}; here {}", self.text, sizes.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_tells_itself_and_the_sizes() {
        let guard = Guard::equal("add", &Dim::symbol("n"), &(&Dim::symbol("m") + 1));
        let with = |n: usize, m: usize| guard.check(&Bindings::from([("n".into(), n), ("m".into(), m)]));
        assert!(with(3, 2).is_ok());
        let error = with(3, 3).unwrap_err().to_string();
        assert!(error.contains("n == m+1 (add)") && error.contains("m is 3, n is 3"), "{error}");
        assert!(guard.check(&Bindings::from([("n".into(), 3)])).is_ok());
    }
}

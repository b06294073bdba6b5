//! How a text is carried through the functions of a model: the only place that calls them.

use ondine_graph::{NDArray, Result, fail};
use ondine_runtime::{Function, Model, State, Wish};

/// The tokens of one call: a longer text goes through in pieces, so that the workspace does not grow with it.
pub(crate) const PIECE: usize = 512;

/// The functions of a model, and what one text leaves in its states.
#[derive(Debug)]
pub(crate) struct Network {
    next: Function,
    extend: Function,
    logits: Function,
    state: State,
}

impl Network {
    pub(crate) fn new(model: &Model) -> Result<Self> {
        let [next, extend, logits] = ["next", "extend", "logits"].map(|name| model.function(name));
        Ok(Self { next: next?, extend: extend?, logits: logits?, state: State::default() })
    }

    /// Adds `ids` to the `past` tokens that the states hold, and yields the logits of what comes next. `done` hears how
    /// many tokens the states hold after each piece.
    pub(crate) fn extend(
        &mut self,
        ids: &[u32],
        mut past: usize,
        wish: &Wish,
        done: &mut dyn FnMut(usize),
    ) -> Result<Vec<f32>> {
        let mut pieces = ids.chunks(PIECE);
        let Some(last) = pieces.next_back() else { fail!(Internal, "there is no token to go on from") };
        for piece in pieces {
            call(&self.extend, "past", piece, past, &mut self.state, wish)?;
            past += piece.len();
            done(past);
        }
        let logits = call(&self.next, "logits", last, past, &mut self.state, wish)?;
        done(past + last.len());
        Ok(logits.to_f32())
    }

    /// Adds `ids` to the `past` tokens that the states hold, and yields the logits after each: `[ids, vocabulary]`.
    pub(crate) fn logits(&mut self, ids: &[u32], past: usize, wish: &Wish) -> Result<NDArray> {
        call(&self.logits, "logits", ids, past, &mut self.state, wish)
    }
}

fn call(
    function: &Function,
    output: &str,
    ids: &[u32],
    past: usize,
    state: &mut State,
    wish: &Wish,
) -> Result<NDArray> {
    let ids: Vec<i64> = ids.iter().map(|&id| id.into()).collect();
    let (ids, past) = (NDArray::new(&[ids.len()], &ids)?, NDArray::scalar(past as i64));
    function.run_until(&[("input_ids", &ids), ("past", &past)], state, wish)?.take(output)
}

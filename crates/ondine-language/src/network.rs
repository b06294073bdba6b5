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
    together: Option<Together>,
    state: State,
}

/// What goes on with several texts in one call.
#[derive(Debug)]
struct Together {
    batch: Function,
    seat: Function,
}

impl Network {
    pub(crate) fn new(model: &Model) -> Result<Self> {
        let [next, extend, logits] = ["next", "extend", "logits"].map(|name| model.function(name));
        let together = match [model.function("batch"), model.function("seat")] {
            [Ok(batch), Ok(seat)] => Some(Together { batch, seat }),
            _ => None,
        };
        Ok(Self { next: next?, extend: extend?, logits: logits?, together, state: State::default() })
    }

    /// True if several texts can be gone on with in one call.
    pub(crate) fn batches(&self) -> bool {
        self.together.is_some()
    }

    /// Makes the first `count` tokens of the states those of text `text`.
    pub(crate) fn seat(&mut self, text: usize, count: usize, wish: &Wish) -> Result<()> {
        let Some(Together { seat, .. }) = &self.together else { fail!(Internal, "texts are gone on with one by one") };
        let [text, count] = [text, count].map(|number| NDArray::scalar(number as i64));
        seat.run_until(&[("text", &text), ("count", &count)], &mut self.state, wish).map(|_| ())
    }

    /// Adds one token to each of the first texts, which have `past` tokens, and yields the logits of what comes next:
    /// `[texts, vocabulary]`.
    pub(crate) fn batch(&mut self, ids: &[u32], past: &[usize], wish: &Wish) -> Result<NDArray> {
        let Some(Together { batch, .. }) = &self.together else { fail!(Internal, "texts are gone on with one by one") };
        let ids: Vec<i64> = ids.iter().map(|&id| id.into()).collect();
        let past: Vec<i64> = past.iter().map(|&past| past as i64).collect();
        let (ids, past) = (NDArray::new(&[ids.len()], &ids)?, NDArray::new(&[past.len()], &past)?);
        batch.run_until(&[("input_ids", &ids), ("past", &past)], &mut self.state, wish)?.take("logits")
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

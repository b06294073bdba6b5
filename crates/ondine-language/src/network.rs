//! How a text is carried through the functions of a model: the only place that calls them.

use ondine_graph::{NDArray, Result, fail};
use ondine_models::Rings;
use ondine_runtime::{Function, Model, State, Wish};

/// The tokens of one call if nobody says: a longer text goes through in pieces, so that memory does not grow with it.
pub(crate) const PIECE: usize = 512;

/// The functions of a model, and what one text leaves in its states.
#[derive(Debug)]
pub(crate) struct Network {
    next: Function,
    extend: Function,
    logits: Function,
    together: Option<Together>,
    state: State,
    /// The most tokens of a call.
    call: usize,
    rings: Rings,
    /// The tokens that have been written since the first one was.
    written: usize,
}

/// What goes on with several texts in one call.
#[derive(Debug)]
struct Together {
    batch: Function,
    seat: Function,
}

impl Network {
    /// The functions of `network`, in calls of at most `call` tokens, over states with these rings.
    pub(crate) fn new(network: &Model, call: usize, rings: &Rings) -> Result<Self> {
        let [next, extend, logits] = ["next", "extend", "logits"].map(|name| network.function(name));
        let together = match [network.function("batch"), network.function("seat")] {
            [Ok(batch), Ok(seat)] => Some(Together { batch, seat }),
            _ => None,
        };
        let (state, rings) = (State::default(), rings.clone());
        Ok(Self { next: next?, extend: extend?, logits: logits?, together, state, call, rings, written: 0 })
    }

    /// True if several texts can be gone on with in one call.
    pub(crate) fn batches(&self) -> bool {
        self.together.is_some()
    }

    /// True if the states can be gone on with after `past` of the tokens that they held.
    pub(crate) fn holds(&self, past: usize) -> bool {
        self.rings.hold(past, self.written)
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
        let mut pieces = ids.chunks(self.call);
        let Some(last) = pieces.next_back() else { fail!(Internal, "there is no token to go on from") };
        for piece in pieces {
            note(&self.rings, &mut self.written, past, piece.len())?;
            call(&self.extend, "past", piece, past, &mut self.state, wish)?;
            past += piece.len();
            done(past);
        }
        note(&self.rings, &mut self.written, past, last.len())?;
        let logits = call(&self.next, "logits", last, past, &mut self.state, wish)?;
        done(past + last.len());
        Ok(logits.to_f32())
    }

    /// Adds `ids` to the `past` tokens that the states hold, and yields the logits after each: `[ids, vocabulary]`.
    pub(crate) fn logits(&mut self, ids: &[u32], past: usize, wish: &Wish) -> Result<NDArray> {
        let mut pieces = ids.chunks(self.call).zip((past..).step_by(self.call)).map(|(piece, past)| {
            note(&self.rings, &mut self.written, past, piece.len())?;
            call(&self.logits, "logits", piece, past, &mut self.state, wish)
        });
        let Some(first) = pieces.next().transpose()? else { fail!(Internal, "there is no token to go on from") };
        if ids.len() <= self.call {
            return Ok(first);
        }
        let width = first.shape().last().copied().unwrap_or_default();
        let mut all = first.to_f32();
        for piece in pieces {
            all.extend(piece?.to_f32());
        }
        NDArray::new(&[ids.len(), width], &all)
    }
}

/// Notes that `count` tokens are written behind `past`; a call that fails may have written some of them.
fn note(rings: &Rings, written: &mut usize, past: usize, count: usize) -> Result<()> {
    if !rings.hold(past, *written) {
        fail!(Internal, "of {written} tokens those before number {past} are not held any more");
    }
    *written = if past == 0 { count } else { (*written).max(past + count) };
    Ok(())
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

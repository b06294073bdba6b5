//! How a text is carried through the functions of a model: the only place that calls them.

use ondine_graph::{Graph, NDArray, Result, fail};
use ondine_models::Rings;
use ondine_runtime::{Function, Model, State, Wish};

/// The tokens of one call if nobody says: a longer text goes through in pieces, so that memory does not grow with it.
pub(crate) const PIECE: usize = 512;

/// The fewest tokens that logits are asked for alone.
const FEWEST: usize = 16;

/// The functions of a model, and what one text leaves in its states.
#[derive(Debug)]
pub(crate) struct Network {
    next: Function,
    chosen: Function,
    extend: Function,
    logits: Function,
    together: Option<Together>,
    state: State,
    /// The most tokens of a call.
    call: usize,
    rings: Rings,
    /// The tokens that have been written since the first one was.
    written: usize,
    /// Logits that the head has.
    width: usize,
}

/// What goes on with several texts in one call.
#[derive(Debug)]
struct Together {
    batch: Function,
    chosen: Function,
    seat: Function,
}

impl Network {
    /// The functions of `network`, in calls of at most `call` tokens, over states with these rings.
    pub(crate) fn new(network: &Model, call: usize, rings: &Rings) -> Result<Self> {
        let [next, chosen, extend, logits] = ["next", "chosen", "extend", "logits"].map(|name| network.function(name));
        let together = match ["batch", "batch_chosen", "seat"].map(|name| network.function(name)) {
            [Ok(batch), Ok(chosen), Ok(seat)] => Some(Together { batch, chosen, seat }),
            _ => None,
        };
        let (state, rings) = (State::default(), rings.clone());
        let (next, chosen, extend, logits) = (next?, chosen?, extend?, logits?);
        let width = width(next.graph());
        Ok(Self { next, chosen, extend, logits, together, state, call, rings, written: 0, width })
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
    /// `[texts, vocabulary]`. If nothing but the tokens `chosen` can come next in any of them, the others have negative
    /// infinity.
    pub(crate) fn batch(
        &mut self,
        ids: &[u32],
        past: &[usize],
        chosen: Option<&[u32]>,
        wish: &Wish,
    ) -> Result<Vec<f32>> {
        let Some(together) = &self.together else { fail!(Internal, "texts are gone on with one by one") };
        let ids: Vec<i64> = ids.iter().map(|&id| id.into()).collect();
        let past: Vec<i64> = past.iter().map(|&past| past as i64).collect();
        let (ids, past) = (NDArray::new(&[ids.len()], &ids)?, NDArray::new(&[past.len()], &past)?);
        let inputs = [("input_ids", &ids), ("past", &past)];
        match chosen.and_then(|chosen| Chosen::of(chosen, self.width)) {
            None => Ok(together.batch.run_until(&inputs, &mut self.state, wish)?.take("logits")?.to_f32()),
            Some(chosen) => chosen.logits(&together.chosen, &inputs, &mut self.state, wish),
        }
    }

    /// Adds `ids` to the `past` tokens that the states hold, and yields the logits of what comes next. `done` hears how
    /// many tokens the states hold after each piece. If nothing but the tokens `chosen` can come next, the others have
    /// negative infinity; if it is a single one, no logit is computed, and it has 0.
    pub(crate) fn extend(
        &mut self,
        ids: &[u32],
        mut past: usize,
        chosen: Option<&[u32]>,
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
        let logits = match chosen.and_then(|chosen| Chosen::of(chosen, self.width)) {
            None => call(&self.next, "logits", last, past, &mut self.state, wish)?.to_f32(),
            Some(Chosen { ids: [only], width }) => {
                call(&self.extend, "past", last, past, &mut self.state, wish)?;
                let mut logits = vec![f32::NEG_INFINITY; width];
                logits[*only as usize] = 0.0;
                logits
            }
            Some(chosen) => {
                let (ids, past) = text(last, past)?;
                chosen.logits(&self.chosen, &[("input_ids", &ids), ("past", &past)], &mut self.state, wish)?
            }
        };
        done(past + last.len());
        Ok(logits)
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

/// Tokens that alone can come next, in rising order, of so many that have logits.
struct Chosen<'a> {
    ids: &'a [u32],
    width: usize,
}

impl<'a> Chosen<'a> {
    /// None if none of the tokens has a logit: a vocabulary may have more tokens than the head has rows.
    fn of(ids: &'a [u32], width: usize) -> Option<Self> {
        let ids = &ids[..ids.partition_point(|&id| (id as usize) < width)];
        (!ids.is_empty()).then_some(Self { ids, width })
    }

    /// The logits that a function yields for them, at their places among all; a row for each text.
    fn logits(
        &self,
        function: &Function,
        inputs: &[(&str, &NDArray)],
        state: &mut State,
        wish: &Wish,
    ) -> Result<Vec<f32>> {
        // A plan is kept for each size, so there are few sizes: the last one is asked for again and again.
        let count = self.ids.len().next_power_of_two().max(FEWEST).min(self.width);
        let mut names: Vec<i64> = self.ids.iter().map(|&id| id.into()).collect();
        names.resize(count, names.last().copied().unwrap_or_default());
        let names = NDArray::new(&[count], &names)?;
        let found =
            function.run_until(&[inputs, &[("chosen", &names)]].concat(), state, wish)?.take("logits")?.to_f32();
        let mut logits = vec![f32::NEG_INFINITY; found.len() / count * self.width];
        for (found, logits) in found.chunks_exact(count).zip(logits.chunks_exact_mut(self.width)) {
            self.ids.iter().zip(found).for_each(|(&id, &logit)| logits[id as usize] = logit);
        }
        Ok(logits)
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
    let (ids, past) = text(ids, past)?;
    function.run_until(&[("input_ids", &ids), ("past", &past)], state, wish)?.take(output)
}

/// How many logits the function `next` yields.
pub(crate) fn width(next: &Graph) -> usize {
    let logits = next.outputs().first().and_then(|&(_, logits)| next.shape(logits).elements().fixed());
    logits.unwrap_or_default()
}

/// What goes into a function of one text.
fn text(ids: &[u32], past: usize) -> Result<(NDArray, NDArray)> {
    let ids: Vec<i64> = ids.iter().map(|&id| id.into()).collect();
    Ok((NDArray::new(&[ids.len()], &ids)?, NDArray::scalar(past as i64)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ondine_models::KvCache;
    use ondine_runtime::{Cancel, Device, Precision};

    use super::*;
    use crate::model::{Model, Settings, tests::with_one_word};

    /// Logits as bits.
    fn bits(logits: &[f32]) -> Vec<u32> {
        logits.iter().map(|logit| logit.to_bits()).collect()
    }

    /// Those of `chosen` tokens, and negative infinity at all others.
    fn only(all: &[f32], width: usize, chosen: &[u32]) -> Vec<u32> {
        let of_row = |row: &[f32]| {
            let mut kept = vec![f32::NEG_INFINITY; width];
            chosen.iter().for_each(|&id| kept[id as usize] = row[id as usize]);
            bits(&kept)
        };
        all.chunks_exact(width).flat_map(of_row).collect()
    }

    /// Whatever a model does to its logits, those of chosen tokens are what they are among all, to the bit.
    #[test]
    fn chosen_logits_are_those_among_all() {
        let names = ["llama", "gemma2", "gemma3", "granite", "mixtral", "phi3", "afm"];
        let precisions = [Precision::F32, Precision::BF16, Precision::Int8, Precision::A8];
        for (name, precision) in names.into_iter().flat_map(|name| precisions.map(|precision| (name, precision))) {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ondine-models/tests/data/language").join(name);
            let settings = Settings { context: Some(32), precision, texts: 2, kv: KvCache::AsComputed, call: Some(4) };
            let folder = with_one_word(&path);
            let model = Model::open(folder.path(), settings, &Device::cpu(None).unwrap(), None).unwrap();
            let wish = Cancel::default().listen();
            let network = || Network::new(model.network(), model.call(), model.rings()).unwrap();
            let read =
                |chosen: Option<&[u32]>| network().extend(&[3, 1, 4, 1, 5, 9], 0, chosen, &wish, &mut |_| {}).unwrap();
            let all = read(None);
            let width = all.len();
            let last = width as u32 - 1;
            let every: Vec<u32> = (0..=last).collect();
            for chosen in [&[0, 7, last][..], &[last - 1, last], &every, &[2, last, last + 1]] {
                let within = &chosen[..chosen.partition_point(|&id| id <= last)];
                assert_eq!(bits(&read(Some(chosen))), only(&all, width, within), "{name} {precision}: {chosen:?}");
            }
            assert_eq!(bits(&read(Some(&[last + 1]))), bits(&all), "{name} {precision}");
            // A single one needs no logit, but leaves the states as they are after others.
            let mut one = network();
            let single = one.extend(&[3, 1, 4, 1, 5, 9], 0, Some(&[7]), &wish, &mut |_| {}).unwrap();
            assert!((0..width).all(|id| (single[id] > f32::NEG_INFINITY) == (id == 7)), "{name} {precision}");
            let mut other = network();
            other.extend(&[3, 1, 4, 1, 5, 9], 0, None, &wish, &mut |_| {}).unwrap();
            let next = |network: &mut Network| network.extend(&[7], 6, None, &wish, &mut |_| {}).unwrap();
            assert_eq!(bits(&next(&mut one)), bits(&next(&mut other)), "{name} {precision}");
            if !one.batches() {
                continue;
            }
            [0, 1].iter().for_each(|&text| one.seat(text, 7, &wish).unwrap());
            let mut batch = |chosen: Option<&[u32]>| one.batch(&[8, 9], &[7, 7], chosen, &wish).unwrap();
            let all = batch(None);
            for chosen in [&[0, 7, last][..], &[5]] {
                assert_eq!(bits(&batch(Some(chosen))), only(&all, width, chosen), "{name} {precision}: {chosen:?}");
            }
        }
    }
}

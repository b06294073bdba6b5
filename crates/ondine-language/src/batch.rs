//! Several texts at once: a token of each in every call, so that the weights are read once for all of them.
//!
//! An answer is the same, to the bit, whatever else is answered beside it, and the same that a
//! [`Session`] gives that remembers nothing. Prompts are read one after the other. What a
//! prompt begins with as the one before did is not read again, in whole pieces of 512 tokens: a piece that is cut
//! elsewhere may be rounded in another way.

use std::{collections::VecDeque, time::Instant};

use ondine_graph::{Context, Result, fail};
use ondine_runtime::{Cancel, ErrorKind, Wish};

use crate::{
    model::Model,
    session::{Answer, Event, Options, Reason, Session, Taken, Writer, check_prompt},
};

/// Answers prompts side by side, as many at once as the model was opened for ([`Settings::texts`]).
///
/// Models whose scores are capped, or that have sinks, answer one prompt after the other.
///
/// [`Settings::texts`]: crate::model::Settings::texts
#[derive(Debug)]
pub struct Batch {
    /// Reads prompts.
    session: Session,
}

/// A text that is being gone on with.
struct Text<'a> {
    /// Which prompt it answers.
    index: usize,
    writer: Writer<'a>,
    /// Tokens that the states hold of it.
    past: usize,
    /// Tokens that are certain and have not been read.
    unread: VecDeque<u32>,
    begun: Instant,
    taken: Taken,
}

impl Text<'_> {
    /// Adds the token of `logits`, and all that must follow it; a reason, if the answer is over.
    fn choose(
        &mut self,
        logits: &mut Vec<f32>,
        context: usize,
        on: &mut dyn FnMut(Event<'_>),
    ) -> Result<Option<Reason>> {
        let mut next = Some(self.writer.choose(logits)?);
        while let Some(id) = next {
            let before = self.past + self.unread.len();
            let reason = self.writer.push(id, on)?;
            if let Some(reason) = reason.or((before + 1 >= context).then_some(Reason::ContextFull)) {
                return Ok(Some(reason));
            }
            self.unread.push_back(id);
            next = self.writer.forced()?;
        }
        Ok(None)
    }
}

impl Batch {
    /// For a model that was opened for several texts.
    ///
    /// # Errors
    /// If it was opened for one.
    pub fn new(model: &Model) -> Result<Self> {
        if model.texts() == 0 {
            fail!(Argument, "{}: opened for one text; say for how many in `Settings::texts`", model.name());
        }
        Ok(Self { session: Session::new(model)? })
    }

    /// The same, stopped by `cancel`: answers that are under way or have not begun end with [`Reason::Cancelled`].
    #[must_use]
    pub fn with_cancel(self, cancel: Cancel) -> Self {
        Self { session: self.session.with_cancel(cancel) }
    }

    /// Answers all prompts, in their order. `on` hears which prompt an event is about. No tokens are guessed
    /// ([`Options::draft_tokens`]): those of other texts are read in their place.
    ///
    /// # Errors
    /// If a prompt is empty or longer than the context, a setting means nothing, or the model fails.
    pub fn answer(
        &mut self,
        prompts: &[Vec<u32>],
        options: &Options,
        on: &mut dyn FnMut(usize, Event<'_>),
    ) -> Result<Vec<Answer>> {
        let model = self.session.model().clone();
        for (index, prompt) in prompts.iter().enumerate() {
            check_prompt(prompt, model.context()).at(|| format!("prompt {}", index + 1))?;
        }
        if !self.session.network.batches() {
            let all = prompts.iter().enumerate();
            return all
                .map(|(index, prompt)| self.session.answer(prompt, options, &mut |event| on(index, event)))
                .collect();
        }
        let wish = self.session.cancel.listen();
        let mut places: Vec<Option<Text<'_>>> = (0..model.texts()).map(|_| None).collect();
        let mut answers: Vec<Option<Answer>> = prompts.iter().map(|_| None).collect();
        let mut waiting = prompts.iter().enumerate();
        loop {
            for (place, text) in places.iter_mut().enumerate().filter(|(_, text)| text.is_none()) {
                // A prompt may be answered at once: the next one takes the same place.
                while text.is_none()
                    && let Some((index, prompt)) = waiting.next()
                {
                    let writer = Writer::new(&model, prompt, options)?;
                    match self.begin(place, (index, prompt), writer, &wish, &mut |event| on(index, event))? {
                        Begun::Text(begun) => *text = Some(*begun),
                        Begun::Answer(answer) => answers[index] = Some(answer),
                    }
                }
            }
            let Some(last) = places.iter().rposition(Option::is_some) else { break };
            self.step(&mut places[..=last], &mut answers, &wish, on)?;
        }
        let all: Option<Vec<Answer>> = answers.into_iter().collect();
        all.map_or_else(|| fail!(Internal, "a prompt was not answered"), Ok)
    }

    /// Reads a prompt and gives what comes of it a place.
    fn begin<'a>(
        &mut self,
        place: usize,
        (index, prompt): (usize, &[u32]),
        mut writer: Writer<'a>,
        wish: &Wish,
        on: &mut dyn FnMut(Event<'_>),
    ) -> Result<Begun<'a>> {
        let (begun, step) = (Instant::now(), self.session.model().call());
        let few = writer.few()?;
        let mut done = |count| on(Event::Read(count, prompt.len()));
        let (same, read) = self.session.read_prompt(prompt, step, few.as_deref(), wish, &mut done);
        let read = read.and_then(|logits| self.session.network.seat(place, prompt.len(), wish).map(|()| logits));
        let prompt_time = begun.elapsed();
        let taken =
            Taken { prompt_tokens: prompt.len(), cached_tokens: same, prompt_time, output_time: Default::default() };
        let mut text = Text { index, writer, past: prompt.len(), unread: VecDeque::new(), begun, taken };
        let reason = match read {
            Err(error) if error.kind() == ErrorKind::Cancelled => Some(Reason::Cancelled),
            Err(error) => return Err(error),
            Ok(mut logits) => text.choose(&mut logits, self.session.model().context(), on)?,
        };
        Ok(match reason {
            Some(reason) => Begun::Answer(end(text, reason, on)),
            None => Begun::Text(Box::new(text)),
        })
    }

    /// Adds a token to each text. What stands where nobody has a text is read, and means nothing.
    fn step(
        &mut self,
        places: &mut [Option<Text<'_>>],
        answers: &mut [Option<Answer>],
        wish: &Wish,
        on: &mut dyn FnMut(usize, Event<'_>),
    ) -> Result<()> {
        let next = |text: &Option<Text<'_>>| {
            text.as_ref().map_or((0, 0), |text| (text.unread.front().copied().unwrap_or_default(), text.past))
        };
        let (ids, past): (Vec<u32>, Vec<usize>) = places.iter().map(next).unzip();
        let few = few(places, self.session.model().vocabulary().len())?;
        let logits = match self.session.network.batch(&ids, &past, few.as_deref(), wish) {
            Ok(logits) => logits,
            Err(error) if error.kind() == ErrorKind::Cancelled => {
                for text in places.iter_mut().filter_map(Option::take) {
                    let index = text.index;
                    answers[index] = Some(end(text, Reason::Cancelled, &mut |event| on(index, event)));
                }
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let context = self.session.model().context();
        for (row, place) in logits.chunks_exact((logits.len() / places.len()).max(1)).zip(places) {
            let Some(text) = place else { continue };
            (text.past, _) = (text.past + 1, text.unread.pop_front());
            if !text.unread.is_empty() {
                continue;
            }
            let index = text.index;
            if let Some(reason) = text.choose(&mut row.to_vec(), context, &mut |event| on(index, event))?
                && let Some(text) = place.take()
            {
                answers[index] = Some(end(text, reason, &mut |event| on(index, event)));
            }
        }
        Ok(())
    }
}

/// The tokens that can come next in any of the texts, in rising order, if they are at most half of `all` tokens.
fn few(places: &mut [Option<Text<'_>>], all: usize) -> Result<Option<Vec<u32>>> {
    let mut ids = Vec::new();
    // Behind what is not the last that is certain, logits are not asked for.
    for text in places.iter_mut().flatten().filter(|text| text.unread.len() == 1) {
        let Some(few) = text.writer.few()? else { return Ok(None) };
        ids.extend(few);
    }
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() {
        ids.push(0);
    }
    Ok((ids.len() <= all / 2).then_some(ids))
}

/// What has come of a prompt.
enum Begun<'a> {
    Text(Box<Text<'a>>),
    Answer(Answer),
}

fn end(text: Text<'_>, reason: Reason, on: &mut dyn FnMut(Event<'_>)) -> Answer {
    let Text { writer, begun, mut taken, .. } = text;
    taken.output_time = begun.elapsed().saturating_sub(taken.prompt_time);
    writer.end(reason, taken, on)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ondine_models::KvCache;
    use ondine_runtime::{Device, Precision};

    use super::*;
    use crate::model::{Settings, tests::with_one_word};

    /// Whatever stands beside it, a text has the logits that it has alone, to the bit.
    #[test]
    fn logits_of_sixteen_texts_are_those_of_each_alone() {
        use KvCache::{AsComputed, Bf16, Int8};
        let kinds =
            ["llama", "gemma3", "mixtral", "qwen3", "mistral", "granite", "phi3"].map(|name| (name, AsComputed));
        let kept = [("llama", Bf16), ("gemma3", Int8), ("qwen3", Int8), ("phi3", Int8), ("afm", AsComputed)];
        for (name, kv) in kinds.into_iter().chain(kept) {
            let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ondine-models/tests/data/language").join(name);
            let folder = with_one_word(&data);
            for precision in [Precision::F32, Precision::BF16, Precision::Int8, Precision::A8] {
                let settings = Settings { context: Some(40), precision, texts: 16, kv, call: None };
                let model = Model::open(folder.path(), settings, &Device::cpu(None).unwrap(), None).unwrap();
                let mut session = Session::new(&model).unwrap();
                let wish = session.cancel.listen();
                let prompts: Vec<Vec<u32>> = (0..16_u32)
                    .map(|text| (0..1 + text * 3 % 31).map(|at| (text * 5 + at * 7) % 40).collect())
                    .collect();
                let mut alone = Vec::new();
                for (place, prompt) in prompts.iter().enumerate() {
                    session.read_prompt(prompt, 512, None, &wish, &mut |_| {}).1.unwrap();
                    session.network.seat(place, prompt.len(), &wish).unwrap();
                    alone.push(session.network.extend(&[7], prompt.len(), None, &wish, &mut |_| {}).unwrap());
                }
                let past: Vec<usize> = prompts.iter().map(Vec::len).collect();
                for texts in [16, 1, 9] {
                    let logits = session.network.batch(&vec![7; texts], &past[..texts], None, &wish).unwrap();
                    for (text, wanted) in alone[..texts].iter().enumerate() {
                        let found = &logits[text * wanted.len()..][..wanted.len()];
                        let same = found.iter().zip(wanted).all(|(a, b)| a.to_bits() == b.to_bits());
                        assert!(same, "{name} {precision} {kv:?}: text {text} of {texts}");
                    }
                }
            }
        }
    }
}

//! The texts of a drawing, and which of them guide each step.

use crate::{
    prompt::{compose::composed, emphasis::Emphasis, schedule},
    request::Request,
};

/// Texts by step: each with the number of the step before which it ends.
type Timeline = Vec<(usize, usize)>;

/// All texts of a drawing, and when each is used.
#[derive(Clone, Debug, Default)]
pub(super) struct Prompts {
    /// What is encoded; the negative prompt first, if guidance needs it.
    pub(super) texts: Vec<String>,
    negative: Option<Timeline>,
    /// The prompts that are composed, with their weights.
    positive: Vec<(f32, Timeline)>,
}

impl Prompts {
    /// The texts of a request of so many steps; marks are letters if `marks` says so.
    pub(super) fn new(request: &Request, steps: usize, guided: bool, marks: bool) -> Self {
        let mut prompts = Self::default();
        let emphasis = request.emphasis;
        let read = marks && emphasis != Emphasis::Off;
        if guided {
            let text = request.negative.as_deref().unwrap_or_default();
            prompts.negative = Some(prompts.timeline(text, steps, read));
        }
        let parts = if read { composed(&request.prompt) } else { Vec::new() };
        // Without guidance there is nothing that several could be composed by.
        let whole = parts.is_empty() || !guided && parts.len() > 1;
        let parts = if whole { vec![(request.prompt.clone(), 1.0)] } else { parts };
        for (text, weight) in parts {
            let timeline = prompts.timeline(&text, steps, read);
            prompts.positive.push((weight as f32, timeline));
        }
        prompts
    }

    fn timeline(&mut self, text: &str, steps: usize, read: bool) -> Timeline {
        let texts = if read { schedule::texts(text, steps) } else { vec![(steps, text.to_owned())] };
        texts
            .into_iter()
            .map(|(end, text)| {
                self.texts.push(text);
                (end, self.texts.len() - 1)
            })
            .collect()
    }

    /// Weights of the prompts that are composed.
    pub(super) fn weights(&self) -> Vec<f32> {
        self.positive.iter().map(|(weight, _)| *weight).collect()
    }

    /// True if the text of this index is the negative prompt's.
    pub(super) fn is_negative(&self, index: usize) -> bool {
        self.negative.iter().flatten().any(|(_, text)| *text == index)
    }

    /// The texts of a step, by index: the negative one if there is one, and those that are composed.
    pub(super) fn at(&self, step: usize) -> Vec<usize> {
        let now = |timeline: &Timeline| {
            let text = timeline.iter().find(|(end, _)| step < *end).or(timeline.last());
            text.map_or(0, |(_, text)| *text)
        };
        self.negative.iter().chain(self.positive.iter().map(|(_, timeline)| timeline)).map(now).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_its_texts() {
        let request = Request { negative: Some("n".into()), ..Request::new("[a:b:2] AND c :0.5") };
        let prompts = Prompts::new(&request, 4, true, true);
        assert_eq!(prompts.texts, ["n", "a", "b", "c"]);
        assert_eq!(
            (0..4).map(|step| prompts.at(step)).collect::<Vec<_>>(),
            [[0, 1, 3], [0, 1, 3], [0, 2, 3], [0, 2, 3]]
        );
        assert_eq!(prompts.weights(), [1.0, 0.5]);
        let plain = Prompts::new(&request, 4, false, false);
        assert_eq!((plain.texts.len(), plain.at(3)), (1, vec![0]));
        let alone = Request::new("a cat :1.5");
        assert_eq!(Prompts::new(&alone, 4, true, true).weights(), [1.5]);
        assert_eq!(Prompts::new(&alone, 4, false, true).texts, ["a cat"]);
    }
}

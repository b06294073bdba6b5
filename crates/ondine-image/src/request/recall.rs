//! A request made again as it was made elsewhere: of what a picture tells of itself, by the habits of a program.

use super::{Request, Speedup, preset::parse_timesteps, tool::Tool};
use crate::{
    infotext::{Infotext, ZERO_SNR},
    noise::Generator,
    sampler::{SamplerEntry, schedule_entries},
};

impl Request {
    /// Takes over the habits of a program: how marks in prompts are read, where noise comes from, and what a strength
    /// means.
    pub fn adopt(&mut self, tool: Tool) {
        self.like = Some(tool);
        self.emphasis = tool.emphasis();
        self.generator = tool.generator();
    }

    /// Takes over what an infotext says, but for options whose names `given` knows: prompts, steps, sampler, schedule,
    /// guidance, seed, size, noise, variation, clip skip, strength (of a picture to begin with, which the text does not
    /// hold: it counts beside one alone). Yields what of it cannot be taken over, for people.
    ///
    /// A text of A1111 that names no noise was made with that of a graphics card.
    pub fn recall(&mut self, text: &Infotext, given: &dyn Fn(&str) -> bool) -> Vec<String> {
        let mut left = Vec::new();
        let wanted = |name: &str| !given(name);
        if wanted("prompt") {
            self.prompt.clone_from(&text.prompt);
        }
        if wanted("negative") && !text.negative_prompt.is_empty() {
            self.negative = Some(text.negative_prompt.clone());
        }
        if wanted("steps") {
            self.steps = text.steps.map(|steps| steps as usize).or(self.steps);
        }
        if wanted("guidance") {
            self.recall_guidance(text, &mut left);
        }
        if wanted("seed") {
            self.seed = text.seed.unwrap_or(self.seed);
        }
        if let Some((width, height)) = text.size {
            self.width = if wanted("width") { Some(width as usize) } else { self.width };
            self.height = if wanted("height") { Some(height as usize) } else { self.height };
        }
        self.recall_sampler(text, given, &mut left);
        self.recall_noise(text, given);
        // With a second go in a larger size the strength is that of the second.
        let once = !text.extra.iter().any(|(key, _)| key.starts_with("Hires"));
        for (key, value) in &text.extra {
            match (key.as_str(), value.parse::<f64>().ok()) {
                ("Clip skip", Some(layer)) if wanted("clip-skip") => self.clip_skip = Some(layer as usize),
                ("Denoising strength", Some(strength)) if once && (0.0..=1.0).contains(&strength) => {
                    self.strength = if wanted("strength") { Some(strength) } else { self.strength };
                }
                ("Eta", Some(eta)) if wanted("eta") => self.eta = Some(eta),
                ("Timesteps", _) if wanted("timesteps") => self.timesteps = parse_timesteps(value).ok(),
                ("Guidance start", Some(share)) if wanted("guidance-start") => self.guidance_start = share,
                ("Guidance end", Some(share)) if wanted("guidance-end") => self.guidance_end = share,
                ("Guidance rescale", Some(share)) if wanted("guidance-rescale") => self.guidance_rescale = share as f32,
                ("Prediction", _) if wanted("prediction") => self.prediction = value.parse().ok(),
                ("Noise Schedule", _) if wanted("zero-snr") => self.zero_snr = Some(value == ZERO_SNR),
                ("Like", _) if wanted("like") => self.like = value.parse().ok(),
                ("Emphasis", _) if wanted("emphasis") && wanted("like") => match value.parse() {
                    Ok(emphasis) => self.emphasis = emphasis,
                    Err(_) => left.push(format!("emphasis {value}")),
                },
                // Known keys whose values are none.
                ("Seed", _) if wanted("seed") => left.push(format!("seed {value}")),
                ("Steps", _) if wanted("steps") => left.push(format!("steps {value}")),
                ("CFG scale", _) if wanted("guidance") => left.push(format!("guidance {value}")),
                ("Size", _) => left.push(format!("size {value}")),
                ("Cache", _) if wanted("speedup") => {
                    let known = Speedup::NAMES.iter().find(|(name, _)| name == value);
                    self.speedup = known.map(|(_, speedup)| *speedup);
                }
                ("Variation seed", Some(seed)) if wanted("variation-seed") => {
                    self.variation = Some((seed as u64, self.variation.map_or(0.0, |(_, strength)| strength)));
                }
                ("Variation seed strength", Some(strength)) if wanted("variation-strength") => {
                    self.variation = Some((self.variation.map_or(0, |(seed, _)| seed), strength));
                }
                (
                    "Denoising strength" | "Hires upscale" | "Hires upscaler" | "Lora hashes" | "Lora" | "Mask blur"
                    | "Refiner" | "Styles",
                    _,
                ) => {
                    left.push(key.clone());
                }
                (key, _) if key.starts_with("ControlNet") => left.push(key.to_owned()),
                _ => {}
            }
        }
        left
    }

    fn recall_sampler(&mut self, text: &Infotext, given: &dyn Fn(&str) -> bool, left: &mut Vec<String>) {
        if let Some(name) = text.sampler.as_ref().filter(|_| !given("sampler")) {
            match SamplerEntry::find(name) {
                Ok(_) => self.sampler = Some(name.clone()),
                Err(_) => left.push(format!("sampler {name}")),
            }
        }
        if let Some(name) = text.schedule.as_ref().filter(|_| !given("schedule")) {
            match schedule_entries().iter().find(|entry| entry.label.eq_ignore_ascii_case(name)) {
                Some(entry) => self.schedule = Some(entry.id.to_owned()),
                None => left.push(format!("schedule {name}")),
            }
        }
    }

    /// Networks that take their guidance as a number (FLUX.1 dev) have it under a name of its own in Forge; guidance by
    /// a second pass is no guidance then, or left.
    fn recall_guidance(&mut self, text: &Infotext, left: &mut Vec<String>) {
        let distilled = text.extra.iter().find(|(key, _)| key == "Distilled CFG Scale");
        let distilled = distilled.and_then(|(_, value)| value.parse::<f64>().ok());
        if let (Some(_), Some(second)) = (distilled, text.cfg_scale.filter(|&scale| scale != 1.0)) {
            left.push(format!("CFG scale {second}"));
        }
        self.guidance = distilled.or(text.cfg_scale).map(|scale| scale as f32).or(self.guidance);
    }

    fn recall_noise(&mut self, text: &Infotext, given: &dyn Fn(&str) -> bool) {
        if given("rng") || given("like") {
            return;
        }
        let named = text.extra.iter().find(|(key, _)| key == "RNG").map(|(_, value)| value.as_str());
        self.generator = match named {
            Some(name) => name.parse().unwrap_or(self.generator),
            None => Generator::Philox,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{prompt::emphasis::Emphasis, schedule::Prediction};

    #[test]
    fn settings_of_a_picture_come_back() {
        let text = "a cat\nNegative prompt: dog\nSteps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 9, \
            Size: 512x768, Clip skip: 2, Denoising strength: 0.4, Version: v1.10.1";
        let mut request = Request { seed: 3, ..Request::new("kept") };
        let left = request.recall(&Infotext::parse(text), &|name| name == "seed");
        assert_eq!((request.prompt.as_str(), request.negative.as_deref()), ("a cat", Some("dog")));
        assert_eq!((request.steps, request.guidance, request.seed), (Some(20), Some(7.5), 3));
        assert_eq!((request.width, request.height, request.clip_skip), (Some(512), Some(768), Some(2)));
        assert_eq!((request.sampler.as_deref(), request.schedule.as_deref()), (Some("DPM++ 2M"), Some("karras")));
        assert_eq!((request.generator, request.strength, left), (Generator::Philox, Some(0.4), vec![]));
        let mut request = Request { strength: Some(0.9), ..Request::new("kept") };
        request.recall(&Infotext::parse(text), &|name| name == "strength");
        assert_eq!(request.strength, Some(0.9));
        let hires = text.replace("Version", "Hires upscale: 2, Version");
        let mut request = Request::new("");
        let left = request.recall(&Infotext::parse(&hires), &|_| false);
        assert_eq!((request.strength, left), (None, vec!["Denoising strength".to_owned(), "Hires upscale".to_owned()]));
        let mut request = Request::new("");
        let left = request.recall(&Infotext::parse("a\nSteps: 1, Sampler: Nothing, Seed: 2, RNG: CPU"), &|_| false);
        assert_eq!((request.generator, left), (Generator::TorchCpu, vec!["sampler Nothing".to_owned()]));
    }

    fn recalled(pairs: &str) -> (Request, Vec<String>) {
        let mut request = Request::new("");
        let text = format!("a\nSteps: 3, Sampler: Euler, {pairs}, RNG: CPU");
        let left = request.recall(&Infotext::parse(&text), &|_| false);
        (request, left)
    }

    #[test]
    fn guidance_that_is_a_number_counts_where_there_is_one() {
        let (request, left) = recalled("CFG scale: 1, Distilled CFG Scale: 3.5");
        assert_eq!((request.guidance, left), (Some(3.5), vec![]));
        let (request, left) = recalled("CFG scale: 2, Distilled CFG Scale: 3.5");
        assert_eq!((request.guidance, left), (Some(3.5), vec!["CFG scale 2".to_owned()]));
    }

    #[test]
    fn what_the_network_predicts_comes_back() {
        let (request, left) = recalled(
            "Guidance start: 0.25, Guidance end: 0.5, Guidance rescale: 0.7, Prediction: v_prediction, Noise Schedule: Zero \
             Terminal SNR, Emphasis: No norm",
        );
        assert_eq!((request.guidance_start, request.guidance_end, request.guidance_rescale), (0.25, 0.5, 0.7));
        assert_eq!((request.prediction, request.zero_snr), (Some(Prediction::Velocity), Some(true)));
        assert_eq!((request.emphasis, left), (Emphasis::NoNorm, vec![]));
        assert_eq!(recalled("Noise Schedule: Default").0.zero_snr, Some(false));
    }

    #[test]
    fn what_cannot_be_taken_over_is_named() {
        for (pairs, names) in [
            ("Seed: -1", "seed -1"),
            ("Seed: 18446744073709551616", "seed 18446744073709551616"),
            ("Emphasis: Ignore", "emphasis Ignore"),
            ("Size: 9", "size 9"),
            ("Refiner: xl [abc], Refiner switch at: 0.8", "Refiner"),
            ("ControlNet 0: \"Module: canny, Model: c [abc], Weight: 1\"", "ControlNet 0"),
        ] {
            assert_eq!(recalled(pairs).1, [names], "{pairs}");
        }
        let (request, left) = recalled("Variation seed: 0, Variation seed strength: 0.5");
        assert_eq!((request.variation, left), (Some((0, 0.5)), vec![]));
        request.check().unwrap();
    }

    #[test]
    fn the_program_that_is_asked_for_counts_more_than_the_picture() {
        let text = Infotext::parse("a\nSteps: 1, Sampler: Euler, Seed: 2, Emphasis: no-norm, RNG: NV");
        let mut request = Request::new("");
        request.adopt(Tool::Comfy);
        request.recall(&text, &|name| name == "like");
        assert_eq!((request.generator, request.emphasis), (Generator::TorchCpu, Emphasis::Comfy));
        request.recall(&text, &|_| false);
        assert_eq!((request.generator, request.emphasis), (Generator::Philox, Emphasis::NoNorm));
    }

    #[test]
    fn a_program_brings_its_noise_and_its_marks() {
        let mut request = Request::new("a cat");
        request.adopt("webui".parse().unwrap());
        assert_eq!((request.generator, request.emphasis), (Generator::Philox, Emphasis::Original));
        request.adopt(Tool::Diffusers);
        assert_eq!((request.generator, request.emphasis), (Generator::TorchCpu, Emphasis::Off));
        assert!("paint".parse::<Tool>().unwrap_err().to_string().contains("a1111, comfy, diffusers"));
    }
}

//! `scheduler_config.json`: the facts a checkpoint states about its noise schedule and sampler.

use ondine_graph::{Error, ErrorKind, Result, fail};
use serde_json::{Map, Value};

use super::{
    choices::{
        BetaSchedule, ConsistencyOptions, EdmOptions, FinalSigma, FlowOptions, Prediction, SigmaSchedule,
        SolverOptions, Spacing, Variance,
    },
    classes::SchedulerClass,
    keys::{self, Keys},
};

/// The largest training schedule that is believed; real ones have 1000 timesteps.
const MOST_TRAIN_TIMESTEPS: usize = 100_000;

/// Everything a sampler needs to know of a model's scheduler, absent keys filled by class defaults.
///
/// The keys that were given stay with the config, so that [`SchedulerConfig::with_class`] switches
/// the sampler as diffusers' `from_config` does: what the file says is kept, what it leaves open
/// takes the new class's default.
#[derive(Debug, Clone, PartialEq)]
pub struct SchedulerConfig {
    /// The sampler.
    pub class: SchedulerClass,
    /// Training timesteps, `T`.
    pub train_timesteps: usize,
    /// First variance.
    pub beta_start: f64,
    /// Last variance.
    pub beta_end: f64,
    /// Curve between them.
    pub betas: BetaSchedule,
    /// Rescale to zero signal at the last timestep.
    pub zero_snr: bool,
    /// What the network predicts.
    pub prediction: Prediction,
    /// Spread of the timesteps.
    pub spacing: Spacing,
    /// Added to timesteps with leading spacing.
    pub steps_offset: usize,
    /// Curve of the noise levels.
    pub sigma_schedule: SigmaSchedule,
    /// Lowest level of that curve, where it is not the table's.
    pub sigma_min: Option<f64>,
    /// Highest level of that curve, where it is not the table's.
    pub sigma_max: Option<f64>,
    /// Level after the last step.
    pub final_sigma: FinalSigma,
    /// `alpha_bar` before timestep 0 is 1, not that of timestep 0.
    pub alpha_one: bool,
    /// Clamp predictions of `x0` to plus or minus this.
    pub clip: Option<f32>,
    /// PNDM without its Runge-Kutta start.
    pub skip_prk_steps: bool,
    /// Euler's timesteps are `ln(sigma) / 4`.
    pub continuous_timesteps: bool,
    /// DDPM's variance.
    pub variance: Variance,
    /// Multistep solvers.
    pub solver: SolverOptions,
    /// Consistency samplers.
    pub consistency: ConsistencyOptions,
    /// Noise levels of EDM.
    pub edm: EdmOptions,
    /// Rectified flow.
    pub flow: FlowOptions,
    /// The timesteps of a run, falling, if they are given one by one.
    pub timesteps: Option<Vec<f64>>,
    given: Map<String, Value>,
}

impl SchedulerConfig {
    /// Reads the text of a `scheduler_config.json`.
    ///
    /// # Errors
    /// Text that is not a JSON object, no or an unknown `_class_name`, and any value of a wrong
    /// type, out of range or unknown; the message names the key and what is known.
    pub fn from_json(text: &str) -> Result<Self> {
        Self::of_class(text, None)
    }

    /// As [`SchedulerConfig::from_json`], of a class that counts more than the one that the text names.
    ///
    /// # Errors
    /// As [`SchedulerConfig::from_json`].
    pub fn of_class(text: &str, class: Option<SchedulerClass>) -> Result<Self> {
        let given: Map<String, Value> = serde_json::from_str(&quote_infinities(text)).map_err(|error| {
            Error::new(ErrorKind::Format, format!("not a JSON object ({error}); give diffusers' scheduler_config.json"))
        })?;
        let class = match (class, keys::class_name(&given)?) {
            (Some(class), _) => class,
            (None, Some(name)) => SchedulerClass::from_name(name)?,
            (None, None) => fail!(Missing, "_class_name is missing; name the scheduler, such as \"DDIMScheduler\""),
        };
        Self::resolve(class, given)
    }

    /// A config with nothing given: every value is the class's default.
    ///
    /// # Errors
    /// None for the classes there are; the signature is that of [`SchedulerConfig::with_class`].
    pub fn new(class: SchedulerClass) -> Result<Self> {
        Self::resolve(class, Map::new())
    }

    /// The same model with another sampler; one on the noise levels of EDM for models that were trained on these.
    ///
    /// # Errors
    /// A given value that the new class does not take, such as `sample` prediction for PNDM, and a sampler that has no
    /// form on the noise levels of the model.
    pub fn with_class(&self, class: SchedulerClass) -> Result<Self> {
        let class = match (self.class.is_edm(), class.is_edm(), class.on_edm()) {
            (true, _, Some(of_edm)) => of_edm,
            (true, _, None) => {
                fail!(
                    Argument,
                    "the model was trained on the noise levels of EDM, which {class} does not take; choose euler or dpm++-2m"
                )
            }
            (false, true, _) => fail!(Argument, "{class} is for models that were trained on the noise levels of EDM"),
            (false, false, _) => class,
        };
        Self::resolve(class, self.given.clone())
    }

    /// The same method on rectified flow.
    ///
    /// # Errors
    /// If it has no such form.
    pub fn on_flow(&self) -> Result<Self> {
        match self.class.on_flow() {
            Some(class) if class == self.class => Ok(self.clone()),
            Some(class) => self.with_class(class),
            None if self.is_on_flow() => Ok(self.clone()),
            None => {
                fail!(Argument, "{} does not draw with a model of rectified flow; choose euler or heun", self.class)
            }
        }
    }

    /// True if it is for models of rectified flow alone.
    #[must_use]
    pub fn is_on_flow(&self) -> bool {
        self.class.is_flow() || self.prediction == Prediction::Flow
    }

    /// The same config with one more key given, as if the file had it.
    ///
    /// # Errors
    /// A value that the class does not take.
    pub fn with_key(&self, key: &str, value: Value) -> Result<Self> {
        let mut given = self.given.clone();
        given.insert(key.to_owned(), value);
        Self::resolve(self.class, given)
    }

    /// The same config for a run of `steps` steps at these timesteps.
    ///
    /// # Errors
    /// Timesteps that do not fall, are no whole ones of training or not as many, and samplers that have none of their
    /// own.
    pub fn with_timesteps(&self, timesteps: &[f64], steps: usize) -> Result<Self> {
        use SchedulerClass::{Euler, EulerAncestral, Lcm, Tcd};
        if !matches!(self.class, Euler | EulerAncestral | Lcm | Tcd) {
            fail!(Argument, "{} takes no timesteps one by one; choose euler, \"Euler a\", lcm or tcd", self.class);
        }
        if timesteps.len() != steps {
            fail!(Argument, "{} timesteps are given for {steps} steps; give one a step", timesteps.len());
        }
        let last = self.train_timesteps - 1;
        let known = timesteps.iter().all(|t| (0.0..=last as f64).contains(t) && t.fract() == 0.0);
        if !known || timesteps.windows(2).any(|pair| pair[0] <= pair[1]) {
            fail!(Argument, "timesteps {timesteps:?} are not whole, falling and between {last} and 0");
        }
        Ok(Self { timesteps: Some(timesteps.to_vec()), ..self.clone() })
    }

    /// The same model, whose network predicts something else than its files say.
    ///
    /// # Errors
    /// If the sampler does not take that.
    pub fn with_prediction(&self, prediction: Prediction) -> Result<Self> {
        self.with_key("prediction_type", prediction.name().into())
    }

    /// The same model with or without zero terminal SNR, spaced so that the first step is at the last timestep if it
    /// has that (Lin et al. 2024).
    ///
    /// # Errors
    /// None that the config did not have.
    pub fn with_zero_snr(&self, zero: bool) -> Result<Self> {
        let config = self.with_key("rescale_betas_zero_snr", zero.into())?;
        if zero { config.with_key("timestep_spacing", "trailing".into()) } else { Ok(config) }
    }

    /// The same config with another curve of noise levels.
    ///
    /// # Errors
    /// A curve other than the table's, for a class that runs on timesteps alone.
    pub fn with_sigma_schedule(&self, schedule: SigmaSchedule) -> Result<Self> {
        if schedule != SigmaSchedule::Table && !self.class.takes_sigma_schedule() {
            fail!(
                Argument,
                "{} runs on timesteps and takes no sigma schedule; use leading, linspace or trailing",
                self.class
            );
        }
        let mut given = self.given.clone();
        for (key, of_key) in keys::SIGMA_FLAGS {
            given.insert(key.to_owned(), (of_key == schedule).into());
        }
        let mut config = Self::resolve(self.class, given)?;
        config.sigma_schedule = schedule;
        Ok(config)
    }

    fn resolve(class: SchedulerClass, given: Map<String, Value>) -> Result<Self> {
        let facts = class.facts();
        let keys = Keys { given: &given, facts };
        keys.refuse_unsupported()?;
        let train_timesteps = keys.count("num_train_timesteps", 1000, 1..=MOST_TRAIN_TIMESTEPS)?;
        let clip = keys.flag("clip_sample", facts.clip)?;
        let clip = if clip { Some(keys.number("clip_sample_range", 1.0)? as f32) } else { None };
        let alpha_one = keys.flag("set_alpha_to_one", facts.alpha_one)?;
        let config = Self {
            class,
            train_timesteps,
            beta_start: keys.variance("beta_start", facts.betas.0)?,
            beta_end: keys.variance("beta_end", facts.betas.1)?,
            betas: keys.betas(train_timesteps)?,
            zero_snr: keys.flag("rescale_betas_zero_snr", false)?,
            prediction: keys.prediction()?,
            spacing: keys.choice("timestep_spacing", facts.spacing, &keys::SPACINGS)?,
            steps_offset: keys.count("steps_offset", 0, 0..=train_timesteps)?,
            sigma_schedule: keys.sigma_schedule()?,
            sigma_min: keys.positive("sigma_min")?,
            sigma_max: keys.positive("sigma_max")?,
            final_sigma: keys.final_sigma()?,
            alpha_one: alpha_one || class == SchedulerClass::Ddpm,
            clip,
            skip_prk_steps: keys.flag("skip_prk_steps", false)?,
            continuous_timesteps: keys.choice("timestep_type", "discrete", &keys::TIMESTEP_TYPES)?,
            variance: keys.choice("variance_type", "fixed_small", &keys::VARIANCES)?,
            solver: keys.solver()?,
            consistency: ConsistencyOptions {
                original_steps: keys.count("original_inference_steps", 50, 1..=train_timesteps)?,
                timestep_scaling: keys.number("timestep_scaling", 10.0)?,
            },
            edm: EdmOptions {
                sigma_data: keys.positive("sigma_data")?.unwrap_or(0.5),
                rho: keys.positive("rho")?.unwrap_or(7.0),
            },
            flow: keys.flow()?,
            timesteps: None,
            given,
        };
        Ok(config)
    }
}

/// Puts Python's bare `Infinity`, `-Infinity` and `NaN` in quotes: diffusers writes them, JSON has
/// no such words.
fn quote_infinities(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    let mut in_string = false;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let word = ["-Infinity", "Infinity", "NaN"].into_iter().find(|word| rest.starts_with(word));
        let taken = match word {
            Some(word) if !in_string => {
                quoted.extend(["\"", word, "\""]);
                word.len()
            }
            _ if in_string && first == '\\' => {
                let escaped = rest.chars().take(2).map(char::len_utf8).sum();
                quoted.push_str(&rest[..escaped]);
                escaped
            }
            _ => {
                in_string ^= first == '"';
                quoted.push(first);
                first.len_utf8()
            }
        };
        rest = &rest[taken..];
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        SchedulerConfig::from_json(text).expect_err("a config to refuse").to_string()
    }

    #[test]
    fn unknown_values_are_named_with_what_is_known() {
        let text = message(r#"{"_class_name": "NoScheduler"}"#);
        assert!(text.contains("NoScheduler") && text.contains("DDIMScheduler"), "{text}");
        let text = message(r#"{"_class_name": "DDIMScheduler", "beta_schedule": "cubic"}"#);
        assert_eq!(text, "beta_schedule is \"cubic\"; known are linear, scaled_linear, squaredcos_cap_v2");
        let text = message(r#"{"_class_name": "PNDMScheduler", "prediction_type": "sample"}"#);
        assert!(text.starts_with("PNDMScheduler: prediction_type is \"sample\""), "{text}");
    }

    #[test]
    fn absurd_values_are_refused() {
        for value in [
            r#""num_train_timesteps": 0"#,
            r#""num_train_timesteps": 99999999999"#,
            r#""num_train_timesteps": "1000""#,
            r#""beta_start": -1"#,
            r#""beta_end": 1e999"#,
            r#""trained_betas": [0.1, 0.2]"#,
            r#""steps_offset": 1.5"#,
            r#""clip_sample": 1"#,
            r#""thresholding": true"#,
            r#""unheard_of": 1"#,
            r#""predict_epsilon": false"#,
        ] {
            message(&format!(r#"{{"_class_name": "DDIMScheduler", {value}}}"#));
        }
        for text in ["", "[]", "nonsense", "{", r#"{"_class_name": 3}"#, "{}"] {
            message(text);
        }
    }

    #[test]
    fn keys_of_other_classes_mean_nothing() {
        let plain = SchedulerConfig::from_json(r#"{"_class_name": "DDIMScheduler"}"#).expect("a config");
        let left =
            r#""original_inference_steps": 0, "algorithm_type": "x", "sigma_data": 0.5, "use_flow_sigmas": true"#;
        let text = format!(r#"{{"_class_name": "DDIMScheduler", {left}, "unheard_of": false}}"#);
        let config = SchedulerConfig::from_json(&text).expect("a config with leftovers");
        assert_eq!(
            SchedulerConfig { given: Map::new(), ..config.clone() },
            SchedulerConfig { given: Map::new(), ..plain }
        );
        // They mean something again in the class that has them.
        assert!(config.with_class(SchedulerClass::Lcm).is_err() && config.with_class(SchedulerClass::UniPc).is_err());
    }

    #[test]
    fn pythons_infinities_are_read() {
        let config = SchedulerConfig::from_json(
            r#"{"_class_name": "DPMSolverMultistepScheduler", "_note": "a \" -Infinity",
                "lambda_min_clipped": -Infinity}"#,
        )
        .expect("a config as diffusers writes it");
        assert_eq!(config.solver.lambda_min_clipped, f64::NEG_INFINITY);
    }

    #[test]
    fn another_class_keeps_what_was_given_and_fills_in_its_own_defaults() {
        let pndm = SchedulerConfig::from_json(
            r#"{"_class_name": "PNDMScheduler", "beta_start": 0.00085, "beta_end": 0.012,
                "beta_schedule": "scaled_linear", "skip_prk_steps": true, "steps_offset": 1}"#,
        )
        .expect("Stable Diffusion's config");
        assert_eq!(pndm.spacing, Spacing::Leading);
        let euler = pndm.with_class(SchedulerClass::Euler).expect("a class that takes this model");
        assert_eq!(euler.spacing, Spacing::Linspace);
        assert_eq!((euler.beta_end, euler.steps_offset), (0.012, 1));
    }
}

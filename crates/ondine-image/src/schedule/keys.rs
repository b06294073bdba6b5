//! Typed reading of a scheduler config's keys, with the words each key knows.

use ondine_graph::{Context, Error, ErrorKind, Result, fail};
use serde_json::{Map, Value};

use super::{
    choices::{
        Algorithm, BetaSchedule, FinalSigma, FlowOptions, Prediction, SigmaSchedule, SolverOptions, SolverType,
        Spacing, Variance,
    },
    classes::{ClassFacts, SchedulerClass, is_key},
};

pub(super) const SPACINGS: [(&str, Spacing); 3] =
    [("leading", Spacing::Leading), ("linspace", Spacing::Linspace), ("trailing", Spacing::Trailing)];
pub(super) const FINAL_SIGMAS: [(&str, FinalSigma); 2] =
    [("zero", FinalSigma::Zero), ("sigma_min", FinalSigma::SigmaMin)];
pub(super) const TIMESTEP_TYPES: [(&str, bool); 2] = [("discrete", false), ("continuous", true)];
pub(super) const VARIANCES: [(&str, Variance); 2] =
    [("fixed_small", Variance::FixedSmall), ("fixed_large", Variance::FixedLarge)];
pub(super) const SIGMA_FLAGS: [(&str, SigmaSchedule); 3] = [
    ("use_karras_sigmas", SigmaSchedule::Karras),
    ("use_exponential_sigmas", SigmaSchedule::Exponential),
    ("use_beta_sigmas", SigmaSchedule::Beta),
];
/// The other classes' words are those diffusers turns into this class's own default.
const ALGORITHMS: [(&str, Algorithm); 3] = [
    ("dpmsolver++", Algorithm::DpmSolverPlusPlus),
    ("sde-dpmsolver++", Algorithm::SdeDpmSolverPlusPlus),
    ("deis", Algorithm::DpmSolverPlusPlus),
];
const DPM_TYPES: [(&str, SolverType); 5] = [
    ("midpoint", SolverType::Midpoint),
    ("heun", SolverType::Heun),
    ("logrho", SolverType::Midpoint),
    ("bh1", SolverType::Midpoint),
    ("bh2", SolverType::Midpoint),
];
const UNIPC_TYPES: [(&str, SolverType); 5] = [
    ("bh1", SolverType::Bh1),
    ("bh2", SolverType::Bh2),
    ("midpoint", SolverType::Bh2),
    ("heun", SolverType::Bh2),
    ("logrho", SolverType::Bh2),
];

/// Typed reading of the given keys, of those that a class has; `null` counts as absent.
pub(super) struct Keys<'a> {
    pub(super) given: &'a Map<String, Value>,
    pub(super) facts: &'a ClassFacts,
}

/// The class that a config names.
pub(super) fn class_name(given: &Map<String, Value>) -> Result<Option<&str>> {
    match given.get("_class_name") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(name)) => Ok(Some(name)),
        Some(other) => fail!(Format, "_class_name is {other}; give a string"),
    }
}

impl<'a> Keys<'a> {
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.given.get(key).filter(|value| !value.is_null() && self.facts.takes(key))
    }

    fn wrong(&self, key: &str, expected: &str) -> Error {
        let value = self.get(key).map(Value::to_string).unwrap_or_default();
        let shown: String = value.chars().take(40).collect();
        Error::new(ErrorKind::Format, format!("{key} is {shown}; {expected}"))
    }

    fn read<T>(&self, key: &str, default: T, expected: &str, convert: impl Fn(&'a Value) -> Option<T>) -> Result<T> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => convert(value).ok_or_else(|| self.wrong(key, expected)),
        }
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>> {
        self.read(key, None, "give a string", |value| value.as_str().map(Some))
    }

    pub(super) fn flag(&self, key: &str, default: bool) -> Result<bool> {
        self.read(key, default, "give true or false", Value::as_bool)
    }

    pub(super) fn number(&self, key: &str, default: f64) -> Result<f64> {
        self.read(key, default, "give a finite number", |value| value.as_f64().filter(|number| number.is_finite()))
    }

    pub(super) fn positive(&self, key: &str) -> Result<Option<f64>> {
        self.read(key, None, "give a number above 0", |value| {
            value.as_f64().filter(|number| number.is_finite() && *number > 0.0).map(Some)
        })
    }

    pub(super) fn variance(&self, key: &str, default: f64) -> Result<f64> {
        self.read(key, default, "give a number above 0 and below 1", |value| {
            value.as_f64().filter(|number| *number > 0.0 && *number < 1.0)
        })
    }

    pub(super) fn count(&self, key: &str, default: usize, range: std::ops::RangeInclusive<usize>) -> Result<usize> {
        let expected = format!("give a whole number from {} to {}", range.start(), range.end());
        // A default above the range belongs to a shorter training schedule.
        let default = default.min(*range.end());
        self.read(key, default, &expected, |value| {
            value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| range.contains(n))
        })
    }

    pub(super) fn choice<T: Copy>(&self, key: &str, default: &str, known: &[(&str, T)]) -> Result<T> {
        let find = |name: &str| known.iter().find(|(n, _)| *n == name).map(|&(_, value)| value);
        let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
        let expected = format!("known are {}", names.join(", "));
        let name = self.text(key)?.unwrap_or(default);
        find(name).ok_or_else(|| self.wrong(key, &expected))
    }

    pub(super) fn prediction(&self) -> Result<Prediction> {
        let facts = self.facts;
        // The second is a name for the same way, on a circle.
        let named = self.text("prediction_type")?.is_some_and(|name| [Prediction::FLOW, "trigflow"].contains(&name));
        if named && facts.class.on_flow().is_none() && facts.class != SchedulerClass::DpmMultistep {
            fail!(
                Argument,
                "{} does not draw with a model of rectified flow; choose euler, heun or dpm++-2m",
                facts.name
            );
        }
        match (named, self.flag("use_flow_sigmas", false)?) {
            (true, true) => return Ok(Prediction::Flow),
            (true, false) if !facts.takes("use_flow_sigmas") => return Ok(Prediction::Flow),
            (true, false) => fail!(Unsupported, "prediction_type \"flow_prediction\" goes with use_flow_sigmas = true"),
            (false, true) => fail!(Unsupported, "use_flow_sigmas goes with prediction_type = \"flow_prediction\""),
            (false, false) => {}
        }
        let known = if facts.sample_prediction { &Prediction::NAMES[..] } else { &Prediction::NAMES[..2] };
        self.choice("prediction_type", "epsilon", known).at(|| facts.name)
    }

    pub(super) fn betas(&self, count: usize) -> Result<BetaSchedule> {
        if let Some(value) = self.get("trained_betas") {
            let numbers = value.as_array().map(Vec::as_slice).unwrap_or_default();
            let valid = |beta: f64| (beta > 0.0 && beta < 1.0).then_some(beta as f32);
            let betas: Option<Vec<f32>> = numbers.iter().map(|number| number.as_f64().and_then(valid)).collect();
            return betas.filter(|betas| betas.len() == count).map(BetaSchedule::Trained).ok_or_else(|| {
                let expected = format!("give {count} numbers above 0 and below 1");
                self.wrong("trained_betas", &expected)
            });
        }
        const NAMES: [(&str, usize); 3] = [("linear", 0), ("scaled_linear", 1), ("squaredcos_cap_v2", 2)];
        Ok(match self.choice("beta_schedule", self.facts.betas.2, &NAMES)? {
            0 => BetaSchedule::Linear,
            1 => BetaSchedule::ScaledLinear,
            _ => BetaSchedule::SquaredCosine,
        })
    }

    pub(super) fn sigma_schedule(&self) -> Result<SigmaSchedule> {
        if self.facts.class.is_edm() {
            const CURVES: [(&str, SigmaSchedule); 2] =
                [("karras", SigmaSchedule::Karras), ("exponential", SigmaSchedule::Exponential)];
            return self.choice("sigma_schedule", "karras", &CURVES);
        }
        let mut chosen = SigmaSchedule::Table;
        let mut count = 0;
        for (key, schedule) in SIGMA_FLAGS {
            if self.flag(key, false)? {
                chosen = schedule;
                count += 1;
            }
        }
        if count > 1 {
            fail!(
                Format,
                "more than one of use_karras_sigmas, use_exponential_sigmas, use_beta_sigmas is true; set one"
            );
        }
        Ok(chosen)
    }

    pub(super) fn flow(&self) -> Result<FlowOptions> {
        const SHIFTS: [(&str, bool); 2] = [("exponential", false), ("linear", true)];
        const MOST: usize = 1 << 30;
        let tokens =
            [self.count("base_image_seq_len", 256, 1..=MOST)?, self.count("max_image_seq_len", 4096, 1..=MOST)?];
        let [few, many] = tokens.map(|tokens| tokens as f64);
        if few >= many {
            return Err(self.wrong("max_image_seq_len", "give more than base_image_seq_len"));
        }
        let by_size = [(few, self.number("base_shift", 0.5)?), (many, self.number("max_shift", 1.15)?)];
        let flow = self.facts.class.is_flow();
        let solver = self.flag("use_flow_sigmas", false)?;
        if solver && self.flag("use_dynamic_shifting", false)? {
            fail!(Unsupported, "use_dynamic_shifting beside use_flow_sigmas is not supported; give flow_shift");
        }
        // A model that is given another class keeps its shift.
        let other =
            self.given.get("flow_shift").and_then(Value::as_f64).filter(|shift| shift.is_finite() && *shift > 0.0);
        let own = self.positive(if solver { "flow_shift" } else { "shift" })?;
        Ok(FlowOptions {
            solver,
            shift: own.or(other.filter(|_| flow)).unwrap_or(1.0),
            dynamic: self.flag("use_dynamic_shifting", false)?,
            linear: flow && self.choice("time_shift_type", "exponential", &SHIFTS)?,
            by_size,
        })
    }

    pub(super) fn final_sigma(&self) -> Result<FinalSigma> {
        match self.facts.class {
            SchedulerClass::Deis => Ok(FinalSigma::SigmaMin),
            _ => self.choice("final_sigmas_type", "zero", &FINAL_SIGMAS),
        }
    }

    pub(super) fn solver(&self) -> Result<SolverOptions> {
        let class = self.facts.class;
        let unipc = class == SchedulerClass::UniPc;
        let dpm = matches!(
            class,
            SchedulerClass::DpmMultistep | SchedulerClass::DpmSinglestep | SchedulerClass::EdmDpmMultistep
        );
        let disabled = self.read("disable_corrector", Vec::new(), "give a list of call numbers", |value| {
            let number = |n: &Value| n.as_u64().and_then(|n| usize::try_from(n).ok());
            value.as_array()?.iter().map(number).collect()
        })?;
        let lambda_min_clipped = match self.get("lambda_min_clipped") {
            Some(Value::String(text)) if text == "-Infinity" => f64::NEG_INFINITY,
            Some(_) if dpm => self.number("lambda_min_clipped", f64::NEG_INFINITY)?,
            _ => f64::NEG_INFINITY,
        };
        Ok(SolverOptions {
            order: self.count("solver_order", 2, 1..=3)?,
            algorithm: if dpm {
                self.choice("algorithm_type", "dpmsolver++", &ALGORITHMS)?
            } else {
                Algorithm::DpmSolverPlusPlus
            },
            solver_type: match (unipc, dpm) {
                (true, _) => self.choice("solver_type", "bh2", &UNIPC_TYPES)?,
                (_, true) => self.choice("solver_type", "midpoint", &DPM_TYPES)?,
                _ => SolverType::Midpoint,
            },
            lower_order_final: self.flag("lower_order_final", self.facts.lower_order_final)?,
            euler_at_final: self.flag("euler_at_final", false)?,
            lambda_min_clipped,
            disable_corrector: disabled,
        })
    }

    /// Options that would change the result and are not carried out, and keys that no class has.
    pub(super) fn refuse_unsupported(&self) -> Result<()> {
        const FLAGS: [(&str, &str); 7] = [
            ("thresholding", "dynamic thresholding serves pixel-space models; use clip_sample"),
            ("use_flow_sigmas", "use DPMSolverMultistepScheduler or FlowMatchEulerDiscreteScheduler for flow models"),
            ("use_lu_lambdas", "use use_karras_sigmas"),
            ("invert_sigmas", "leave it out"),
            ("stochastic_sampling", "leave it out"),
            ("shift_terminal", "leave it out"),
            ("solver_p", "leave it out"),
        ];
        for (key, advice) in FLAGS {
            let carried = key == "use_flow_sigmas" && self.facts.class == SchedulerClass::DpmMultistep;
            if !carried && self.get(key).is_some_and(|value| *value != Value::Bool(false)) {
                fail!(Unsupported, "{key} is not supported; {advice}");
            }
        }
        if self.given.get("predict_epsilon") == Some(&Value::Bool(false)) {
            fail!(Unsupported, "predict_epsilon = false is not read any more; say prediction_type = \"sample\"");
        }
        for (key, value) in self.given {
            // Names that begin so are notes of the program that wrote the file.
            let known = key.starts_with('_') || key == "predict_epsilon" || is_key(key);
            if !known && !matches!(value, Value::Null | Value::Bool(false)) {
                let shown: String = value.to_string().chars().take(40).collect();
                fail!(Unsupported, "{key} = {shown} is no known key of a scheduler; take it out if it changes nothing");
            }
        }
        if self.text("interpolation_type")?.unwrap_or("linear") != "linear" {
            return Err(self.wrong("interpolation_type", "known is linear"));
        }
        if !self.flag("predict_x0", true)? {
            return Err(self.wrong("predict_x0", "only true is supported"));
        }
        Ok(())
    }
}

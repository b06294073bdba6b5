//! Samplers and schedules by the names people know them by.

use ondine_graph::{Result, fail};
use serde_json::Value;

use crate::schedule::{SchedulerClass, SchedulerConfig, SigmaSchedule, Spacing};

/// One sampler as a person chooses it.
#[derive(Debug, Clone, Copy)]
pub struct SamplerEntry {
    /// The name on our command line, such as `dpm++-2m`.
    pub id: &'static str,
    /// The name in A1111 and in picture metadata, such as `DPM++ 2M`.
    pub label: &'static str,
    /// Other tools' names.
    pub aliases: &'static [&'static str],
    /// The scheduler class that runs it.
    pub class: SchedulerClass,
    /// The curve A1111 pairs it with under "Automatic".
    pub automatic: SigmaSchedule,
    keys: &'static [(&'static str, ConfigValue)],
}

/// A config value that makes a class into the sampler of an entry.
#[derive(Debug, Clone, Copy)]
enum ConfigValue {
    Word(&'static str),
    Count(u64),
    Flag(bool),
}

impl From<ConfigValue> for Value {
    fn from(value: ConfigValue) -> Self {
        match value {
            ConfigValue::Word(word) => word.into(),
            ConfigValue::Count(count) => count.into(),
            ConfigValue::Flag(flag) => flag.into(),
        }
    }
}

/// One noise schedule as a person chooses it.
#[derive(Debug, Clone, Copy)]
pub struct ScheduleEntry {
    /// The name on our command line.
    pub id: &'static str,
    /// The name in A1111 and in picture metadata.
    pub label: &'static str,
    /// Other tools' names.
    pub aliases: &'static [&'static str],
    choice: Choice,
}

#[derive(Debug, Clone, Copy)]
enum Choice {
    Automatic,
    Sigmas(SigmaSchedule),
    Spaced(Spacing),
}

const fn entry(
    id: &'static str,
    label: &'static str,
    aliases: &'static [&'static str],
    class: SchedulerClass,
) -> SamplerEntry {
    SamplerEntry { id, label, aliases, class, automatic: SigmaSchedule::Table, keys: &[] }
}

/// DPM-Solver++ of one order and equation.
const ODE: (&str, ConfigValue) = ("algorithm_type", ConfigValue::Word("dpmsolver++"));
const SDE: (&str, ConfigValue) = ("algorithm_type", ConfigValue::Word("sde-dpmsolver++"));
const MIDPOINT: (&str, ConfigValue) = ("solver_type", ConfigValue::Word("midpoint"));
const HEUN: (&str, ConfigValue) = ("solver_type", ConfigValue::Word("heun"));
const ORDER_2: (&str, ConfigValue) = ("solver_order", ConfigValue::Count(2));
const ORDER_3: (&str, ConfigValue) = ("solver_order", ConfigValue::Count(3));

static SAMPLERS: [SamplerEntry; 23] = {
    use SchedulerClass as C;
    use SigmaSchedule::{Exponential, Karras};
    let dpm = C::DpmMultistep;
    [
        entry("euler", "Euler", &[], C::Euler),
        entry("euler-a", "Euler a", &["euler_ancestral"], C::EulerAncestral),
        entry("heun", "Heun", &[], C::Heun),
        entry("lms", "LMS", &[], C::Lms),
        SamplerEntry { automatic: Karras, ..entry("dpm2", "DPM2", &["dpm_2", "kdpm_2"], C::Kdpm2) },
        SamplerEntry {
            automatic: Karras,
            ..entry("dpm2-a", "DPM2 a", &["dpm_2_a", "dpm_2_ancestral", "kdpm_2_a"], C::Kdpm2Ancestral)
        },
        SamplerEntry {
            automatic: Karras,
            keys: &[ODE, MIDPOINT, ORDER_2],
            ..entry("dpm++-2m", "DPM++ 2M", &["dpmsolver++"], dpm)
        },
        SamplerEntry {
            automatic: Karras,
            keys: &[ODE, HEUN, ORDER_2],
            ..entry("dpm++-2m-heun", "DPM++ 2M Heun", &[], dpm)
        },
        SamplerEntry {
            automatic: Exponential,
            keys: &[SDE, MIDPOINT, ORDER_2],
            ..entry("dpm++-2m-sde", "DPM++ 2M SDE", &[], dpm)
        },
        SamplerEntry {
            automatic: Exponential,
            keys: &[SDE, HEUN, ORDER_2],
            ..entry("dpm++-2m-sde-heun", "DPM++ 2M SDE Heun", &[], dpm)
        },
        SamplerEntry { keys: &[ODE, ORDER_3], ..entry("dpm++-3m", "DPM++ 3M", &[], dpm) },
        SamplerEntry {
            automatic: Exponential,
            keys: &[SDE, ORDER_3],
            ..entry("dpm++-3m-sde", "DPM++ 3M SDE", &[], dpm)
        },
        SamplerEntry {
            automatic: Karras,
            keys: &[ODE, MIDPOINT, ORDER_2],
            ..entry("dpm++-2s", "DPM++ 2S", &[], C::DpmSinglestep)
        },
        SamplerEntry {
            automatic: Karras,
            keys: &[SDE, MIDPOINT, ORDER_2],
            ..entry("dpm++-sde", "DPM++ SDE", &["dpm++_2s_sde"], C::DpmSinglestep)
        },
        entry("deis", "DEIS", &[], C::Deis),
        entry("unipc", "UniPC", &["uni_pc", "uni_pc_bh2"], C::UniPc),
        entry("ddim", "DDIM", &[], C::Ddim),
        entry("ddpm", "DDPM", &[], C::Ddpm),
        SamplerEntry {
            keys: &[("skip_prk_steps", ConfigValue::Flag(true))],
            ..entry("plms", "PLMS", &["pndm"], C::Pndm)
        },
        entry("lcm", "LCM", &[], C::Lcm),
        entry("tcd", "TCD", &[], C::Tcd),
        entry("flow-euler", "Flow Euler", &["euler_flow", "flow_match_euler"], C::FlowEuler),
        entry("scm", "SCM", &[], C::Scm),
    ]
};

static SCHEDULES: [ScheduleEntry; 8] = {
    const fn of(
        id: &'static str,
        label: &'static str,
        aliases: &'static [&'static str],
        choice: Choice,
    ) -> ScheduleEntry {
        ScheduleEntry { id, label, aliases, choice }
    }
    [
        of("automatic", "Automatic", &["auto"], Choice::Automatic),
        of("uniform", "Uniform", &["normal", "discrete"], Choice::Sigmas(SigmaSchedule::Table)),
        of("karras", "Karras", &[], Choice::Sigmas(SigmaSchedule::Karras)),
        of("exponential", "Exponential", &[], Choice::Sigmas(SigmaSchedule::Exponential)),
        of("beta", "Beta", &[], Choice::Sigmas(SigmaSchedule::Beta)),
        of("leading", "Leading", &["ddim"], Choice::Spaced(Spacing::Leading)),
        of("linspace", "Linspace", &[], Choice::Spaced(Spacing::Linspace)),
        of("trailing", "Trailing", &["sgm_uniform", "simple"], Choice::Spaced(Spacing::Trailing)),
    ]
};

/// Every sampler by name.
#[must_use]
pub fn sampler_entries() -> &'static [SamplerEntry] {
    &SAMPLERS
}

/// Every schedule by name.
#[must_use]
pub fn schedule_entries() -> &'static [ScheduleEntry] {
    &SCHEDULES
}

/// A name without what the tools write differently: case, blanks, `_`, `-`, and `++` for `pp`.
fn plain(name: &str) -> String {
    let lower = name.to_lowercase().replace("++", "pp");
    lower.chars().filter(|c| c.is_alphanumeric()).collect()
}

impl SamplerEntry {
    fn answers_to(&self, plain_name: &str) -> bool {
        let names = [self.id, self.label, self.class.name()];
        names.iter().chain(self.aliases).any(|name| plain(name) == plain_name)
    }
}

fn find_sampler(plain_name: &str) -> Option<&'static SamplerEntry> {
    let found = |name: &str| SAMPLERS.iter().find(|entry| entry.answers_to(name));
    // k-diffusion's names carry a k in front.
    found(plain_name).or_else(|| plain_name.strip_prefix('k').and_then(found))
}

fn find_schedule(plain_name: &str) -> Option<&'static ScheduleEntry> {
    SCHEDULES.iter().find(|entry| {
        let names = [entry.id, entry.label];
        names.iter().chain(entry.aliases).any(|name| plain(name) == plain_name)
    })
}

impl SamplerEntry {
    /// Finds a sampler by any of its names, in any of the tools' spellings, and the schedule that
    /// older metadata writes behind it: `DPM++ 2M Karras`, `k_dpmpp_2m`, `euler_a karras`.
    ///
    /// # Errors
    /// An unknown name; the message lists the known ones.
    pub fn find(name: &str) -> Result<(&'static Self, Option<&'static ScheduleEntry>)> {
        let whole = plain(name);
        if let Some(entry) = find_sampler(&whole) {
            return Ok((entry, None));
        }
        let split = SCHEDULES.iter().find_map(|schedule| {
            let rest = whole.strip_suffix(plain(schedule.id).as_str())?;
            Some((find_sampler(rest)?, Some(schedule)))
        });
        match split {
            Some(found) => Ok(found),
            None => {
                let known: Vec<_> = SAMPLERS.iter().map(|entry| entry.label).collect();
                fail!(Argument, "sampler {name:?} is not known; known are {}", known.join(", "))
            }
        }
    }

    /// The entry that a config amounts to, for metadata; the first of its class where none fits.
    #[must_use]
    pub fn of(config: &SchedulerConfig) -> Option<&'static Self> {
        let is_of = |class: SchedulerClass| class == config.class || class.on_edm() == Some(config.class);
        let of_class = || SAMPLERS.iter().filter(move |entry| is_of(entry.class));
        let fits = |entry: &&Self| {
            entry
                .configure(config)
                .is_ok_and(|other| other.solver == config.solver && other.skip_prk_steps == config.skip_prk_steps)
        };
        of_class().find(fits).or_else(|| of_class().next())
    }

    fn configure(&self, config: &SchedulerConfig) -> Result<SchedulerConfig> {
        let switched = config.with_class(self.class)?;
        self.keys.iter().try_fold(switched, |config, &(key, value)| config.with_key(key, value.into()))
    }
}

impl ScheduleEntry {
    /// The entry that a config amounts to, for metadata: its sigma schedule, else its spacing, if the sampler goes by
    /// it.
    #[must_use]
    pub fn of(config: &SchedulerConfig) -> Option<&'static Self> {
        SCHEDULES.iter().find(|entry| match entry.choice {
            Choice::Automatic => false,
            Choice::Sigmas(sigmas) => sigmas != SigmaSchedule::Table && sigmas == config.sigma_schedule,
            // Levels of rectified flow are not spread over a table of timesteps.
            Choice::Spaced(spacing) => {
                let spaced = config.sigma_schedule == SigmaSchedule::Table && !config.class.is_flow();
                spaced && spacing == config.spacing
            }
        })
    }
}

impl SchedulerConfig {
    /// The same model with the sampler of this name, and the schedule if the name carries one.
    ///
    /// What the model states (variances, prediction, offset, spacing, sigma schedule) stays.
    ///
    /// # Errors
    /// An unknown name, or a sampler that cannot serve this model.
    pub fn with_sampler(&self, name: &str) -> Result<Self> {
        let (entry, schedule) = SamplerEntry::find(name)?;
        let config = entry.configure(self)?;
        match schedule {
            Some(schedule) => config.with_schedule(schedule.id),
            None => Ok(config),
        }
    }

    /// The same model and sampler with the schedule of this name.
    ///
    /// `automatic` takes what A1111 pairs the sampler with. Euler a takes sigma schedules too, which
    /// it cannot in diffusers. `sgm_uniform` and `simple` are trailing spacing, as diffusers has it.
    ///
    /// # Errors
    /// An unknown name, or a sigma schedule for a sampler that runs on timesteps alone.
    pub fn with_schedule(&self, name: &str) -> Result<Self> {
        let Some(entry) = find_schedule(&plain(name)) else {
            let known: Vec<_> = SCHEDULES.iter().map(|entry| entry.id).collect();
            fail!(Argument, "schedule {name:?} is not known; known are {}", known.join(", "));
        };
        match entry.choice {
            Choice::Spaced(spacing) if spacing != Spacing::Linspace && !self.class.takes_spacing() => {
                fail!(Argument, "{} spreads its timesteps by linspace alone; use that or karras", self.class)
            }
            Choice::Spaced(spacing) => {
                let word = match spacing {
                    Spacing::Leading => "leading",
                    Spacing::Linspace => "linspace",
                    Spacing::Trailing => "trailing",
                };
                self.with_sigma_schedule(SigmaSchedule::Table)?.with_key("timestep_spacing", word.into())
            }
            Choice::Sigmas(schedule) => self.with_sigma_schedule(schedule),
            Choice::Automatic => {
                let automatic = SamplerEntry::of(self).map(|entry| entry.automatic);
                self.with_sigma_schedule(automatic.unwrap_or(SigmaSchedule::Table))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_told_where_the_sampler_goes_by_one() {
        let of = |json: &str| ScheduleEntry::of(&SchedulerConfig::from_json(json).unwrap()).map(|entry| entry.id);
        assert_eq!(of(r#"{"_class_name": "EulerDiscreteScheduler"}"#), Some("linspace"));
        assert_eq!(of(r#"{"_class_name": "DDIMScheduler"}"#), Some("leading"));
        assert_eq!(of(r#"{"_class_name": "SCMScheduler"}"#), None);
        assert_eq!(of(r#"{"_class_name": "FlowMatchEulerDiscreteScheduler"}"#), None);
        let karras = r#"{"_class_name": "FlowMatchEulerDiscreteScheduler", "use_karras_sigmas": true}"#;
        assert_eq!(of(karras), Some("karras"));
    }
}

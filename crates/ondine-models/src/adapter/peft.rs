//! Folders of peft: `adapter_config.json` says how factors are scaled, `adapter_model.safetensors` holds them.

use std::{collections::BTreeMap, path::Path};

use ondine_graph::{Context, Result, Weights, fail};
use serde::Deserialize;
use serde_json::Value;

use super::layers::Layers;
use crate::config::parse;

/// The file that makes a folder an adapter.
pub(crate) const CONFIG: &str = "adapter_config.json";
pub(crate) const WEIGHTS: &str = "adapter_model.safetensors";
/// What peft puts before the names of the model.
const PREFIX: &str = "base_model.model.";

/// `lora_alpha`, where a config is silent.
const ALPHA: f64 = 8.0;

/// What the config says that changes numbers.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Config {
    peft_type: Option<String>,
    r: Option<usize>,
    lora_alpha: Option<f64>,
    use_rslora: bool,
    use_dora: bool,
    lora_bias: bool,
    fan_in_fan_out: bool,
    bias: Option<String>,
    rank_pattern: BTreeMap<String, usize>,
    alpha_pattern: BTreeMap<String, f64>,
    modules_to_save: Option<Vec<String>>,
    layer_replication: Option<Value>,
    alora_invocation_tokens: Option<Value>,
}

impl Config {
    /// Refuses what is no LoRA.
    pub(crate) fn check_kind(&self) -> Result<()> {
        match self.peft_type.as_deref().filter(|kind| *kind != "LORA") {
            Some(kind) => fail!(Unsupported, "`peft_type` = {kind:?} is not supported; supported: LORA"),
            None => Ok(()),
        }
    }

    fn check(&self) -> Result<()> {
        self.check_kind()?;
        let unknown = [
            ("use_dora", self.use_dora),
            ("lora_bias", self.lora_bias),
            ("fan_in_fan_out", self.fan_in_fan_out),
            ("bias", self.bias.as_deref().is_some_and(|bias| bias != "none")),
            ("layer_replication", self.layer_replication.is_some()),
        ];
        if let Some((option, _)) = unknown.iter().find(|(_, on)| *on) {
            fail!(Unsupported, "`{option}` is not supported; merge the adapter into its model with peft");
        }
        if self.alora_invocation_tokens.is_some() {
            fail!(
                Unsupported,
                "`alora_invocation_tokens`: adapters that begin in the middle of a text are not supported"
            );
        }
        if let Some([first, ..]) = self.modules_to_save.as_deref() {
            fail!(
                Unsupported,
                "`modules_to_save` replaces `{first}` as a whole, which is not supported; merge the adapter into its \
                 model with peft"
            );
        }
        Ok(())
    }

    /// What the factors of a module are multiplied by.
    pub(crate) fn scale(&self, module: &str, rank: usize) -> Result<f32> {
        let wanted = of_pattern(&self.rank_pattern, module)?.copied().or(self.r);
        if let Some(wanted) = wanted.filter(|&wanted| wanted != rank) {
            fail!(Format, "the factors of `{module}` are of rank {rank}, the config says {wanted}");
        }
        let alpha = of_pattern(&self.alpha_pattern, module)?.copied().or(self.lora_alpha).unwrap_or(ALPHA);
        let divisor = if self.use_rslora { (rank as f64).sqrt() } else { rank as f64 };
        let scale = (alpha / divisor) as f32;
        if !scale.is_finite() {
            fail!(Format, "`lora_alpha` of `{module}` is {alpha}");
        }
        Ok(scale)
    }
}

/// What a pattern that names the module, or the end of its name, says of it.
fn of_pattern<'a, T>(patterns: &'a BTreeMap<String, T>, module: &str) -> Result<Option<&'a T>> {
    for (pattern, value) in patterns {
        let (whole, name) = pattern.strip_prefix('^').map_or((false, &**pattern), |name| (true, name));
        let name = name.strip_suffix('$').unwrap_or(name).replace("\\.", ".");
        if name.contains(['^', '$', '*', '+', '?', '(', ')', '[', ']', '{', '}', '|', '\\']) {
            fail!(Unsupported, "the pattern {pattern:?} of the config is more than the end of a name");
        }
        let rest = module.strip_suffix(&*name);
        if rest.is_some_and(|rest| rest.is_empty() || !whole && rest.ends_with('.')) {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// Reads a folder.
pub(super) fn read(folder: &Path) -> Result<Layers> {
    if !folder.join(CONFIG).is_file() {
        fail!(Missing, "there is no `{CONFIG}`; is it a folder that peft saved?");
    }
    let text = std::fs::read_to_string(folder.join(CONFIG)).at(|| CONFIG)?;
    let config: Config = parse(&text).at(|| CONFIG)?;
    config.check().at(|| CONFIG)?;
    if !folder.join(WEIGHTS).is_file() {
        fail!(
            Missing,
            "there is no `{WEIGHTS}`; save the adapter with `save_pretrained(..., safe_serialization=True)`"
        );
    }
    let mut layers = Layers::default();
    let weights = Weights::open(&folder.join(WEIGHTS))?;
    for (name, tensor) in weights.iter() {
        let inner = name.strip_prefix(PREFIX).unwrap_or(name);
        let split = |part: &str| inner.split_once(part).filter(|(_, rest)| rest.ends_with("weight"));
        match (split(".lora_A."), split(".lora_B.")) {
            (Some((module, _)), _) => layers.insert(format!("{module}.weight"), 0, tensor),
            (_, Some((module, _))) => layers.insert(format!("{module}.weight"), 1, tensor),
            _ if inner.contains(".lora_") => layers.others.push(inner.to_owned()),
            _ => fail!(
                Unsupported,
                "`{inner}` replaces a weight as a whole, which is not supported; merge the adapter into its model with \
                 peft"
            ),
        }
    }
    layers.finish(|weight, rank| config.scale(weight.strip_suffix(".weight").unwrap_or(weight), rank))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_follow_patterns_and_roots() {
        let text = r#"{"peft_type": "LORA", "r": 8, "lora_alpha": 16, "rank_pattern": {"k_proj": 4},
            "alpha_pattern": {"^model.layers.1.self_attn.q_proj": 4, "down_proj$": 2}}"#;
        let config: Config = parse(text).unwrap();
        let scale = |module: &str, rank| config.scale(module, rank).unwrap();
        assert_eq!(scale("model.layers.0.self_attn.q_proj", 8), 2.0);
        assert_eq!(scale("model.layers.1.self_attn.q_proj", 8), 0.5);
        assert_eq!(scale("model.layers.1.self_attn.k_proj", 4), 4.0);
        assert_eq!(scale("model.layers.1.mlp.down_proj", 8), 0.25);
        assert!(config.scale("model.layers.1.self_attn.k_proj", 8).is_err(), "the rank is another");
        let config: Config = parse(r#"{"r": 16, "lora_alpha": 16, "use_rslora": true}"#).unwrap();
        assert_eq!(config.scale("x", 16).unwrap(), 4.0);
        let config: Config = parse(r#"{"r": 16}"#).unwrap();
        assert_eq!(config.scale("x", 16).unwrap(), 0.5, "peft takes 8 for `lora_alpha`");
        let config: Config = parse(r#"{"r": 16, "alpha_pattern": {"q_(a|b)": 1}}"#).unwrap();
        assert!(config.scale("x", 16).is_err());
    }

    #[test]
    fn what_is_more_than_low_rank_is_refused_by_name() {
        let refused = |text: &str| parse::<Config>(text).unwrap().check().unwrap_err().to_string();
        assert!(refused(r#"{"peft_type": "LOHA"}"#).contains("LOHA"));
        assert!(refused(r#"{"use_dora": true}"#).contains("`use_dora`"));
        assert!(refused(r#"{"layer_replication": [[0, 2], [1, 3]]}"#).contains("`layer_replication`"));
        assert!(refused(r#"{"alora_invocation_tokens": [5, 6]}"#).contains("`alora_invocation_tokens`"));
        assert!(refused(r#"{"modules_to_save": ["lm_head"]}"#).contains("`lm_head`"));
    }
}

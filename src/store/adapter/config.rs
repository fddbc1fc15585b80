//! `adapter_config.json` as PEFT 0.21 writes it, for plain LoRA.
//!
//! Unknown fields are ignored; known ones that change what the adapter computes and that latrod
//! does not compute are refused by name. Dropout and the kinds of initialization that leave the
//! base model unchanged only matter for training in PEFT.

use std::io;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::StoreError;
use super::super::durable::{create_folder, write_atomic};
use super::super::json::read_text;
use crate::arch::lora::Target;

/// PEFT's name for the configuration file.
pub const CONFIG_FILE: &str = "adapter_config.json";
/// The largest configuration that is read, in bytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// The highest rank that is accepted.
const MAX_RANK: usize = 4096;

/// Fields that must be absent, null, false, empty or zero.
const UNSUPPORTED: [&str; 22] = [
    "use_rslora",
    "use_dora",
    "fan_in_fan_out",
    "modules_to_save",
    "rank_pattern",
    "alpha_pattern",
    "layers_to_transform",
    "layers_pattern",
    "layer_replication",
    "exclude_modules",
    "target_parameters",
    "trainable_token_indices",
    "lora_bias",
    "megatron_config",
    "alora_invocation_tokens",
    "use_qalora",
    "use_bdlora",
    "arrow_config",
    "kasa_config",
    "velora_config",
    "monteclora_config",
    "loftq_config",
];

/// Values of `init_lora_weights` that do not change the base model's weights.
const HARMLESS_INIT: [&str; 3] = ["gaussian", "eva", "orthogonal"];

/// What a plain LoRA adapter is.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterConfig {
    /// The rank.
    pub r: usize,
    /// The update is scaled by `lora_alpha / r`.
    pub lora_alpha: f64,
    /// The adapted layers, in the order of [`Target::ALL`], each once.
    pub target_modules: Vec<Target>,
    /// The model that the adapter was made for, as people know it.
    pub base_model_name_or_path: Option<String>,
}

#[derive(Deserialize)]
struct Fields {
    r: usize,
    lora_alpha: f64,
    target_modules: Value,
    #[serde(default)]
    base_model_name_or_path: Option<String>,
}

impl AdapterConfig {
    /// The factor of the update, `lora_alpha / r`.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "the rank is at most 4096")]
    pub fn scale(&self) -> f64 {
        self.lora_alpha / self.r as f64
    }

    /// Reads `adapter_config.json` in `dir`.
    ///
    /// # Errors
    /// [`StoreError::Io`] if it cannot be read, [`StoreError::Config`] if it is not a LoRA
    /// configuration, [`StoreError::Unsupported`] with the field that asks for more than plain
    /// LoRA.
    pub fn read(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(CONFIG_FILE);
        let text = read_text(&path, MAX_CONFIG_BYTES)?;
        Self::parse(&text, &path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, StoreError> {
        let invalid = |reason: String| StoreError::Config { path: path.to_owned(), reason };
        let fields: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?;
        refuse_unsupported(&fields, path)?;
        let fields: Fields = serde_json::from_value(Value::Object(fields))
            .map_err(|error| invalid(error.to_string()))?;
        if !(1..=MAX_RANK).contains(&fields.r) {
            return Err(invalid(format!("r is {}, expected 1 to {MAX_RANK}", fields.r)));
        }
        if !fields.lora_alpha.is_finite() {
            return Err(invalid("lora_alpha is not a number".into()));
        }
        Ok(Self {
            r: fields.r,
            lora_alpha: fields.lora_alpha,
            target_modules: targets(&fields.target_modules, path)?,
            base_model_name_or_path: fields.base_model_name_or_path,
        })
    }

    /// Writes `adapter_config.json` into `dir`, durably.
    ///
    /// # Errors
    /// [`StoreError::Unstorable`] if a field is out of bounds, [`StoreError::Io`].
    pub fn write(&self, dir: &Path) -> Result<(), StoreError> {
        create_folder(dir)?;
        let path = dir.join(CONFIG_FILE);
        let value = self.to_json();
        // What cannot be read back must not be written.
        Self::parse(&value.to_string(), &path).map_err(|error| StoreError::Unstorable {
            what: "the adapter's configuration".into(),
            reason: error.to_string(),
        })?;
        write_atomic(&path, |w| {
            serde_json::to_writer_pretty(&mut *w, &value).map_err(io::Error::from)?;
            w.write_all(b"\n")
        })
    }

    fn to_json(&self) -> Value {
        let modules: Vec<_> = self.target_modules.iter().map(|t| t.peft_name()).collect();
        json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": self.base_model_name_or_path,
            "inference_mode": true,
            "r": self.r,
            "lora_alpha": number(self.lora_alpha),
            "lora_dropout": 0.0,
            "target_modules": modules,
            "bias": "none",
            "fan_in_fan_out": false,
            "init_lora_weights": true,
            "use_rslora": false,
            "use_dora": false,
            "modules_to_save": null,
            "rank_pattern": {},
            "alpha_pattern": {},
        })
    }
}

/// PEFT declares `lora_alpha` as an integer, so whole numbers are written as such.
fn number(value: f64) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "checked to be a small whole number")]
    if value.fract() == 0.0 && value.abs() < 1e15 { json!(value as i64) } else { json!(value) }
}

fn refuse_unsupported(fields: &Map<String, Value>, path: &Path) -> Result<(), StoreError> {
    let refuse = |feature: &str, found: &Value| {
        let mut found = found.to_string();
        if found.chars().count() > 60 {
            found = found.chars().take(60).chain(['…']).collect();
        }
        StoreError::Unsupported { path: path.to_owned(), feature: feature.to_owned(), found }
    };
    let must_be = |feature: &str, harmless: &dyn Fn(&Value) -> bool| match fields.get(feature) {
        Some(value) if !harmless(value) => Err(refuse(feature, value)),
        _ => Ok(()),
    };
    if !fields.contains_key("peft_type") {
        return Err(StoreError::Config {
            path: path.to_owned(),
            reason: "it has no peft_type".into(),
        });
    }
    must_be("peft_type", &|value| value == "LORA")?;
    must_be("bias", &|value| value.is_null() || value == "none")?;
    must_be("init_lora_weights", &|value| {
        value.is_null() || value.is_boolean() || HARMLESS_INIT.iter().any(|name| value == name)
    })?;
    for feature in UNSUPPORTED {
        must_be(feature, &is_off)?;
    }
    Ok(())
}

fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

fn targets(value: &Value, path: &Path) -> Result<Vec<Target>, StoreError> {
    let unsupported = |found: &Value| StoreError::Unsupported {
        path: path.to_owned(),
        feature: "target_modules".into(),
        found: found.to_string(),
    };
    // A string is a regular expression over module names.
    let names = value.as_array().ok_or_else(|| unsupported(value))?;
    let mut targets = Vec::new();
    for name in names {
        let target = Target::ALL.into_iter().find(|target| {
            name.as_str().is_some_and(|name| {
                let bare =
                    name.strip_prefix(target.peft_parent()).and_then(|n| n.strip_prefix('.'));
                bare.unwrap_or(name) == target.peft_name()
            })
        });
        targets.push(target.ok_or_else(|| unsupported(name))?);
    }
    targets.sort_unstable();
    targets.dedup();
    if targets.is_empty() {
        return Err(StoreError::Config {
            path: path.to_owned(),
            reason: "target_modules is empty".into(),
        });
    }
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> AdapterConfig {
        AdapterConfig {
            r: 8,
            lora_alpha: 16.0,
            target_modules: vec![Target::Q, Target::Down],
            base_model_name_or_path: Some("SmolLM2-135M".into()),
        }
    }

    fn parse(value: &Value) -> Result<AdapterConfig, StoreError> {
        AdapterConfig::parse(&value.to_string(), Path::new(CONFIG_FILE))
    }

    #[test]
    fn a_configuration_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        for lora_alpha in [16.0, 0.5] {
            let config = AdapterConfig { lora_alpha, ..config() };
            config.write(dir.path()).unwrap();

            assert_eq!(AdapterConfig::read(dir.path()).unwrap(), config);
        }
    }

    #[test]
    fn whole_alphas_are_written_as_integers() {
        assert_eq!(config().to_json()["lora_alpha"].to_string(), "16");
    }

    #[test]
    fn the_defaults_of_peft_are_read() {
        // `LoraConfig(r=4, target_modules=[…]).save_pretrained` in PEFT 0.21.2, shortened.
        let value = json!({
            "alora_invocation_tokens": null, "alpha_pattern": {}, "arrow_config": null,
            "auto_mapping": null, "base_model_name_or_path": "tiny", "bias": "none",
            "corda_config": null, "ensure_weight_tying": false, "exclude_modules": null,
            "fan_in_fan_out": false, "inference_mode": true, "init_lora_weights": true,
            "layer_replication": null, "layers_pattern": null, "layers_to_transform": null,
            "loftq_config": {}, "lora_alpha": 8, "lora_bias": false, "lora_dropout": 0.0,
            "megatron_config": null, "megatron_core": "megatron.core", "modules_to_save": null,
            "peft_type": "LORA", "peft_version": "0.21.2", "qalora_group_size": 16, "r": 4,
            "rank_pattern": {}, "target_modules": ["v_proj", "q_proj", "mlp.up_proj"],
            "target_parameters": null, "task_type": "CAUSAL_LM", "use_dora": false,
            "use_qalora": false, "use_rslora": false,
        });

        let config = parse(&value).unwrap();

        assert_eq!((config.r, config.lora_alpha, config.scale()), (4, 8.0, 2.0));
        assert_eq!(config.target_modules, [Target::Q, Target::V, Target::Up]);
    }

    #[test]
    fn what_is_not_computed_is_refused_by_name() {
        let cases = [
            ("use_rslora", json!(true)),
            ("use_dora", json!(true)),
            ("bias", json!("all")),
            ("modules_to_save", json!(["lm_head"])),
            ("rank_pattern", json!({"q_proj": 2})),
            ("alpha_pattern", json!({"q_proj": 2})),
            ("layers_to_transform", json!([0])),
            ("layers_to_transform", json!(0)),
            ("target_modules", json!(".*q_proj")),
            ("target_modules", json!("all-linear")),
            ("target_modules", json!(["lm_head"])),
            ("peft_type", json!("IA3")),
            ("fan_in_fan_out", json!(true)),
            ("init_lora_weights", json!("pissa")),
        ];
        for (feature, value) in cases {
            let mut fields = config().to_json();
            fields[feature] = value;

            let error = parse(&fields).unwrap_err();

            assert!(matches!(error, StoreError::Unsupported { .. }), "{feature}: {error}");
            assert!(error.to_string().contains(feature), "{feature}: {error}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for (field, value) in [
            ("r", json!(0)),
            ("r", json!(-1)),
            ("r", json!(1_000_000_000)),
            ("lora_alpha", json!("x")),
            ("target_modules", json!([])),
        ] {
            let mut fields = config().to_json();
            fields[field] = value;
            assert!(matches!(parse(&fields), Err(StoreError::Config { .. })), "{field}");
        }
        assert!(parse(&json!({"r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]})).is_err());
        assert!(AdapterConfig::parse("[1]", Path::new("c")).is_err());
        assert!(AdapterConfig::parse("{\"r\": 1e999}", Path::new("c")).is_err());
    }
}

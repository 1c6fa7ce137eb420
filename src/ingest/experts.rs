//! Mixtures of experts.

use serde_json::Value;

use crate::ingest::error::ConfigError;
use crate::ingest::fields::{Fields, limit, wrong_type};
use crate::model::config::{ExpertsConfig, Family};

/// Reads a family's experts; `None` where it has none.
pub(super) fn read(
    fields: &mut Fields<'_>,
    family: Family,
    layers: u64,
) -> Result<Option<ExpertsConfig>, ConfigError> {
    let experts = match family {
        Family::Mixtral => mixtral(fields, layers)?,
        Family::Qwen3Moe => qwen3_moe(fields, layers)?,
        _ => return Ok(None),
    };
    if fields.switch("output_router_logits", false)? {
        return Err(ConfigError::Unsupported {
            key: "output_router_logits",
            value: "true".to_owned(),
            supported: "training without the router's own loss",
        });
    }
    if experts.per_token > experts.count {
        return Err(ConfigError::Contradiction(format!(
            "`num_experts_per_tok` is {}, and there are {} experts",
            experts.per_token, experts.count
        )));
    }
    Ok(Some(experts))
}

fn mixtral(fields: &mut Fields<'_>, layers: u64) -> Result<ExpertsConfig, ConfigError> {
    if fields.dropout("router_jitter_noise", 0.0)? > 0.0 {
        return Err(ConfigError::Unsupported {
            key: "router_jitter_noise",
            value: "above 0".to_owned(),
            supported: "no noise",
        });
    }
    Ok(ExpertsConfig {
        count: fields.size_or("num_local_experts", limit::EXPERTS, 8)?,
        per_token: fields.size_or("num_experts_per_tok", limit::EXPERTS, 2)?,
        intermediate_size: fields.size("intermediate_size", limit::INTERMEDIATE)?,
        normalized: true,
        sparse_layers: vec![true; layers as usize],
    })
}

/// A layer has experts unless `mlp_only_layers` names it, or `decoder_sparse_step` leaves it out.
fn qwen3_moe(fields: &mut Fields<'_>, layers: u64) -> Result<ExpertsConfig, ConfigError> {
    let step = fields.optional_size("decoder_sparse_step", limit::LAYERS)?.unwrap_or(1);
    let dense = match fields.get("mlp_only_layers") {
        None => Vec::new(),
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_u64).collect(),
        Some(other) => return Err(wrong_type("mlp_only_layers", other, "a list of layers")),
    };
    let sparse_layers = (0..layers)
        .map(|layer| !dense.contains(&layer) && (layer + 1).is_multiple_of(step))
        .collect();
    Ok(ExpertsConfig {
        count: fields.size_or("num_experts", limit::EXPERTS, 128)?,
        per_token: fields.size_or("num_experts_per_tok", limit::EXPERTS, 8)?,
        intermediate_size: fields.size_or("moe_intermediate_size", limit::INTERMEDIATE, 768)?,
        normalized: fields.switch("norm_topk_prob", false)?,
        sparse_layers,
    })
}

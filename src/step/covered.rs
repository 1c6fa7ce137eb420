//! What is refused: setups that the traces are not right for yet.

use crate::model::config::{ModelConfig, Problem, Task};
use crate::model::quantize::Quantize;
use crate::model::tuning::Tuning;
use crate::model::versions::MODERNBERT_AS_OTHERS;
use crate::step::StepError;
use crate::step::setup::{
    Attention, AttentionMask, Checkpointing, Loss, Precision, Setup, Version,
};

/// Refuses what the traces are not right for yet; a wrong answer costs more than none.
pub fn covered(model: &ModelConfig, setup: &Setup) -> Result<(), StepError> {
    let refuse = |what: String| Err(StepError::NotYet(what));
    if setup.attention == Attention::Sdpa && model.refuses_sdpa(setup.transformers) {
        return Err(StepError::SdpaRefused(model.model_type()));
    }
    if setup.attention == Attention::Flash {
        flash_covered(model, setup)?;
    }
    if setup.checkpointing != Checkpointing::None && model.refuses_checkpointing() {
        return Err(StepError::CheckpointingRefused(model.model_type()));
    }
    let has_no_such_region = match (model, setup.checkpointing) {
        (_, Checkpointing::None | Checkpointing::Full) => false,
        // Its stages are counted among the layers.
        (ModelConfig::Swin(_), _) => true,
        // Layers of a decoder have two attentions.
        (ModelConfig::T5(_) | ModelConfig::Bart(_) | ModelConfig::Whisper(_), by) => {
            by == Checkpointing::Attention
        }
        _ => false,
    };
    if has_no_such_region {
        return refuse(format!("checkpointing {} on {}", setup.checkpointing, model.model_type()));
    }
    if let Some(head_dim) = model.head_dim()
        && setup.precision.is_half()
        && !head_dim.is_multiple_of(8)
    {
        return refuse(format!("a head size of {head_dim} in 16 bits"));
    }
    if setup.loss == Loss::Fused {
        fused_loss_covered(model)?;
    }
    // "Found dtype Float but expected BFloat16", on 2.8; 2.15 casts. Where between them it changed is
    // not known. DeBERTa casts its logits itself, unless `problem_type` is said.
    let casts = matches!(model, ModelConfig::Deberta(c) if !c.names_problem);
    if model.problem() == Some(Problem::Numbers)
        && matches!(setup.precision, Precision::Bf16 | Precision::Fp16)
        && setup.torch < Version::new(2, 15)
        && !casts
    {
        return Err(StepError::HalfRegression);
    }
    match model {
        ModelConfig::Decoder(c) if c.lacks_class(setup.transformers) => {
            Err(StepError::NoClass(model.model_type(), model.task().name()))
        }
        ModelConfig::Decoder(c) if c.experts.is_some() => experts_covered(setup),
        // What torch.compile makes of it was not worked out.
        ModelConfig::ModernBert(c)
            if c.reference_compile && setup.transformers < MODERNBERT_AS_OTHERS =>
        {
            refuse(
                "modernbert compiled, as transformers before 5.1 does unless `reference_compile` is false,"
                    .to_owned(),
            )
        }
        // Not run: the oracle's cuDNN refuses depthwise convolutions of bfloat16 there.
        ModelConfig::ConvNext(_)
            if matches!(setup.precision, Precision::Bf16 | Precision::AmpBf16)
                && setup.torch > Version::new(2, 8) =>
        {
            Err(StepError::NoBfloat16(model.model_type()))
        }
        ModelConfig::Gpt2(c)
            if c.reorder_and_upcast_attn && setup.attention == Attention::Eager =>
        {
            refuse("reorder_and_upcast_attn".to_owned())
        }
        _ => Ok(()),
    }
}

/// Refuses quantized models that bitsandbytes' linear layers were not compared in.
pub fn quantize_covered(
    model: &ModelConfig,
    tuning: &Tuning,
    setup: &Setup,
    how: Quantize,
) -> Result<(), StepError> {
    let refuse = |what: &str| Err(StepError::NotYet(format!("quantize {} {what}", how.name())));
    if tuning.lora.is_none() {
        return Err(StepError::NothingOnQuantized(how.name()));
    }
    // What is in float32 would be cast to the format of a quantized weight.
    let autocast = matches!(setup.precision, Precision::AmpBf16 | Precision::AmpFp16);
    if setup.attention == Attention::Flash && !autocast {
        return refuse("with attention flash and without autocast");
    }
    match model {
        _ if model.has_experts() => refuse("of a mixture of experts"),
        ModelConfig::Gpt2(_) => refuse("of gpt2, whose layers are no nn.Linear"),
        // `masked_fill(..., torch.finfo(query_layer.dtype).min)`, 5.23 and 4.56.
        ModelConfig::Deberta(_) if autocast => Err(StepError::FillsTooWide(model.model_type())),
        _ => Ok(()),
    }
}

/// Refuses what flash-attn does not run, and what of it was not worked out.
///
/// Source: `csrc/flash_attn/flash_api.cpp` (`mha_fwd`).
fn flash_covered(model: &ModelConfig, setup: &Setup) -> Result<(), StepError> {
    if setup.precision == Precision::Fp32 {
        return Err(StepError::FlashRefuses("float32"));
    }
    if setup.gpu.compute_capability < (8, 0) {
        return Err(StepError::FlashRefuses("a GPU before compute capability 8.0"));
    }
    if model.head_dim().is_some_and(|size| size > 256) {
        return Err(StepError::FlashRefuses("heads of more than 256"));
    }
    let not_yet = match model {
        ModelConfig::Decoder(_) if setup.attention_mask != AttentionMask::Ones => {
            "with another mask than ones".to_owned()
        }
        ModelConfig::Decoder(_) if setup.transformers < Version::new(5, 0) => {
            "with transformers before 5.0".to_owned()
        }
        ModelConfig::Decoder(_) => return Ok(()),
        // It runs on tokens without padding, whose number is not known before.
        ModelConfig::ModernBert(_) => "on modernbert, which leaves padding out".to_owned(),
        _ => format!("on {}", model.model_type()),
    };
    Err(StepError::NotYet(format!("attention flash {not_yet}")))
}

/// Refuses models that Liger does not patch, in 0.6.2 (transformers 4) and 0.8.5 (5) the same.
fn fused_loss_covered(model: &ModelConfig) -> Result<(), StepError> {
    let is_patched = matches!(model, ModelConfig::Decoder(c) if c.family.has_fused_loss());
    if !is_patched {
        return Err(StepError::NoFusedLoss(model.model_type().to_owned()));
    }
    if model.task() != Task::CausalLm {
        let what = format!("{} for {}", model.model_type(), model.task().name());
        return Err(StepError::NoFusedLoss(what));
    }
    Ok(())
}

/// From transformers 5 on, experts are covered where they are multiplied by group: on a PyTorch and
/// a GPU that can.
///
/// Source: `_can_use_grouped_mm` in transformers' `integrations/moe.py`.
fn experts_covered(setup: &Setup) -> Result<(), StepError> {
    let refuse = |what: &str| Err(StepError::NotYet(format!("a mixture of experts {what}")));
    if setup.transformers < Version::new(5, 0) {
        return Ok(());
    }
    if setup.torch < Version::new(2, 9) {
        return refuse("on a PyTorch before 2.9");
    }
    if setup.gpu.compute_capability < (8, 0) {
        return refuse("on a GPU before compute capability 8.0");
    }
    Ok(())
}

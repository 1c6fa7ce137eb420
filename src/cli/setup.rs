//! The setup flags, which every command that answers for a model shares, and their file form.

use std::path::PathBuf;

use crate::cli::gpu_select::GpuSelector;
use crate::cli::lora::LoraArg;
use crate::cli::schedule_args::{LengthsArg, ramp_up};
use crate::cli::values::{
    AllocatorArg, AttentionArg, AttentionMaskArg, CheckpointingArg, GradSyncArg, Headroom, LossArg,
    MicroBatchArg, OptimizerArg, ParallelArg, PrecisionArg, QuantizeArg, TaskArg, ZeroGradArg,
    count, norm, version,
};
use crate::model::freeze::Frozen;
use crate::plan::schedule::RampUp;
use crate::step::setup::Version;
use crate::units::Bytes;

macro_rules! setup_args {
    ($($(#[$attribute:meta])* $field:ident: $kind:ty,)+) => {
        /// How a model is trained and on what, as flags; also the keys of `oomph.toml`.
        #[derive(Debug, Clone, Default, PartialEq, clap::Args)]
        #[command(next_help_heading = "Setup")]
        pub struct SetupArgs {
            $($(#[$attribute])* pub $field: Option<$kind>,)+
        }

        impl SetupArgs {
            /// Fills what is not set from `other`: flags win over the file.
            #[must_use]
            pub fn or(self, other: SetupArgs) -> SetupArgs {
                SetupArgs { $($field: self.$field.or(other.$field),)+ }
            }
        }
    };
}

setup_args! {
    /// Train with N samples a forward and backward on one device, or `auto`: the largest that fits
    /// [default: auto; of estimate and advise 1]
    #[arg(long, value_name = "N|auto", allow_negative_numbers = true)]
    micro_batch: MicroBatchArg,
    /// Sum gradients over N micro-batches before one optimizer step [default: solved by plan, else 1]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    accumulation: u64,
    /// Aim at N samples an optimizer step, over all devices [default: what micro-batch and accumulation make]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    effective_batch: u64,
    /// Aim at N tokens an optimizer step, over all devices [default: none]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    effective_tokens: u64,
    /// Begin with fewer samples an optimizer step, and add to them until the effective batch is reached:
    /// `start=256,increment=128,samples=5000000` [default: none]
    #[arg(long, value_name = "start=N,...", value_parser = ramp_up)]
    ramp_up: RampUp,
    /// Use N tokens a sample [default: the smaller of 2048 and the model's maximum]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    seq_len: u64,
    /// Use so many tokens a sample one after the other, such as 2048,4096,8192 [default: none]
    #[arg(long, value_name = "N,N,...", allow_hyphen_values = true)]
    seq_len_schedule: LengthsArg,
    /// Use images of N by N pixels [default: the model's]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    image_size: u64,
    /// Train for this task [default: the one that config.json names, else what the model is made for]
    #[arg(long, value_name = "TASK")]
    task: TaskArg,
    /// Use N target tokens a sample of an encoder-decoder [default: the sequence length; of speech the most]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    label_len: u64,
    /// Hold weights and compute in this format [default: amp-bf16; amp-fp16 on a GPU without bf16]
    #[arg(long, value_name = "FORMAT")]
    precision: PrecisionArg,
    /// Step with this optimizer [default: adamw]
    #[arg(long, value_name = "NAME")]
    optimizer: OptimizerArg,
    /// Drop gradients after a step, or zero them in place [default: none]
    #[arg(long, value_name = "none|zero")]
    zero_grad: ZeroGradArg,
    /// Freeze parameters whose names match, such as `*embed*` (several with commas) [default: none]
    #[arg(long, value_name = "GLOB")]
    freeze: Frozen,
    /// Recompute activations in backward: none, full (each layer), attention (each layer's attention
    /// module) or every=N (the first layer and every N-th after it) [default: none]
    #[arg(long, value_name = "WHAT")]
    checkpointing: CheckpointingArg,
    /// Compute attention this way; flash is the package flash-attn
    /// [default: sdpa; eager where the model refuses it]
    #[arg(long, value_name = "KIND")]
    attention: AttentionArg,
    /// Pass this mask, as the collator does; it decides the attention kernel [default: ones]
    #[arg(long, value_name = "KIND")]
    attention_mask: AttentionMaskArg,
    /// Compute the loss this way: standard, or fused with the head (Liger's fused linear cross-entropy)
    /// [default: standard]
    #[arg(long, value_name = "KIND")]
    loss: LossArg,
    /// Train adapters alone: `r=16[,targets=q_proj+v_proj|all-linear][,dropout=0.05]`
    /// [default: none, all is trained]
    #[arg(long, value_name = "r=N,...")]
    lora: LoraArg,
    /// Hold the linear weights under adapters in fewer bits (bitsandbytes) [default: none]
    #[arg(long, value_name = "KIND")]
    quantize: QuantizeArg,
    /// Clip gradients to this norm [default: none]
    #[arg(long, value_name = "NORM", value_parser = norm, allow_negative_numbers = true)]
    clip: f64,
    /// Share work and state between devices this way; zero1 to fsdp are not worked out yet
    /// [default: none; ddp on several devices]
    #[arg(long, value_name = "KIND")]
    parallel: ParallelArg,
    /// Sum gradients over devices in every micro-step, or in the last alone (`no_sync`) [default: last]
    #[arg(long, value_name = "WHEN")]
    grad_sync: GradSyncArg,
    /// Train on N devices [default: what a launcher's environment says, else the chosen GPUs]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    world_size: u64,
    /// Split each layer over N devices; more than 1 is not worked out yet [default: 1]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    tensor_parallel: u64,
    /// Split the layers over N devices; more than 1 is not worked out yet [default: 1]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pipeline_parallel: u64,
    /// Split each sequence over N devices; more than 1 is not worked out yet [default: 1]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    context_parallel: u64,
    /// Leave this much free: a size or a percentage of the total
    /// [default: 3%; of a capacity that is given nothing]
    #[arg(long, value_name = "SIZE|PERCENT", allow_hyphen_values = true)]
    headroom: Headroom,
    /// Set PyTorch's caching allocator: default, or expandable (`expandable_segments:True`)
    /// [default: what PYTORCH_CUDA_ALLOC_CONF or PYTORCH_ALLOC_CONF says, else default]
    #[arg(long, value_name = "KIND")]
    allocator: AllocatorArg,
    /// Assume this PyTorch version [default: the installed one, else the newest known]
    #[arg(long, value_name = "VERSION", value_parser = version)]
    torch: Version,
    /// Assume this transformers version [default: the installed one, else the newest known]
    #[arg(long, value_name = "VERSION", value_parser = version)]
    transformers: Version,
    /// Choose GPUs: all, 0,2, a UUID, or a simulated one: sim:h100-80gb, sim:a100-40gb*8, sim:24GiB
    /// [default: all; estimate asks none, and assumes an A100]
    #[arg(long, value_name = "GPU", help_heading = "Device")]
    gpu: GpuSelector,
    /// Give the caching allocator this much, instead of asking a GPU; `probe` takes no more of one
    /// [default: what is free on the GPU, less what is beside the allocator]
    #[arg(long, value_name = "SIZE", help_heading = "Device", allow_hyphen_values = true)]
    capacity: Bytes,
}

/// MODEL and the setup, as every command that answers for a model takes them.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct ModelArgs {
    /// A profile's name (see `oomph profiles list`), a config.json or a folder that holds one
    #[arg(value_name = "MODEL")]
    pub model: String,
    /// Read setup keys from this file [default: oomph.toml in the working folder, if there]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The setup flags.
    #[command(flatten)]
    pub setup: SetupArgs,
}

//! The values of the setup flags, by the names that DESIGN.md settles, and their parsers.
//!
//! Every name parses, also those whose support comes later: `support` decides which are refused.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;

use crate::step::setup::Version;
use crate::units::Bytes;

/// The largest count that any flag takes; beyond it a number is a slip of the hand.
pub const MAX_COUNT: u64 = 1_000_000_000;

/// Parses a count of at least one.
///
/// # Errors
/// Names the value and the cure, for zero, negative, fractional, grouped and huge numbers.
pub fn count(text: &str) -> Result<u64, String> {
    let digits = text.trim();
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(if digits.starts_with('-') {
            "must be a whole number of at least 1, not negative".to_owned()
        } else {
            "must be a whole number of at least 1, in plain digits".to_owned()
        });
    }
    match digits.parse::<u64>() {
        Ok(0) => Err("must be at least 1".to_owned()),
        Ok(n) if n <= MAX_COUNT => Ok(n),
        _ => Err(format!("must be at most {MAX_COUNT}")),
    }
}

/// `--micro-batch`: a count, or `auto` for the largest that fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MicroBatchArg {
    /// The largest that fits (`estimate` without a capacity: 1).
    Auto,
    /// Exactly this many.
    Fixed(u64),
}

impl FromStr for MicroBatchArg {
    type Err = String;
    fn from_str(text: &str) -> Result<MicroBatchArg, String> {
        if text == "auto" {
            return Ok(MicroBatchArg::Auto);
        }
        count(text).map(MicroBatchArg::Fixed).map_err(|e| format!("{e}, or `auto`"))
    }
}

/// `--headroom`: what is left free on purpose.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Headroom {
    /// A size.
    Size(Bytes),
    /// A percentage of the GPU's total, or of `--capacity`.
    Percent(f64),
}

impl Headroom {
    /// What is left free unless the user says otherwise: 3% (DESIGN.md).
    pub const DEFAULT: Headroom = Headroom::Percent(3.0);

    /// Returns the bytes to leave free on a device (or capacity) of `total` bytes.
    pub fn of(self, total: Bytes) -> Bytes {
        match self {
            Headroom::Size(size) => size,
            Headroom::Percent(percent) => total.percent(percent),
        }
    }
}

impl FromStr for Headroom {
    type Err = String;
    fn from_str(text: &str) -> Result<Headroom, String> {
        let Some(number) = text.trim().strip_suffix('%') else {
            return text
                .parse()
                .map(Headroom::Size)
                .map_err(|e| format!("{e}, or a percentage such as 3%"));
        };
        match number.trim().parse::<f64>() {
            Ok(percent) if (0.0..100.0).contains(&percent) => Ok(Headroom::Percent(percent)),
            _ => Err("a percentage must be at least 0% and below 100%".to_owned()),
        }
    }
}

impl fmt::Display for Headroom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Headroom::Size(size) => write!(f, "{size}"),
            Headroom::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// Parses `2.8` or `2.15.0` as a version: major and minor.
///
/// # Errors
/// Says how a version is written.
pub fn version(text: &str) -> Result<Version, String> {
    let release = text.split('+').next().unwrap_or_default();
    let mut parts = release.split('.').map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok(Version::new(major, minor)),
        _ => Err("must be a version such as 2.8".to_owned()),
    }
}

/// Parses the norm of `--clip`.
///
/// # Errors
/// For what is no positive, finite number.
pub fn norm(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(norm) if norm > 0.0 && norm.is_finite() => Ok(norm),
        _ => Err("must be a number above 0, such as 1.0".to_owned()),
    }
}

/// `--checkpointing`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckpointingArg {
    /// Keep every activation.
    None,
    /// Recompute each layer from its input.
    Full,
    /// Recompute attention alone.
    Attention,
    /// Recompute the first layer and every n-th after it.
    Every(u64),
}

impl FromStr for CheckpointingArg {
    type Err = String;
    fn from_str(text: &str) -> Result<CheckpointingArg, String> {
        match text {
            "none" => Ok(CheckpointingArg::None),
            "full" => Ok(CheckpointingArg::Full),
            "attention" => Ok(CheckpointingArg::Attention),
            _ => match text.strip_prefix("every=") {
                Some(n) => count(n).map(CheckpointingArg::Every),
                None => Err("must be none, full, attention or every=N".to_owned()),
            },
        }
    }
}

impl fmt::Display for CheckpointingArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CheckpointingArg::None => f.write_str("none"),
            CheckpointingArg::Full => f.write_str("full"),
            CheckpointingArg::Attention => f.write_str("attention"),
            CheckpointingArg::Every(n) => write!(f, "every={n}"),
        }
    }
}

macro_rules! value_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
        pub enum $name {
            $($(#[$variant_doc])* #[value(name = $text)] $variant,)+
        }

        impl $name {
            /// Returns the name on the command line.
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)+ }
            }
        }
    };
}

value_enum! {
    /// `--task`: what is trained, which decides the head and the loss.
    TaskArg {
        /// Next-token prediction.
        CausalLm = "causal-lm",
        /// Masked-token prediction.
        MaskedLm = "masked-lm",
        /// Sequence to sequence.
        Seq2SeqLm = "seq2seq-lm",
        /// One label a sequence.
        SequenceClassification = "sequence-classification",
        /// One label a token.
        TokenClassification = "token-classification",
        /// One label an image.
        ImageClassification = "image-classification",
        /// Speech to text.
        SpeechSeq2Seq = "speech-seq2seq",
    }
}

value_enum! {
    /// `--precision`: `bf16` and `fp16` hold weights, gradients and optimizer state in it; `amp-*` is
    /// fp32 weights under autocast.
    PrecisionArg {
        /// All in float32.
        Fp32 = "fp32",
        /// All in bfloat16: weights, gradients and optimizer state.
        Bf16 = "bf16",
        /// All in float16: weights, gradients and optimizer state.
        Fp16 = "fp16",
        /// Weights in float32, autocast to bfloat16.
        AmpBf16 = "amp-bf16",
        /// Weights in float32, autocast to float16, with a gradient scaler.
        AmpFp16 = "amp-fp16",
    }
}

value_enum! {
    /// `--optimizer`.
    OptimizerArg {
        /// PyTorch's default implementation of AdamW: foreach.
        AdamW = "adamw",
        /// `fused=True`.
        AdamWFused = "adamw-fused",
        /// `foreach=False`.
        AdamWLoop = "adamw-loop",
        /// bitsandbytes.
        AdamW8Bit = "adamw-8bit",
        /// bitsandbytes, paged.
        PagedAdamW8Bit = "paged-adamw-8bit",
        /// bitsandbytes by the Hugging Face Trainer: embeddings in 32 bits.
        AdamW8BitHf = "adamw-8bit-hf",
        /// The same, paged.
        PagedAdamW8BitHf = "paged-adamw-8bit-hf",
        /// Without momentum.
        Sgd = "sgd",
        /// With momentum.
        SgdMomentum = "sgd-momentum",
        /// Hugging Face's.
        Adafactor = "adafactor",
    }
}

value_enum! {
    /// `--zero-grad`: whether gradients are dropped or zeroed in place.
    ZeroGradArg {
        /// `set_to_none=True`.
        None = "none",
        /// `set_to_none=False`.
        Zero = "zero",
    }
}

value_enum! {
    /// `--attention`: the implementation that transformers is asked for.
    AttentionArg {
        /// `scaled_dot_product_attention`.
        Sdpa = "sdpa",
        /// Written out.
        Eager = "eager",
        /// flash-attn.
        Flash = "flash",
    }
}

value_enum! {
    /// `--attention-mask`: what the collator passes.
    AttentionMaskArg {
        /// A mask without padding.
        Ones = "ones",
        /// A mask with padding.
        Padded = "padded",
        /// No mask.
        None = "none",
    }
}

value_enum! {
    /// `--loss`.
    LossArg {
        /// Cross-entropy on the logits.
        Standard = "standard",
        /// Fused with the output head.
        Fused = "fused",
    }
}

value_enum! {
    /// `--quantize`.
    QuantizeArg {
        /// As the precision says.
        None = "none",
        /// bitsandbytes, 8 bit.
        Int8 = "int8",
        /// bitsandbytes, 4 bit.
        Nf4 = "nf4",
    }
}

value_enum! {
    /// `--parallel`.
    ParallelArg {
        /// Each device on its own.
        None = "none",
        /// DistributedDataParallel.
        Ddp = "ddp",
        /// ZeRO stage 1.
        Zero1 = "zero1",
        /// ZeRO stage 2.
        Zero2 = "zero2",
        /// ZeRO stage 3.
        Zero3 = "zero3",
        /// FullyShardedDataParallel.
        Fsdp = "fsdp",
    }
}

value_enum! {
    /// `--grad-sync`: when gradients are summed over the devices.
    GradSyncArg {
        /// In every micro-step.
        Every = "every",
        /// In the last micro-step of an optimizer step.
        Last = "last",
    }
}

value_enum! {
    /// `--allocator`: PyTorch's caching allocator, with or without expandable segments.
    AllocatorArg {
        /// As PyTorch comes.
        Default = "default",
        /// `expandable_segments:True`.
        Expandable = "expandable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_refuse_zero_negative_fractions_and_huge_numbers() {
        assert_eq!(count("8"), Ok(8));
        for bad in ["0", "-3", "1.5", "2,048", "1e3", "", "99999999999999999999", "4000000000"] {
            assert!(count(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_norm_is_a_positive_number() {
        assert_eq!(norm("1.0"), Ok(1.0));
        for bad in ["0", "-1", "inf", "nan", "one", ""] {
            assert!(norm(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn headroom_is_a_size_or_a_percentage() {
        assert_eq!("3%".parse(), Ok(Headroom::Percent(3.0)));
        assert_eq!("2GiB".parse(), Ok(Headroom::Size(Bytes::gib(2))));
        assert!("3".parse::<Headroom>().is_err_and(|e| e.contains("unit")));
        assert!("100%".parse::<Headroom>().is_err());
        assert_eq!(Headroom::Percent(50.0).of(Bytes::gib(80)), Bytes::gib(40));
    }

    #[test]
    fn versions_take_major_and_minor() {
        assert_eq!(version("2.15.0+cu130"), Ok(Version::new(2, 15)));
        assert!(version("2").is_err());
    }
}

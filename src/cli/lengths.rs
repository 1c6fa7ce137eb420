//! How many tokens a sample has, read and written.

use crate::cli::error::CliError;
use crate::cli::schedule_args::LengthsArg;
use crate::cli::settings::Assumed;
use crate::cli::setup::SetupArgs;
use crate::cli::support;
use crate::model::config::ModelConfig;

/// The longest sequence that is worked out: twice what any model is made for.
const MAX_SEQ_LEN: u64 = 1 << 22;

/// Tokens a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lengths {
    /// Tokens that the model reads.
    pub seq_len: u64,
    /// Tokens that an encoder-decoder is to write.
    pub label_len: Option<u64>,
}

/// Puts flags and defaults together.
///
/// # Errors
/// For lengths that the model does not take, and for flags that mean nothing to it.
pub fn resolve(
    args: &SetupArgs,
    model: &ModelConfig,
    assumed: &mut Assumed,
    notes: &mut Vec<String>,
) -> Result<Lengths, CliError> {
    let seq_len = match model.image_size() {
        Some(size) => {
            support::refuse_tokens(args)?;
            assumed.images(size, args.image_size.is_none());
            model.max_seq_len()
        }
        None if model.reads_audio() => {
            support::refuse_lengths_of_audio(args)?;
            assumed.audio(model.max_seq_len());
            model.max_seq_len()
        }
        None => {
            let scheduled = args.seq_len_schedule.as_ref().map(LengthsArg::longest);
            if let (Some(seq_len), Some(_)) = (args.seq_len, scheduled) {
                let fact = "--seq-len and --seq-len-schedule are both given";
                return Err(CliError::usage(fact).hint(format!("leave --seq-len {seq_len} out")));
            }
            let seq_len = args.seq_len.or(scheduled).unwrap_or_else(|| {
                let default = model.max_seq_len().min(2048);
                assumed.note("seq-len", &default.to_string());
                default
            });
            if scheduled.is_some() {
                assumed
                    .line(format!("of --seq-len-schedule the longest: {seq_len} tokens a sample"));
            }
            let flag = if scheduled.is_some() { "--seq-len-schedule" } else { "--seq-len" };
            check((flag, seq_len, model.max_seq_len()), model, notes)?;
            seq_len
        }
    };
    Ok(Lengths { seq_len, label_len: label_len(args, model, seq_len, assumed, notes)? })
}

fn label_len(
    args: &SetupArgs,
    model: &ModelConfig,
    seq_len: u64,
    assumed: &mut Assumed,
    notes: &mut Vec<String>,
) -> Result<Option<u64>, CliError> {
    let Some(most) = model.max_label_len() else {
        let Some(given) = args.label_len else { return Ok(None) };
        let fact = format!("--label-len {given}: a {} is no encoder-decoder", model.model_type());
        return Err(CliError::usage(fact)
            .cause("its labels are as long as what it reads, or one a sample")
            .hint("leave --label-len out"));
    };
    let label_len = args.label_len.unwrap_or_else(|| {
        let default = if model.reads_audio() { most } else { seq_len };
        assumed.note("label-len", &default.to_string());
        default
    });
    check(("--label-len", label_len, most), model, notes)?;
    Ok(Some(label_len))
}

/// Learned positions end at the model's maximum: PyTorch raises an index error beyond it. Rotary
/// ones go on, and transformers says nothing in training.
fn check(
    (flag, length, most): (&str, u64, u64),
    model: &ModelConfig,
    notes: &mut Vec<String>,
) -> Result<(), CliError> {
    if length > MAX_SEQ_LEN {
        return Err(CliError::usage(format!("{flag} {length} is out of range"))
            .hint(format!("{flag} {MAX_SEQ_LEN} at most; the model is made for {most}")));
    }
    if length <= most {
        return Ok(());
    }
    if model.has_learned_positions() {
        return Err(CliError::usage(format!("{flag} {length} is more than the model's {most}"))
            .cause("its positions are learned: PyTorch stops with an index out of range")
            .hint(format!("{flag} {most}")));
    }
    notes.push(format!(
        "{flag} {length} is beyond the {most} that the model is made for; it runs, since its positions \
         are {}",
        if model.max_label_len().is_some() { "relative" } else { "rotary" }
    ));
    Ok(())
}

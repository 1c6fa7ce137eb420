//! Liger's loss of causal decoders: head and cross-entropy as one operator that makes the logits of
//! some tokens at a time, and their gradients in forward.
//!
//! Source: liger-kernel 0.8.5 and 0.6.2, `transformers/model/loss_utils.py` (`LigerForCausalLMLoss`) and
//! `ops/fused_linear_cross_entropy.py`.

use crate::model::builder::{Builder, Value};
use crate::model::graph::Op;
use crate::model::masks;
use crate::model::options::GraphOptions;

/// Returns how many rows have logits at a time: so many that these are no larger than what the head
/// reads, rounded up to a power of two.
pub fn chunk_rows(rows: u64, inputs: u64, classes: u64) -> u64 {
    let times_wider = classes.div_ceil(inputs.max(1)).max(1);
    rows.div_ceil(times_wider).next_power_of_two().min(rows)
}

/// `LigerForCausalLMLoss`: labels shifted by padding, the head's weight read beside its module.
///
/// A soft cap on the logits lies within the kernel.
pub fn causal_lm_loss<'b>(
    b: &'b Builder,
    o: &GraphOptions,
    hidden: &Value<'b>,
    weight: &Value<'b>,
    [inputs, classes]: [u64; 2],
) -> Value<'b> {
    let rows = o.batch * o.seq_len;
    // hidden_states[:, slice_indices, :]
    let kept = {
        let samples = masks::whole(b, hidden, 0);
        let tokens = masks::whole(b, &samples, 1);
        masks::whole(b, &tokens, 2)
    };
    let (_padded, labels) = masks::shifted_labels(b, o);
    let flat = b.view(&kept, &[rows as i64, inputs as i64]);
    let flat_labels = b.view(&labels, &[rows as i64]);
    drop(labels);
    b.mark_logits(chunk_rows(rows, inputs, classes), classes);
    b.run(Op::FusedCrossEntropy, &[&flat, weight, &flat_labels])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked by hand after `fused_linear_cross_entropy_forward`; the second is the example there.
    #[test]
    fn logits_of_a_chunk_are_about_as_large_as_what_the_head_reads() {
        // 12000 / 256 = 46.9 -> 47; 400 / 47 = 8.5 -> 9 -> 16.
        assert_eq!(chunk_rows(400, 256, 12_000), 16);
        assert_eq!(chunk_rows(4 * 4096, 4096, 32_000), 2048);
        assert_eq!(chunk_rows(100, 4096, 1000), 100);
        assert_eq!(chunk_rows(1, 64, 128_256), 1);
    }
}

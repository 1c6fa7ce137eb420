//! Where accumulation is not the same as one large batch, and why: notes for a plan.

use crate::plan::solver::Batches;
use crate::units::{DataParallelSize, counted};

/// What of a job decides whether accumulation changes what is learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Training {
    /// Samples have a length (tokens), which may vary.
    pub sequences: bool,
    /// The model normalises over the batch.
    pub batch_norm: bool,
    /// A gradient scaler is at work.
    pub loss_scaling: bool,
    /// Gradients are clipped.
    pub clipping: bool,
    /// Replicas.
    pub data_parallel: DataParallelSize,
}

/// Returns the notes that apply to a plan, each with its reason.
pub fn notes(training: &Training, batches: &Batches) -> Vec<String> {
    let mut notes = Vec::new();
    let (size, all) = (batches.micro_batch, batches.effective_batch);
    if training.batch_norm && size.get() < all.get() {
        notes.push(format!(
            "batch normalisation sees one micro-batch: its statistics are those of {}, \
             not of {all} (SyncBatchNorm widens that to the devices, never to the micro-steps)",
            counted(size.get(), "sample")
        ));
    }
    if batches.accumulation.get() == 1 {
        return notes;
    }
    if training.sequences {
        notes.push(
            "where lengths vary, accumulation equals one large batch only if the loss is \
             normalised over all tokens of the optimizer step (transformers 4.46 and later do): \
             otherwise the mean of each micro-batch weighs alike, however few tokens it has"
                .to_owned(),
        );
    }
    notes.push(format!(
        "the last optimizer step of an epoch has fewer than {all} samples, unless the data divide \
         or the rest is dropped (drop_last drops samples, not micro-steps)"
    ));
    if training.clipping && !training.loss_scaling {
        notes.push(
            "clip once, after the last micro-step: the gradients of one micro-step are others than \
             their sum"
                .to_owned(),
        );
    }
    notes.push(
        "micro-steps draw dropout and augmentation in another order than one large batch, and \
         round other sums: equal in expectation, not bit by bit"
            .to_owned(),
    );
    if training.loss_scaling {
        notes.push(format!(
            "fp16 loss scaling: unscale, then clip once, after the last micro-step; one overflow \
             skips all {all} samples"
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::solver::batches;

    const TEXT: Training = Training {
        sequences: true,
        batch_norm: false,
        loss_scaling: false,
        clipping: false,
        data_parallel: DataParallelSize::ONE,
    };

    fn count(training: Training, word: &str, pair: (u64, u64)) -> usize {
        let found = notes(&training, &batches(pair, 1));
        found.iter().filter(|note| note.contains(word)).count()
    }

    #[test]
    fn one_micro_step_is_the_large_batch_itself() {
        assert!(notes(&TEXT, &batches((64, 1), 1)).is_empty());
        assert_eq!(count(TEXT, "all tokens", (8, 8)), 1);
    }

    #[test]
    fn each_note_stands_where_it_applies_and_nowhere_else() {
        let images = Training { sequences: false, batch_norm: true, ..TEXT };
        assert_eq!(count(images, "batch normalisation", (8, 8)), 1);
        assert_eq!(count(images, "all tokens", (8, 8)), 0);
        assert_eq!(count(images, "batch normalisation", (64, 1)), 0, "one device, one micro-step");
        assert_eq!(count(TEXT, "batch normalisation", (8, 8)), 0);
        let scaled = Training { loss_scaling: true, ..TEXT };
        assert_eq!(count(scaled, "loss scaling", (8, 8)), 1);
        assert_eq!(count(TEXT, "loss scaling", (8, 8)), 0);
        let clipped = Training { clipping: true, ..TEXT };
        assert_eq!(count(clipped, "clip once", (8, 8)), 1);
        assert_eq!(count(TEXT, "clip once", (8, 8)), 0);
        let both = Training { loss_scaling: true, ..clipped };
        assert_eq!(count(both, "clip once", (8, 8)), 1, "said once");
        assert_eq!(count(TEXT, "not bit by bit", (8, 8)), 1);
    }
}

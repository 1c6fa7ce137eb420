//! What goes into an image classifier and what its loss is.

use crate::model::builder::{Builder, Value};
use crate::model::graph::{Dtype, Op, ValueId};
use crate::model::options::GraphOptions;

/// The batch: images, (batch, channels, height, width), and one label each.
#[derive(Debug)]
pub struct Batch<'b> {
    /// Images.
    pub images: Value<'b>,
    /// Labels.
    pub labels: Value<'b>,
}

impl<'b> Batch<'b> {
    /// Adds the batch to a graph whose weights are all loaded.
    pub fn new(b: &'b Builder, o: &GraphOptions, channels: u64, [height, width]: [u64; 2]) -> Self {
        let images = b.images(&[o.batch, channels, height, width]);
        Batch { images, labels: b.batch(&[o.batch], Dtype::I64) }
    }
}

/// Cross-entropy of the logits, (batch, classes): `ForSequenceClassificationLoss`.
pub fn loss<'b>(
    b: &'b Builder,
    o: &GraphOptions,
    logits: &Value<'b>,
    labels: &Value<'b>,
    classes: u64,
) -> ValueId {
    let flat = b.view(logits, &[-1, classes as i64]);
    let flat_labels = b.view(labels, &[-1]);
    b.mark_logits(o.batch, classes);
    b.run(Op::CrossEntropy, &[&flat, &flat_labels]).keep()
}

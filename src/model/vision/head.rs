//! What goes into an image classifier.

use crate::model::builder::{Builder, Value};
use crate::model::classify;
use crate::model::config::Problem;
use crate::model::options::GraphOptions;

/// The batch: images, (batch, channels, height, width), and their labels.
#[derive(Debug)]
pub struct Batch<'b> {
    /// Images.
    pub images: Value<'b>,
    /// Labels.
    pub labels: Value<'b>,
}

/// How images are labelled.
#[derive(Debug, Clone, Copy)]
pub struct Labels {
    /// What labels are.
    pub problem: Problem,
    /// Classes.
    pub classes: u64,
}

impl<'b> Batch<'b> {
    /// Adds the batch to a graph whose weights are all loaded; `sizes` are an image's channels, height
    /// and width.
    pub fn new(b: &'b Builder, o: &GraphOptions, sizes: [u64; 3], labels: Labels) -> Self {
        let [channels, height, width] = sizes;
        let images = b.images(&[o.batch, channels, height, width]);
        Batch { images, labels: classify::labels(b, o, labels.problem, labels.classes) }
    }
}

//! Which of a model's weights are trained.

use crate::model::adapters::Lora;
use crate::model::freeze::Frozen;
use crate::model::quantize::Quantize;

/// What is trained; of nothing said, every weight is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tuning {
    /// Adapters that are trained in place of the model.
    pub lora: Option<Lora>,
    /// Parameters that are not.
    pub frozen: Option<Frozen>,
    /// The format of the frozen linear weights that adapters are on, where it is not the model's.
    pub quantized: Option<Quantize>,
}

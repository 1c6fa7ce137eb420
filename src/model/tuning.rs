//! Which of a model's weights are trained.

use crate::model::adapters::Lora;
use crate::model::freeze::Frozen;

/// What is trained; of nothing said, every weight is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tuning {
    /// Adapters that are trained in place of the model.
    pub lora: Option<Lora>,
    /// Parameters that are not.
    pub frozen: Option<Frozen>,
}

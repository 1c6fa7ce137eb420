//! Sizes of encoders with learned positions: BERT and its kin.

use crate::model::config::{Activation, Problem, Task};

/// An architecture of this kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncoderFamily {
    /// BERT.
    Bert,
    /// RoBERTa.
    Roberta,
    /// XLM-RoBERTa.
    XlmRoberta,
    /// DistilBERT.
    DistilBert,
}

impl EncoderFamily {
    /// All of them.
    pub const ALL: [EncoderFamily; 4] = [
        EncoderFamily::Bert,
        EncoderFamily::Roberta,
        EncoderFamily::XlmRoberta,
        EncoderFamily::DistilBert,
    ];

    /// Returns `model_type` as config.json spells it.
    pub const fn model_type(self) -> &'static str {
        match self {
            EncoderFamily::Bert => "bert",
            EncoderFamily::Roberta => "roberta",
            EncoderFamily::XlmRoberta => "xlm-roberta",
            EncoderFamily::DistilBert => "distilbert",
        }
    }

    /// Whether positions are counted from the tokens that are no padding, behind its number.
    pub const fn counts_positions(self) -> bool {
        matches!(self, EncoderFamily::Roberta | EncoderFamily::XlmRoberta)
    }

    /// Whether segments have embeddings.
    pub const fn has_segments(self) -> bool {
        !matches!(self, EncoderFamily::DistilBert)
    }
}

/// An encoder: LayerNorm after attention and MLP, learned positions, dropout.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderConfig {
    /// The architecture.
    pub family: EncoderFamily,
    /// The head and the loss.
    pub task: Task,
    /// Width of the residual stream.
    pub hidden_size: u64,
    /// Width of the MLP.
    pub intermediate_size: u64,
    /// Layers.
    pub num_hidden_layers: u64,
    /// Heads.
    pub num_attention_heads: u64,
    /// Rows of the table of positions.
    pub max_position_embeddings: u64,
    /// Rows of the table of segments; none where there is no such table.
    pub type_vocab_size: u64,
    /// Tokens in the vocabulary.
    pub vocab_size: u64,
    /// The token that pads: counted positions begin behind its number.
    pub pad_token_id: u64,
    /// The MLP's activation.
    pub hidden_act: Activation,
    /// Dropout after embeddings, attention and MLP.
    pub hidden_dropout: f64,
    /// Dropout on attention probabilities.
    pub attention_dropout: f64,
    /// Dropout before a classifier of samples.
    pub sequence_dropout: f64,
    /// Dropout before a classifier of tokens.
    pub token_dropout: f64,
    /// What the labels of a classifier of samples are.
    pub problem: Problem,
    /// Labels of a classifier.
    pub num_labels: u64,
}

impl EncoderConfig {
    /// The tasks that it can be trained for.
    pub const TASKS: &[Task] =
        &[Task::MaskedLm, Task::SequenceClassification, Task::TokenClassification];

    /// Returns the longest sequence that there are positions for.
    pub fn max_seq_len(&self) -> u64 {
        let unused = if self.family.counts_positions() { self.pad_token_id + 1 } else { 0 };
        self.max_position_embeddings.saturating_sub(unused)
    }

    pub(super) fn parameter_count(&self) -> u64 {
        let (width, inner) = (self.hidden_size, self.intermediate_size);
        let square = width * width + width;
        let norm = 2 * width;
        let rows = self.vocab_size + self.max_position_embeddings + self.type_vocab_size;
        let layer = 4 * square + 2 * width * inner + inner + width + 2 * norm;
        let head = match self.task {
            Task::TokenClassification => (width + 1) * self.num_labels,
            Task::SequenceClassification => square + (width + 1) * self.num_labels,
            _ => square + norm + self.vocab_size,
        };
        rows * width + norm + self.num_hidden_layers * layer + head
    }
}

//! What a model is trained for: its head and its loss.

/// A task, as the command line names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// The next token (`...ForCausalLM`).
    CausalLm,
    /// Tokens that were masked (`...ForMaskedLM`).
    MaskedLm,
    /// One label an image (`...ForImageClassification`).
    ImageClassification,
    /// One label a sample (`...ForSequenceClassification`).
    SequenceClassification,
    /// One label a token (`...ForTokenClassification`).
    TokenClassification,
    /// A text from a text (`...ForConditionalGeneration`).
    Seq2SeqLm,
    /// A text from audio (`...ForConditionalGeneration` of a model that reads it).
    SpeechSeq2Seq,
}

impl Task {
    /// All tasks.
    pub const ALL: [Task; 7] = [
        Task::CausalLm,
        Task::MaskedLm,
        Task::ImageClassification,
        Task::SequenceClassification,
        Task::TokenClassification,
        Task::Seq2SeqLm,
        Task::SpeechSeq2Seq,
    ];

    /// Returns the name that the command line gives it.
    pub const fn name(self) -> &'static str {
        match self {
            Task::CausalLm => "causal-lm",
            Task::MaskedLm => "masked-lm",
            Task::ImageClassification => "image-classification",
            Task::SequenceClassification => "sequence-classification",
            Task::TokenClassification => "token-classification",
            Task::Seq2SeqLm => "seq2seq-lm",
            Task::SpeechSeq2Seq => "speech-seq2seq",
        }
    }

    /// Returns the task of a class that `architectures` names.
    pub fn of_class(class: &str) -> Option<Task> {
        const ENDINGS: [(&str, Task); 8] = [
            ("ForCausalLM", Task::CausalLm),
            ("LMHeadModel", Task::CausalLm),
            ("ForMaskedLM", Task::MaskedLm),
            ("ForImageClassification", Task::ImageClassification),
            ("ForSequenceClassification", Task::SequenceClassification),
            ("ForTokenClassification", Task::TokenClassification),
            ("WhisperForConditionalGeneration", Task::SpeechSeq2Seq),
            ("ForConditionalGeneration", Task::Seq2SeqLm),
        ];
        ENDINGS.iter().find(|(ending, _)| class.ends_with(ending)).map(|&(_, task)| task)
    }
}

/// What a classifier of samples has as labels (`problem_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// One of several classes: cross-entropy.
    OneLabel,
    /// Numbers, of which one label alone is taken for one: mean square error.
    Numbers,
    /// Each class is there or not: binary cross-entropy.
    SeveralLabels,
}

/// A task that transformers has no class for, or that is not built in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{model_type} is not trained for {} here", task.name())]
pub struct NoSuchTask {
    /// The model's `model_type`.
    pub model_type: &'static str,
    /// The task asked for.
    pub task: Task,
    /// Those that it can be trained for.
    pub possible: &'static [Task],
}

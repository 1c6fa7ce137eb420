//! Why a `config.json` is not a model that can be planned for.

/// The values of `model_type` that are built in.
pub const MODEL_TYPES: [&str; 28] = [
    "bart",
    "bert",
    "convnext",
    "deberta-v2",
    "distilbert",
    "gemma2",
    "gemma3_text",
    "gpt2",
    "gpt_neox",
    "llama",
    "mistral",
    "mixtral",
    "modernbert",
    "mt5",
    "olmo2",
    "opt",
    "phi3",
    "qwen2",
    "qwen3",
    "qwen3_moe",
    "resnet",
    "roberta",
    "starcoder2",
    "swin",
    "t5",
    "vit",
    "whisper",
    "xlm-roberta",
];

/// What is wrong with the content of a `config.json`; names keys and values, not the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No bytes at all, or only blanks.
    #[error("it is empty")]
    Empty,
    /// Another format, by its first bytes.
    #[error("it is {0}, not JSON")]
    Binary(&'static str),
    /// A text in another encoding.
    #[error("it is not UTF-8, as JSON is: {found}")]
    NotUtf8 {
        /// What it is instead.
        found: String,
    },
    /// More bytes than any configuration.
    #[error("it has {bytes} bytes; a configuration has a few thousand")]
    TooLarge {
        /// Its size.
        bytes: u64,
    },
    /// JSON that ends too early.
    #[error("its JSON ends too early, at line {line}, column {column}")]
    Truncated {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// Not JSON.
    #[error("line {line}, column {column}: {reason}")]
    NotJson {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What the parser says.
        reason: String,
    },
    /// JSON, but a list, a number or a text.
    #[error("it holds {0}, not an object")]
    NotAnObject(&'static str),
    /// One of the other JSON files that live beside a `config.json`.
    #[error("it is {kind}, not a model's configuration")]
    OtherFile {
        /// What it is.
        kind: &'static str,
        /// The model that it belongs to, where it says so.
        base_model: Option<String>,
    },
    /// No `model_type`.
    #[error("it has no `model_type`")]
    NoModelType,
    /// A `model_type` that is not built in.
    #[error("model_type `{model_type}` is not built in")]
    ModelTypeNotBuiltIn {
        /// The type.
        model_type: String,
        /// The built-in type that it resembles.
        nearest: Option<&'static str>,
        /// The type of the text model inside it, where there is one.
        inner: Option<String>,
    },
    /// A built-in `model_type`, with more than a text model around it.
    #[error("`{key}` says that it is more than a text model")]
    Multimodal {
        /// The key that shows it.
        key: &'static str,
    },
    /// The weights are quantized.
    #[error("its weights are quantized ({method})")]
    Quantized {
        /// `quant_method`.
        method: String,
    },
    /// A size without a default that could be believed.
    #[error("`{key}` is missing or null")]
    Missing {
        /// The key.
        key: &'static str,
    },
    /// The same, where a key is one slip from it.
    #[error("`{key}` is missing; `{found}` is another key")]
    Misspelt {
        /// The key.
        key: &'static str,
        /// What looks like it.
        found: String,
    },
    /// A value of the wrong type.
    #[error("`{key}` is {found}, not {expected}")]
    WrongType {
        /// The key.
        key: &'static str,
        /// What is there.
        found: String,
        /// What belongs there.
        expected: &'static str,
    },
    /// A number or a switch that quotes make a text.
    #[error("`{key}` is \"{value}\", in quotes: a text, not {expected}")]
    InQuotes {
        /// The key.
        key: &'static str,
        /// What is in the quotes.
        value: String,
        /// What belongs there.
        expected: &'static str,
    },
    /// A number out of range.
    #[error("`{key}` is {value}, which is not {allowed}")]
    OutOfRange {
        /// The key.
        key: &'static str,
        /// What is there.
        value: String,
        /// The range.
        allowed: String,
    },
    /// Two sizes of which one has to divide the other.
    #[error("`{key}` ({value}) is not a multiple of `{by}` ({divisor})")]
    NotDivisible {
        /// The key of the larger.
        key: &'static str,
        /// Its value.
        value: u64,
        /// The key of the smaller.
        by: &'static str,
        /// Its value.
        divisor: u64,
    },
    /// Two keys that contradict each other.
    #[error("{0}")]
    Contradiction(String),
    /// More parameters than any model has: one of the sizes is wrong.
    #[error("its sizes make {parameters} parameters")]
    TooManyParameters {
        /// The count.
        parameters: u64,
    },
    /// A value that transformers takes and this program does not model.
    #[error("`{key}` is {value}, which is not modelled")]
    Unsupported {
        /// The key.
        key: &'static str,
        /// What is there.
        value: String,
        /// What is modelled.
        supported: &'static str,
    },
}

impl ConfigError {
    /// Returns one thing to do about it.
    pub fn hint(&self) -> String {
        match self {
            ConfigError::Empty | ConfigError::Truncated { .. } => {
                "download config.json again; the download was cut off".to_owned()
            }
            ConfigError::Binary(_) | ConfigError::TooLarge { .. } => {
                "name the config.json beside it, or the folder that holds both".to_owned()
            }
            ConfigError::NotUtf8 { .. } => "save it as UTF-8".to_owned(),
            ConfigError::NotJson { .. } | ConfigError::NotAnObject(_) => {
                "a model's config.json is an object: { \"model_type\": \"llama\", ... }".to_owned()
            }
            ConfigError::OtherFile { base_model: Some(base), .. } => {
                format!("name its base model, `{base}`, by its own config.json or a profile")
            }
            ConfigError::OtherFile { .. } => "name the config.json in the same folder".to_owned(),
            ConfigError::NoModelType => {
                format!("add \"model_type\": one of {}", MODEL_TYPES.join(", "))
            }
            ConfigError::ModelTypeNotBuiltIn { inner: Some(inner), .. } => format!(
                "its text model alone is `{inner}`; to plan for that alone, put its `text_config` \
                 into a config.json of its own. Built in: {}",
                MODEL_TYPES.join(", ")
            ),
            ConfigError::ModelTypeNotBuiltIn { nearest, .. } => {
                let built_in = format!("built in: {}", MODEL_TYPES.join(", "));
                nearest.map_or(built_in.clone(), |near| {
                    format!("the nearest type is `{near}`, another architecture; {built_in}")
                })
            }
            ConfigError::Multimodal { .. } => {
                "text models only, so far: name the config.json of its language model".to_owned()
            }
            ConfigError::Quantized { .. } => {
                "name the config.json of the model that was quantized".to_owned()
            }
            ConfigError::Missing { key } => {
                format!("give `{key}` a number")
            }
            ConfigError::Misspelt { key, found } => format!("write `{found}` as `{key}`"),
            ConfigError::InQuotes { key, value, .. } => {
                format!("without quotes: \"{key}\": {value}")
            }
            ConfigError::Unsupported { supported, .. } => format!("modelled: {supported}"),
            ConfigError::WrongType { key, .. }
            | ConfigError::OutOfRange { key, .. }
            | ConfigError::NotDivisible { key, .. } => {
                format!("compare `{key}` with the model's published config.json")
            }
            ConfigError::Contradiction(_) | ConfigError::TooManyParameters { .. } => {
                "compare with the model's published config.json".to_owned()
            }
        }
    }
}

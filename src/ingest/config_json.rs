//! A Hugging Face `config.json` as [`ModelConfig`].

use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value};

use crate::ingest::encoding::{binary_format, other_encoding};
use crate::ingest::error::{ConfigError, MODEL_TYPES};
use crate::ingest::fields::{Fields, MOST_PARAMETERS, describe, excerpt, wrong_type};
use crate::ingest::{
    bart, convnext, deberta, decoder, encoder, gpt2, modernbert, opt, resnet, slips, swin, t5, vit,
    whisper,
};
use crate::model::config::{EncoderFamily, Family, ModelConfig, T5Family, Task};
use crate::profile::names::nearest;

/// The largest file that is read as a configuration.
pub const LARGEST_FILE_BYTES: u64 = 4 << 20;

/// A model, and what was assumed or is worth saying about its file.
#[derive(Debug, Clone, PartialEq)]
pub struct Ingested {
    /// The model.
    pub config: ModelConfig,
    /// One sentence each: defaults taken, things ignored.
    pub notes: Vec<String>,
    /// The number format that the file names for the weights, such as `bfloat16`.
    pub dtype: Option<String>,
}

/// Reads a configuration from the bytes of a file.
///
/// # Errors
/// [`ConfigError`]: another format, not JSON, or what [`from_map`] says.
pub fn from_bytes(bytes: &[u8]) -> Result<Ingested, ConfigError> {
    if bytes.len() as u64 > LARGEST_FILE_BYTES {
        return Err(binary_format(bytes)
            .map_or(ConfigError::TooLarge { bytes: bytes.len() as u64 }, ConfigError::Binary));
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(ConfigError::Empty);
    }
    if let Some(found) = other_encoding(bytes) {
        return Err(ConfigError::NotUtf8 { found });
    }
    if let Some(format) = binary_format(bytes) {
        return Err(ConfigError::Binary(format));
    }
    // Windows editors put a byte order mark in front.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let value: Value = serde_json::from_slice(bytes).map_err(|e| {
        let (line, column) = (e.line(), e.column());
        if e.is_eof() {
            return ConfigError::Truncated { line, column };
        }
        let text = e.to_string();
        let reason = text.split(" at line ").next().unwrap_or(&text).to_owned();
        ConfigError::NotJson { line, column, reason }
    })?;
    match value {
        Value::Object(map) => {
            let mut ingested = from_map(&map)?;
            ingested.notes.extend(slips::repeated(bytes));
            Ok(ingested)
        }
        Value::Array(_) => Err(ConfigError::NotAnObject("a list")),
        Value::String(_) => Err(ConfigError::NotAnObject("a text")),
        Value::Number(_) => Err(ConfigError::NotAnObject("a number")),
        Value::Bool(_) | Value::Null => Err(ConfigError::NotAnObject("a single word")),
    }
}

/// Reads a configuration from the keys of a `config.json`.
///
/// Unknown keys are ignored; a missing one gets transformers' default. Where that is a size, a note
/// says so.
///
/// # Errors
/// [`ConfigError`]: not a model's configuration, not a built-in `model_type`, or sizes that no such
/// model can have.
pub fn from_map(map: &Map<String, Value>) -> Result<Ingested, ConfigError> {
    if let Some(other) = other_file(map) {
        return Err(other);
    }
    let model_type = match map.get("model_type") {
        None | Some(Value::Null) => return Err(ConfigError::NoModelType),
        Some(Value::String(model_type)) => model_type.as_str(),
        Some(value) => return Err(wrong_type("model_type", value, "a text")),
    };
    let Some(architecture) = Architecture::named(model_type) else {
        return Err(ConfigError::ModelTypeNotBuiltIn {
            model_type: excerpt(model_type),
            nearest: nearest(model_type, MODEL_TYPES),
            inner: inner_type(map),
        });
    };
    const MORE_THAN_TEXT: [&str; 4] =
        ["text_config", "vision_config", "audio_config", "mm_vision_tower"];
    for key in MORE_THAN_TEXT {
        if map.get(key).is_some_and(|value| !value.is_null()) {
            return Err(ConfigError::Multimodal { key });
        }
    }
    if let Some(quantization) = map.get("quantization_config").filter(|q| !q.is_null()) {
        let method = quantization.get("quant_method").and_then(Value::as_str);
        return Err(ConfigError::Quantized {
            method: excerpt(method.unwrap_or("no method named")),
        });
    }
    let mut fields = Fields::new(map);
    let config = architecture.read(&mut fields).map_err(|error| slips::explained(error, map))?;
    let parameters = config.parameter_count();
    if parameters > MOST_PARAMETERS {
        return Err(ConfigError::TooManyParameters { parameters });
    }
    let mut notes = slips::misspelt(map, &fields);
    notes.append(&mut fields.assumed);
    notes.extend(own_code(map, config.task()));
    Ok(Ingested { config, notes, dtype: dtype(map) })
}

/// Returns the number format that the weights have by the file; transformers 4 calls it `torch_dtype`.
fn dtype(map: &Map<String, Value>) -> Option<String> {
    let named = |key| map.get(key).and_then(Value::as_str);
    let name = named("dtype").or_else(|| named("torch_dtype"))?;
    Some(excerpt(name.strip_prefix("torch.").unwrap_or(name)))
}

/// What reads a `model_type`.
enum Architecture {
    Gpt2,
    Bart,
    Whisper,
    Opt,
    Vit,
    ResNet,
    ConvNext,
    Swin,
    ModernBert,
    Deberta,
    Encoder(EncoderFamily),
    T5(T5Family),
    Decoder(Family),
}

impl Architecture {
    /// Returns what reads a built-in `model_type`.
    fn named(model_type: &str) -> Option<Architecture> {
        match model_type {
            "gpt2" => Some(Architecture::Gpt2),
            "bart" => Some(Architecture::Bart),
            "whisper" => Some(Architecture::Whisper),
            "opt" => Some(Architecture::Opt),
            "vit" => Some(Architecture::Vit),
            "resnet" => Some(Architecture::ResNet),
            "deberta-v2" => Some(Architecture::Deberta),
            "modernbert" => Some(Architecture::ModernBert),
            "swin" => Some(Architecture::Swin),
            "convnext" => Some(Architecture::ConvNext),
            other => {
                let encoder = EncoderFamily::ALL.into_iter().find(|f| f.model_type() == other);
                let decoder = Family::ALL.into_iter().find(|f| f.model_type() == other);
                let t5 = T5Family::ALL.into_iter().find(|f| f.model_type() == other);
                encoder
                    .map(Architecture::Encoder)
                    .or(t5.map(Architecture::T5))
                    .or(decoder.map(Architecture::Decoder))
            }
        }
    }

    fn read(self, fields: &mut Fields<'_>) -> Result<ModelConfig, ConfigError> {
        Ok(match self {
            Architecture::Gpt2 => ModelConfig::Gpt2(gpt2::read(fields)?),
            Architecture::Encoder(family) => ModelConfig::Encoder(encoder::read(fields, family)?),
            Architecture::Deberta => ModelConfig::Deberta(deberta::read(fields)?),
            Architecture::ModernBert => ModelConfig::ModernBert(modernbert::read(fields)?),
            Architecture::T5(family) => ModelConfig::T5(t5::read(fields, family)?),
            Architecture::Whisper => ModelConfig::Whisper(whisper::read(fields)?),
            Architecture::Bart => ModelConfig::Bart(bart::read(fields)?),
            Architecture::Opt => ModelConfig::Opt(opt::read(fields)?),
            Architecture::Vit => ModelConfig::Vit(vit::read(fields)?),
            Architecture::ConvNext => ModelConfig::ConvNext(convnext::read(fields)?),
            Architecture::Swin => ModelConfig::Swin(swin::read(fields)?),
            Architecture::ResNet => ModelConfig::ResNet(resnet::read(fields)?),
            Architecture::Decoder(family) => ModelConfig::Decoder(decoder::read(fields, family)?),
        })
    }
}

/// Reads at most [`LARGEST_FILE_BYTES`] and one byte of a file.
pub(super) fn read_start(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(LARGEST_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Recognises the other JSON files of a model's folder by their own keys.
fn other_file(map: &Map<String, Value>) -> Option<ConfigError> {
    const ALWAYS: [(&str, &str); 2] =
        [("peft_type", "a PEFT adapter's configuration"), ("weight_map", "an index of weights")];
    const UNLESS_MODEL_TYPE: [(&str, &str); 12] = [
        ("tokenizer_class", "a tokenizer's configuration"),
        ("added_tokens", "a tokenizer"),
        ("image_processor_type", "an image processor's configuration"),
        ("feature_extractor_type", "a feature extractor's configuration"),
        ("processor_class", "a processor's configuration"),
        ("log_history", "a trainer's state"),
        ("zero_optimization", "a DeepSpeed configuration"),
        ("train_micro_batch_size_per_gpu", "a DeepSpeed configuration"),
        ("_class_name", "a diffusers component's configuration"),
        ("n_heads", "a checkpoint's params.json in Meta's own format"),
        ("_from_model_config", "a generation configuration"),
        ("max_new_tokens", "a generation configuration"),
    ];
    let found = |list: &[(&str, &'static str)]| {
        list.iter().find(|(key, _)| map.contains_key(*key)).map(|&(_, kind)| kind)
    };
    let kind = found(&ALWAYS).or_else(|| {
        if map.contains_key("model_type") {
            return None;
        }
        found(&UNLESS_MODEL_TYPE).or_else(|| only_generation(map))
    })?;
    let base = map.get("base_model_name_or_path").and_then(Value::as_str);
    Some(ConfigError::OtherFile { kind, base_model: base.map(excerpt) })
}

/// A generation_config.json may hold token ids and a version alone.
fn only_generation(map: &Map<String, Value>) -> Option<&'static str> {
    const KEYS: [&str; 9] = [
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "transformers_version",
        "do_sample",
        "temperature",
        "top_p",
        "top_k",
        "repetition_penalty",
    ];
    let all = !map.is_empty() && map.keys().all(|key| KEYS.contains(&key.as_str()));
    all.then_some("a generation configuration")
}

/// Returns the `model_type` of the text model inside a multimodal one.
fn inner_type(map: &Map<String, Value>) -> Option<String> {
    let inner = ["text_config", "llm_config", "language_config", "thinker_config"]
        .iter()
        .find_map(|key| map.get(*key))?;
    match inner.get("model_type") {
        Some(Value::String(inner)) => Some(excerpt(inner)),
        Some(other) => Some(describe(other)),
        None => None,
    }
}

/// Says what of the file points to another model class than the one that is planned for.
fn own_code(map: &Map<String, Value>, task: Task) -> Option<String> {
    if map.get("auto_map").is_some_and(|value| !value.is_null()) {
        return Some(
            "config.json names code of its own (`auto_map`); transformers' own model is assumed"
                .to_owned(),
        );
    }
    let class = map.get("architectures")?.get(0)?.as_str()?;
    let assumed = match task {
        Task::CausalLm => "a causal language model",
        Task::MaskedLm => "a masked language model",
        Task::SequenceClassification => "a classifier of samples",
        Task::TokenClassification => "a classifier of tokens",
        Task::ImageClassification => "an image classifier",
        Task::Seq2SeqLm => "an encoder-decoder that writes text",
        Task::SpeechSeq2Seq => "one that writes down speech",
    };
    let other = Task::of_class(class) != Some(task);
    other.then(|| format!("config.json names `{}`; {assumed} is assumed", excerpt(class)))
}

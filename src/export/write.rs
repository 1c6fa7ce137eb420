//! Keys and values written down as each syntax has it.

use serde_json::{Map, Value as Json};

use crate::export::decided::Decided;
use crate::export::format::{Format, Syntax};
use crate::export::keys::{Key, Value};

/// Writes the keys of a format, with a comment where its syntax has comments.
pub fn write(format: Format, keys: &[Key], decided: &Decided) -> String {
    match format.syntax() {
        Syntax::Arguments => {
            joined(keys, |(key, value)| format!("--{key} {}", plain(value, false)))
        }
        Syntax::Overrides => joined(keys, |(key, value)| format!("{key}={}", plain(value, true))),
        Syntax::Json => {
            let object: Map<String, Json> =
                keys.iter().map(|(key, value)| ((*key).to_owned(), json(value))).collect();
            format!("{:#}\n", Json::Object(object))
        }
        Syntax::Yaml => lines(format, decided, keys, |(key, value)| match value {
            // Bare, `no` and `16-true` would be read as something else by one YAML or another.
            Value::Name(name) => format!("{key}: \"{name}\""),
            other => format!("{key}: {}", plain(other, false)),
        }),
        Syntax::Variables => {
            lines(format, decided, keys, |(key, value)| format!("{key}={}", plain(value, false)))
        }
        Syntax::Python => python(decided, keys),
    }
}

fn joined(keys: &[Key], write: impl Fn(&Key) -> String) -> String {
    keys.iter().map(write).collect::<Vec<_>>().join(" ") + "\n"
}

fn lines(
    format: Format,
    decided: &Decided,
    keys: &[Key],
    write: impl Fn(&Key) -> String,
) -> String {
    let mut text = comment(decided);
    if format == Format::Accelerate {
        let size = decided.micro_batch;
        text.push_str(&format!("# DataLoader(..., batch_size={size}): Accelerate has no key\n"));
    }
    text.extend(keys.iter().map(|key| write(key) + "\n"));
    text
}

fn python(decided: &Decided, keys: &[Key]) -> String {
    let arguments: Vec<String> = keys
        .iter()
        .map(|(key, value)| match value {
            Value::Name(name) => format!("{key}=\"{name}\""),
            other => format!("{key}={}", plain(other, true)),
        })
        .collect();
    format!(
        "{}batch_size = {}  # of each rank's DataLoader\ntrainer = L.Trainer({})\n",
        comment(decided),
        decided.micro_batch,
        arguments.join(", ")
    )
}

fn comment(decided: &Decided) -> String {
    format!("# oomph {}: {}\n", env!("CARGO_PKG_VERSION"), decided.equation())
}

fn plain(value: &Value, python: bool) -> String {
    match (value, python) {
        (Value::Number(number), _) => number.to_string(),
        (Value::Flag(true), true) => "True".to_owned(),
        (Value::Flag(false), true) => "False".to_owned(),
        (Value::Flag(on), false) => on.to_string(),
        (Value::Name(name), _) => (*name).to_owned(),
        (Value::Numbers(numbers), _) => numbers.clone(),
    }
}

fn json(value: &Value) -> Json {
    match value {
        Value::Number(number) => Json::from(*number),
        Value::Flag(on) => Json::from(*on),
        Value::Name(name) => Json::from(*name),
        Value::Numbers(numbers) => Json::from(numbers.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::decided::DecidedSchedule;
    use crate::export::emit;
    use crate::step::setup::{Checkpointing, Precision};

    fn decided() -> Decided {
        Decided {
            gpus_here: Some(4),
            seq_len: Some(2048),
            precision: Some(Precision::AmpBf16),
            checkpointing: Some(Checkpointing::Full),
            ..Decided::batch(6, 11, 4)
        }
    }

    #[test]
    fn each_format_names_the_keys_of_its_framework() {
        let parts: [(Format, &[&str]); 16] = [
            (Format::HfArgs, &["--per_device_train_batch_size 6 --gradient_accumulation_steps 11"]),
            (Format::HfJson, &["\"per_device_train_batch_size\": 6", "\"bf16\": true"]),
            (Format::Trl, &["max_length: 2048\n", "gradient_checkpointing: true\n"]),
            (Format::Accelerate, &["ACCELERATE_GRADIENT_ACCUMULATION_STEPS=11\n", "batch_size=6"]),
            (Format::DeepSpeed, &["\"train_batch_size\": 264"]),
            (
                Format::Lightning,
                &["accumulate_grad_batches=11, devices=4, precision=\"bf16-mixed\""],
            ),
            (Format::Axolotl, &["micro_batch_size: 6\n", "sequence_len: 2048\n", "bf16: true\n"]),
            (
                Format::LlamaFactory,
                &["cutoff_len: 2048\n", "disable_gradient_checkpointing: false"],
            ),
            (Format::Torchtune, &["batch_size=6 gradient_accumulation_steps=11", "=True"]),
            (
                Format::Torchtitan03,
                &["--training.local_batch_size 6 --training.global_batch_size 264"],
            ),
            (
                Format::TorchtitanTokens,
                &[
                    "--training.num_tokens_per_microbatch_per_dp_rank 12288",
                    "--training.num_tokens_per_train_step 540672",
                ],
            ),
            (Format::Megatron, &["--micro-batch-size 6 --global-batch-size 264"]),
            (Format::Megatron017, &["--micro-batch-size 6 --global-batch-size 264"]),
            (Format::Composer, &["device_train_microbatch_size: 6\n", "precision: \"amp_bf16\""]),
            (Format::LitGpt, &["--devices 4 --train.micro_batch_size 6"]),
            (Format::Env, &["OOMPH_MICRO_BATCH=6\n", "OOMPH_EFFECTIVE_BATCH=264\n"]),
        ];
        for (format, parts) in parts {
            let text = emit(format, &decided());
            for part in parts {
                assert!(text.contains(part), "{}: {text}", format.name());
            }
        }
    }

    #[test]
    fn a_plan_beside_the_target_says_so_where_comments_can() {
        let near = Decided { missed: Some(256), ..decided() };
        assert!(emit(Format::Axolotl, &near).starts_with("# oomph "));
        assert!(emit(Format::Axolotl, &near).contains("= 264 (256 was asked for)"));
        let json: Json = serde_json::from_str(&emit(Format::DeepSpeed, &near)).expect("JSON");
        assert_eq!(json.as_object().map(Map::len), Some(3), "strict, and the batch alone");
    }

    #[test]
    fn megatron_is_told_of_a_ramp_in_the_words_of_its_version() {
        let schedule = DecidedSchedule {
            stages: (3, 3),
            batches: vec![(0, 88), (500, 176), (1000, 264)],
            whole: true,
        };
        let ramp = Decided { schedule: Some(schedule), ..decided() };
        assert_eq!(
            emit(Format::Megatron, &ramp),
            "--micro-batch-size 6 --step-batch-size-schedule 0:88,1024000:176,2048000:264 \
             --seq-length 2048\n"
        );
        assert_eq!(
            emit(Format::Megatron017, &ramp),
            "--micro-batch-size 6 --global-batch-size 264 --rampup-batch-size 88 88 1000 \
             --seq-length 2048\n"
        );
        assert!(emit(Format::Axolotl, &ramp).contains("= 264, stage 3 of 3\n"));
    }

    #[test]
    fn trl_is_told_what_it_would_otherwise_turn_on() {
        let plain = Decided {
            precision: Some(Precision::Fp32),
            checkpointing: Some(Checkpointing::None),
            ..decided()
        };
        let text = emit(Format::Trl, &plain);
        assert!(text.contains("gradient_checkpointing: false\nbf16: false\n"), "{text}");
        assert!(!emit(Format::HfArgs, &plain).contains("checkpointing"));
    }

    #[test]
    fn several_nodes_are_told_apart_from_devices() {
        let two = Decided { data_parallel: 8, ..decided() };
        assert!(emit(Format::Lightning, &two).contains("devices=4, num_nodes=2"));
        assert!(emit(Format::LitGpt, &two).contains("--devices 4 --num_nodes 2"));
    }
}

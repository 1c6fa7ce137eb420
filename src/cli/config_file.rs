//! `oomph.toml`: the setup flags as keys, read with `--config` or from the working folder.
//!
//! A value is parsed by the very parser of its flag, so the file and the command line cannot differ.

use std::path::Path;

use clap::{Arg, Args, FromArgMatches};
use toml::de::{DeTable, DeValue};

use crate::cli::error::CliError;
use crate::cli::setup::SetupArgs;
use crate::profile::names::nearest;

/// The file that is read from the working folder when `--config` is not given.
pub const FILE_NAME: &str = "oomph.toml";

/// What a file of setup keys says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Loaded {
    /// The setup.
    pub setup: SetupArgs,
    /// `model`, which `oomph check` takes where none is named beside it.
    pub model: Option<String>,
}

/// The most bytes that a configuration may have: a limit against the wrong file.
const MAX_BYTES: u64 = 1 << 20;

/// Reads the file that `--config` names, else `oomph.toml` in the working folder, if there is one.
///
/// # Errors
/// When a named file cannot be read, or a key or value is not known: names file, line and key.
pub fn load(config: Option<&Path>) -> Result<Loaded, CliError> {
    let path = config.unwrap_or(Path::new(FILE_NAME));
    if config.is_none() && !path.is_file() {
        return Ok(Loaded::default());
    }
    let shown = path.display();
    let unreadable = |cause: String| {
        CliError::usage(format!("cannot read `{shown}`"))
            .cause(cause)
            .hint("--config FILE names another file")
    };
    let size = std::fs::metadata(path).map_err(|e| unreadable(e.to_string()))?.len();
    if size > MAX_BYTES {
        return Err(unreadable(format!("{size} bytes is too long for a configuration")));
    }
    let text = std::fs::read_to_string(path).map_err(|e| unreadable(e.to_string()))?;
    parse(&text, &shown.to_string())
}

/// Parses the text of a configuration; `shown` names it in errors.
///
/// # Errors
/// Names the line and the key, and the nearest known key to one that is not known.
pub fn parse(text: &str, shown: &str) -> Result<Loaded, CliError> {
    let table = DeTable::parse(text).map_err(|e| {
        let line = e.span().map_or(1, |span| line_of(text, span.start));
        CliError::usage(format!("`{shown}` line {line} is not TOML")).cause(e.message())
    })?;
    let command = SetupArgs::augment_args(clap::Command::new("oomph").no_binary_name(true));
    let known: Vec<&str> = command.get_arguments().filter_map(Arg::get_long).collect();
    let mut arguments = Vec::new();
    let mut model = None;
    for (key, value) in table.get_ref() {
        let name = key.get_ref().as_ref();
        let line = line_of(text, key.span().start);
        if let ("model", DeValue::String(named)) = (name, value.get_ref()) {
            model = Some(named.to_string());
            continue;
        }
        if !known.contains(&name) {
            let error = CliError::usage(format!("`{shown}` line {line}: no key `{name}`"));
            return Err(match nearest(name, known.iter().copied()) {
                Some(near) => error.hint(format!("the nearest known key is `{near}`")),
                None => error.hint(format!("known keys: {}", known.join(", "))),
            });
        }
        let written = match value.get_ref() {
            DeValue::String(string) => string.to_string(),
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.to_string(),
            _ => {
                let fact = format!("`{shown}` line {line}: `{name}` takes a string or a number");
                return Err(CliError::usage(fact)
                    .hint(format!("{name} = \"...\", in quotes what --{name} takes")));
            }
        };
        let argument = format!("--{name}={written}");
        if let Err(error) = command.clone().try_get_matches_from([&argument]) {
            let error = crate::cli::usage::from_clap(&error);
            return Err(CliError {
                fact: format!("`{shown}` line {line}: {}", error.fact.replace("--", "")),
                ..error
            });
        }
        arguments.push(argument);
    }
    command
        .try_get_matches_from(&arguments)
        .and_then(|matches| SetupArgs::from_arg_matches(&matches))
        .map(|setup| Loaded { setup, model })
        .map_err(|error| crate::cli::usage::from_clap(&error))
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::values::{MicroBatchArg, PrecisionArg};

    #[test]
    fn keys_are_the_flags_names() {
        let args = parse("seq-len = 512\nprecision = \"bf16\"\nmicro-batch = \"auto\"\n", "f")
            .expect("valid")
            .setup;
        assert_eq!(args.seq_len, Some(512));
        assert_eq!(args.precision, Some(PrecisionArg::Bf16));
        assert_eq!(args.micro_batch, Some(MicroBatchArg::Auto));
        assert_eq!(args.accumulation, None);
    }

    #[test]
    fn flags_win_over_the_file() {
        let file = parse("seq-len = 512\naccumulation = 4\n", "f").expect("valid").setup;
        let flags = SetupArgs { seq_len: Some(64), ..SetupArgs::default() };
        let both = flags.or(file);
        assert_eq!((both.seq_len, both.accumulation), (Some(64), Some(4)));
    }

    #[test]
    fn a_misspelt_key_is_named_with_its_line_and_its_nearest() {
        let error = parse("# x\nseq_len = 512\n", "oomph.toml").expect_err("unknown");
        assert_eq!(error.fact, "`oomph.toml` line 2: no key `seq_len`");
        assert_eq!(error.hint.as_deref(), Some("the nearest known key is `seq-len`"));
    }

    #[test]
    fn a_bad_value_is_named_with_its_line() {
        for (text, part) in [
            ("seq-len = 0", "at least 1"),
            ("\nprecision = \"bf17\"", "bf17"),
            ("lora = [1]", "string or a number"),
            ("seq-len = ", "not TOML"),
        ] {
            let error = parse(text, "f").expect_err(text);
            let all = error.text(false);
            assert!(all.contains(part) && all.contains("line"), "{all}");
            assert_eq!(error.code, crate::cli::exit::USAGE);
        }
    }
}

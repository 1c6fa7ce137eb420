//! What clap finds wrong with the arguments, in oomph's own form of an error.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::cli::error::CliError;

/// Turns a parse error of clap's into one of ours: the value, what is wrong with it, the cure.
pub fn from_clap(error: &clap::Error) -> CliError {
    let get = |kind| error.get(kind).map(words);
    let argument = get(ContextKind::InvalidArg);
    let value = get(ContextKind::InvalidValue);
    let near = get(ContextKind::SuggestedValue)
        .or_else(|| get(ContextKind::SuggestedArg))
        .or_else(|| get(ContextKind::SuggestedSubcommand));
    let valid = get(ContextKind::ValidValue).filter(|text| !text.is_empty());
    let did_you_mean = |otherwise: String| match &near {
        Some(near) => format!("did you mean `{near}`?"),
        None => otherwise,
    };
    match (error.kind(), argument, value) {
        (ErrorKind::InvalidValue, Some(argument), Some(value)) if value.is_empty() => {
            CliError::usage(format!("{argument} needs a value"))
                .hint(valid.map_or("see --help".to_owned(), |v| format!("one of {v}")))
        }
        (ErrorKind::InvalidValue, Some(argument), Some(value)) => {
            let fact = format!("`{value}` is no value of {argument}");
            let all = valid.map_or("see --help".to_owned(), |all| format!("one of {all}"));
            let near = near.map_or(String::new(), |near| format!("did you mean `{near}`? "));
            CliError::usage(fact).hint(near + &all)
        }
        (ErrorKind::ValueValidation, Some(argument), Some(value)) => {
            let flag = argument.split(' ').next().unwrap_or_default();
            let reason = std::error::Error::source(error).map(ToString::to_string);
            CliError::usage(format!("{flag} is `{value}`"))
                .cause(reason.unwrap_or_else(|| "not a value it takes".to_owned()))
                .hint(format!("write {argument}"))
        }
        (ErrorKind::UnknownArgument, Some(argument), _) => {
            let usage = get(ContextKind::Usage).unwrap_or_default();
            let otherwise = if usage.contains("<CMD>") && !argument.starts_with('-') {
                format!("write `--` before the command: -- {argument} ...")
            } else if usage.contains("oomph [OPTIONS] <COMMAND>") {
                format!("write it behind the command: oomph COMMAND ... {argument}")
            } else {
                "--help lists the arguments".to_owned()
            };
            CliError::usage(format!("no argument `{argument}` here")).hint(did_you_mean(otherwise))
        }
        (ErrorKind::InvalidSubcommand, ..) => {
            let name = get(ContextKind::InvalidSubcommand).unwrap_or_default();
            // "Usage: oomph profiles [OPTIONS] <COMMAND>": those of `profiles` are meant.
            let usage = get(ContextKind::Usage).unwrap_or_default();
            let above = usage.split_once("Usage: ").map_or("oomph", |(_, line)| line);
            let above = above.split([' ', '\n']).take_while(|word| !word.starts_with(['[', '<']));
            let above: Vec<&str> = above.collect();
            CliError::usage(format!("no command `{name}`"))
                .hint(did_you_mean(format!("`{} --help` lists the commands", above.join(" "))))
        }
        (ErrorKind::MissingRequiredArgument, Some(argument), _) => CliError::usage(format!(
            "missing: {argument}"
        ))
        .hint(if argument.starts_with("<MODEL>") {
            "--help shows examples; `oomph profiles list` names the built-in models"
        } else if argument.starts_with("--gpu") {
            "`--gpu sim:rtx-4090`: a simulated GPU; `oomph profiles list` names them"
        } else {
            "--help shows examples"
        }),
        (ErrorKind::ArgumentConflict, Some(argument), _) => {
            let prior = get(ContextKind::PriorArg).unwrap_or_default();
            CliError::usage(if prior.is_empty() || prior == argument {
                format!("{argument} is given more than once")
            } else {
                format!("{argument} cannot be used with {prior}")
            })
            .hint("leave one of them out")
        }
        _ => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            CliError::usage(first.trim_start_matches("error: ")).hint("see --help")
        }
    }
}

fn words(value: &ContextValue) -> String {
    match value {
        ContextValue::String(text) => text.clone(),
        ContextValue::Strings(texts) => texts.join(", "),
        ContextValue::StyledStr(text) => text.to_string(),
        other => other.to_string(),
    }
}

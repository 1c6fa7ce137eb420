//! What a person or a program is told when there is no answer: the fact, the cause, one cure.

use serde_json::{Value, json};

use crate::cli::exit;

/// An error at the border of the program.
///
/// Printed on stderr as `error:`, `  cause:` and `hint:` lines; with `--json` also as one object
/// on stdout, so that a program that reads stdout always finds JSON there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CliError {
    /// The exit code, one of [`exit`].
    pub code: u8,
    /// What happened, with the value that it happened to.
    pub fact: String,
    /// Why, where more is known.
    pub cause: Option<String>,
    /// One thing to type or do.
    pub hint: Option<String>,
    /// What is known all the same: more keys of the JSON object.
    pub known: Vec<(&'static str, Value)>,
    /// Whether there is no GPU here at all, or none that is meant: what `--no-gpu skip` lets pass, as
    /// it does not a GPU that is there and cannot be used.
    pub gpu_missing: bool,
}

impl CliError {
    /// Makes an error with an exit code and a fact.
    pub fn new(code: u8, fact: impl Into<String>) -> CliError {
        CliError {
            code,
            fact: fact.into(),
            cause: None,
            hint: None,
            known: Vec::new(),
            gpu_missing: false,
        }
    }

    /// Makes an error for input that cannot be worked with (exit code 2).
    pub fn usage(fact: impl Into<String>) -> CliError {
        CliError::new(exit::USAGE, fact)
    }

    /// Makes an error for what a later version will do (exit code 2).
    pub fn not_yet(what: impl AsRef<str>) -> CliError {
        CliError::usage(format!("not yet: {}", what.as_ref()))
    }

    /// Adds the cause.
    pub fn cause(mut self, cause: impl Into<String>) -> CliError {
        self.cause = Some(cause.into());
        self
    }

    /// Adds the cure.
    pub fn hint(mut self, hint: impl Into<String>) -> CliError {
        self.hint = Some(hint.into());
        self
    }

    /// Makes an error for a machine without a GPU, or without the one that is meant.
    pub fn gpu_missing(fact: impl Into<String>) -> CliError {
        CliError { gpu_missing: true, ..CliError::new(exit::NO_GPU, fact) }
    }

    /// Adds a key of the JSON object with what is known all the same.
    pub fn known(mut self, key: &'static str, value: Value) -> CliError {
        self.known.push((key, value));
        self
    }

    /// Returns the text for stderr, with its final newline.
    pub fn text(&self, color: bool) -> String {
        let (red, cyan, off) =
            if color { ("\x1b[1;31m", "\x1b[36m", "\x1b[0m") } else { ("", "", "") };
        let mut text = format!("{red}error:{off} {}\n", self.fact);
        if let Some(cause) = &self.cause {
            text.push_str(&format!("  cause: {cause}\n"));
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("{cyan}hint:{off} {hint}\n"));
        }
        text
    }

    /// Returns the object for stdout under `--json` (`oomph.error/1`), with its final newline.
    pub fn json(&self) -> String {
        let mut object = json!({
            "schema": "oomph.error/1",
            "exit_code": self.code,
            "error": self.fact,
            "cause": self.cause,
            "hint": self.hint,
        });
        for (key, value) in &self.known {
            object[*key] = value.clone();
        }
        format!("{object:#}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_prints_fact_cause_and_hint_on_lines_of_their_own() {
        let error = CliError::usage("`x` is no model").cause("no such file").hint("try y");
        assert_eq!(
            error.text(false),
            "error: `x` is no model\n  cause: no such file\nhint: try y\n"
        );
        assert!(error.text(true).contains("\x1b["));
        let error = error.known("runs", json!([1]));
        let json: Value = serde_json::from_str(&error.json()).expect("valid JSON");
        assert_eq!(json["exit_code"], 2);
        assert_eq!(json["schema"], "oomph.error/1");
        assert_eq!(json["runs"][0], 1);
    }
}

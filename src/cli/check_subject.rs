//! What `oomph check` is asked about: a framework's configuration, an earlier plan, or a job of
//! flags; and which of its words name a file and which a model.

use std::io::Read;
use std::path::Path;

use serde_json::Value;

use crate::cli::check::{Args, FrameworkArg, Only};
use crate::cli::error::CliError;
use crate::ingest::framework::document::SyntaxError;
use crate::ingest::framework::{Configuration, ReadError, read as read_text, read_words};

/// The most bytes of a file that is checked: a limit against the wrong file.
const MAX_BYTES: u64 = 16 << 20;

/// A framework's configuration, and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct FrameworkFile {
    /// The file, `-`, or the command's arguments in words.
    pub name: String,
    /// Whether it is a file that can be written back.
    pub writable: bool,
    /// What was read.
    pub configuration: Configuration,
    /// MODEL beside it.
    pub model: Option<String>,
}

/// What is checked.
#[derive(Debug, Clone, PartialEq)]
pub enum Subject {
    /// A framework's configuration.
    Framework(Box<FrameworkFile>),
    /// A plan that `oomph plan --json` printed, with MODEL beside it.
    Plan {
        /// The file.
        name: String,
        /// Its content.
        plan: Value,
        /// MODEL, where it is named beside the plan.
        model: Option<String>,
    },
    /// Flags and `oomph.toml` alone.
    Job {
        /// MODEL, where it is named.
        model: Option<String>,
    },
}

/// Tells FILE from MODEL and reads it.
///
/// # Errors
/// When a file cannot be read, or the words do not go together.
pub fn read(args: &Args) -> Result<Subject, CliError> {
    let (mut files, mut models) = (Vec::new(), Vec::new());
    for thing in &args.things {
        if is_file(thing) { files.push(thing.as_str()) } else { models.push(thing.as_str()) }
    }
    if files.len() + usize::from(!args.words.is_empty()) > 1 {
        let second = files.get(1).copied().unwrap_or("--");
        return Err(CliError::usage(format!("one thing is checked at a time: `{second}` as well"))
            .hint("check them one after the other"));
    }
    if let [_, second, ..] = models.as_slice() {
        return Err(CliError::usage(format!("two models are named: `{second}` as well"))
            .hint("a FILE ends in .json, .yaml, .yml or .toml, or is `-`"));
    }
    let model = models.first().map(|model| (*model).to_owned());
    let dialect = args.framework.map(|FrameworkArg(dialect)| dialect);
    if !args.words.is_empty() {
        let words: Vec<String> =
            args.words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let configuration =
            read_words(&words, dialect).map_err(|error| explain("the arguments", error))?;
        let name = "the arguments".to_owned();
        let file = FrameworkFile { name, writable: false, configuration, model };
        return Ok(Subject::Framework(Box::new(file)));
    }
    let Some(name) = files.first() else {
        if args.only == Some(Only::Batch) || args.framework.is_some() {
            return Err(CliError::usage("there is no FILE whose batch could be checked")
                .hint("name a FILE, or put the training command's arguments after `--`"));
        }
        return Ok(Subject::Job { model });
    };
    let text = text(name)?;
    if let Some(plan) = earlier(name, &text)? {
        return Ok(Subject::Plan { name: (*name).to_owned(), plan, model });
    }
    let configuration = read_text(name, &text, dialect).map_err(|error| explain(name, error))?;
    let writable = *name != "-";
    let file = FrameworkFile { name: (*name).to_owned(), writable, configuration, model };
    Ok(Subject::Framework(Box::new(file)))
}

/// Whether a word names a FILE: one that is there and is no model, or that looks like one.
fn is_file(word: &str) -> bool {
    let path = Path::new(word);
    if word == "-" {
        return true;
    }
    if path.is_dir() {
        return false;
    }
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let looks = ["json", "yaml", "yml", "toml", "hjson"].contains(&extension);
    if !path.is_file() {
        return looks;
    }
    let model = std::fs::read_to_string(path)
        .ok()
        .and_then(|text| serde_json::from_str::<Value>(&text).ok())
        .is_some_and(|value| value.get("model_type").is_some());
    !model
}

fn text(name: &str) -> Result<String, CliError> {
    let unreadable = |cause: String| {
        CliError::usage(format!("cannot read `{name}`"))
            .cause(cause)
            .hint("FILE is a framework's configuration, an earlier plan, or `-` for stdin")
    };
    let mut bytes = Vec::new();
    let read = if name == "-" {
        std::io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(name).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
    };
    read.map_err(|error| unreadable(error.to_string()))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(unreadable(format!("it has more than {MAX_BYTES} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|_| unreadable("it is not UTF-8".to_owned()))?;
    let Some(rest) = text.strip_prefix('\u{feff}') else { return Ok(text) };
    if rest.trim_start().starts_with('{') {
        return Err(unreadable(
            "it begins with a byte order mark, which Python's json refuses".into(),
        ));
    }
    Ok(rest.to_owned())
}

/// Returns a plan of ours; other answers of ours are no FILE.
fn earlier(name: &str, text: &str) -> Result<Option<Value>, CliError> {
    let Ok(value) = serde_json::from_str::<Value>(text) else { return Ok(None) };
    match value.get("schema").and_then(Value::as_str) {
        Some("oomph.plan/1") => Ok(Some(value)),
        Some(schema) if schema.starts_with("oomph.") => {
            Err(CliError::usage(format!("`{name}` is {schema}, which is no plan"))
                .hint("`oomph plan ... --json > plan.json`; --baseline takes the others"))
        }
        _ => Ok(None),
    }
}

/// Says where a file is not what it should be.
fn explain(name: &str, error: ReadError) -> CliError {
    let at = |SyntaxError { place, what, hint }: SyntaxError| {
        let error = CliError::usage(format!("{name}:{}:{}: {what}", place.line, place.column));
        match hint {
            Some(hint) => error.hint(hint),
            None => error.hint("mend it there, or name another FILE"),
        }
    };
    match error {
        ReadError::Syntax { form, error } => at(error).cause(format!("it is read as {form}")),
        ReadError::Duplicate(error) => at(error),
        ReadError::Nobodys => {
            CliError::usage(format!("{name}: no framework is known by these keys"))
                .hint("--framework deepspeed, hf, accelerate, axolotl, llamafactory, ...")
        }
    }
}

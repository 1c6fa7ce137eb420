//! Where the answer of `oomph check` goes: stdout in the chosen format, GitHub's own files, a diff.

use std::io::Write;
use std::path::Path;

use serde_json::Value;
use similar::TextDiff;

use crate::cli::check::{Args, CheckFormat, FrameworkArg};
use crate::cli::check_subject::FrameworkFile;
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::output::{self, Answer, Style};
use crate::ingest::framework::edit::apply;
use crate::ingest::framework::judge::{Given, judge};
use crate::ingest::framework::{Configuration, Form, argv, read, read_words};
use crate::plan::finding::{Check, Difference};
use crate::plan::result::Estimate;
use crate::report;
use crate::report::text::Paint;
use crate::units::Bytes;

/// The most rounds of mending: each may bring to light what the one before hid.
const ROUNDS: usize = 4;

/// The sizes of an earlier answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Baseline {
    sizes: Vec<(&'static str, Bytes)>,
}

/// The sizes that are compared.
const COMPARED: [&str; 3] = ["peak_allocated_bytes", "peak_reserved_bytes", "min_capacity_bytes"];

/// Reads an earlier answer: JSON of check, estimate or plan.
///
/// # Errors
/// When the file cannot be read, or holds no estimate.
pub fn baseline(path: &Path) -> Result<Baseline, CliError> {
    let shown = path.display();
    let refuse = |cause: String| {
        CliError::usage(format!("--baseline {shown} cannot be used"))
            .cause(cause)
            .hint("oomph check ... --json > base.json")
    };
    let text = std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
    let value: Value = serde_json::from_str(&text).map_err(|error| refuse(error.to_string()))?;
    let estimate = if value["estimate"].is_object() { &value["estimate"] } else { &value };
    let size = |name: &'static str| Some((name, Bytes::new(estimate[name].as_u64()?)));
    let sizes: Vec<_> = COMPARED.into_iter().filter_map(size).collect();
    if sizes.len() < COMPARED.len() {
        return Err(refuse("it holds no estimate of memory".to_owned()));
    }
    Ok(Baseline { sizes })
}

impl Baseline {
    /// Returns each size then and now.
    pub fn against(&self, estimate: &Estimate) -> Vec<Difference> {
        let footprint = &estimate.footprint;
        let now = [footprint.peak_allocated, footprint.peak_reserved, estimate.need()];
        let pairs = self.sizes.iter().zip(now);
        pairs.map(|(&(name, before), now)| Difference { name, before, now }).collect()
    }
}

/// Renders the answer, and tells GitHub where it runs there.
///
/// # Errors
/// When a file cannot be written.
pub fn answer(args: &Args, check: &Check, style: Style) -> Result<Answer, CliError> {
    let json = if style.json { CheckFormat::Json } else { CheckFormat::Text };
    let for_people = || report::check::render(check, Paint { on: style.color });
    // The runner reads a step's stdout from a pipe; what is sent to a file is read by somebody else.
    let in_a_log =
        in_github() && args.format.is_none() && args.out.is_none() && !output::stdout_is_file();
    let text = match args.format.unwrap_or(json) {
        CheckFormat::Text if in_a_log => report::github::folded(&for_people()),
        CheckFormat::Text => for_people(),
        CheckFormat::Json => report::check::json(check),
        CheckFormat::Github => {
            let file = in_repository(check);
            report::github::annotations(check, file.as_deref())
                + &report::github::folded(&for_people())
        }
        CheckFormat::Junit => report::junit::render(check),
        CheckFormat::Dotenv => report::check::dotenv(check),
        CheckFormat::Markdown => report::github::markdown(check),
    };
    github(args, check);
    match &args.out {
        Some(path) => {
            output::write_file(path, &text)?;
            Ok(Answer { text: String::new(), code: check.code })
        }
        None => Ok(Answer { text, code: check.code }),
    }
}

/// Whether the answer goes to a program that has to be told of errors in its own way.
pub fn is_told(args: &Args) -> bool {
    args.format.is_some_and(|format| format != CheckFormat::Text) || in_github()
}

fn in_github() -> bool {
    std::env::var_os("GITHUB_ACTIONS").is_some_and(|on| on == "true")
}

/// Returns what was checked as a path from the root of the repository: a step may run elsewhere in
/// it. Nothing for what is no file there.
fn in_repository(check: &Check) -> Option<String> {
    let path = Path::new(&check.subject).canonicalize().ok().filter(|path| path.is_file())?;
    let root = std::env::var_os("GITHUB_WORKSPACE").filter(|root| !root.is_empty());
    let root = root.and_then(|root| Path::new(&root).canonicalize().ok());
    match root.and_then(|root| path.strip_prefix(root).ok().map(Path::to_path_buf)) {
        Some(inside) => Some(inside.to_string_lossy().into_owned()),
        None => Some(check.subject.clone()),
    }
}

/// In a step of GitHub Actions the summary and the outputs are written as well, and, where stdout
/// has another format, the annotations to stderr: the runner reads both.
///
/// A summary that cannot be written is no reason for another exit code.
fn github(args: &Args, check: &Check) {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if !in_github() {
        return;
    }
    let append = |name: &str, text: &str| {
        let Some(path) = variable(name) else { return };
        let file = std::fs::OpenOptions::new().append(true).create(true).open(&path);
        if let Err(error) = file.and_then(|mut file| file.write_all(text.as_bytes())) {
            output::write_stderr(&format!("warning: {name} cannot be written: {error}\n"));
        }
    };
    append("GITHUB_STEP_SUMMARY", &report::github::markdown(check));
    append("GITHUB_OUTPUT", &report::github::outputs(check));
    if args.format != Some(CheckFormat::Github) {
        let file = in_repository(check);
        output::write_stderr(&report::github::annotations(check, file.as_deref()));
    }
}

/// Prints what would mend a configuration as a diff, or mends it.
///
/// # Errors
/// When the file cannot be written, or is none.
pub fn fixed(
    args: &Args,
    file: &FrameworkFile,
    check: &Check,
    style: Style,
) -> Result<Answer, CliError> {
    let before = &file.configuration.document.text;
    let after = mended(args, file, check)?;
    output::write_stderr(&report::check::render(check, Paint { on: false }));
    if *before == after {
        output::write_stderr("nothing that can be mended by itself\n");
        return Ok(Answer { text: String::new(), code: check.code });
    }
    if args.write {
        if !file.writable {
            return Err(CliError::usage(format!("--write cannot mend {}", file.name))
                .hint("--fix prints the diff"));
        }
        output::write_file(Path::new(&file.name), &after)?;
    }
    let name = if file.writable { file.name.as_str() } else { "arguments" };
    let text = diff(name, before, &after);
    let _ = style;
    Ok(Answer { text, code: check.code })
}

fn diff(name: &str, before: &str, after: &str) -> String {
    // A last line without its newline would be shown as changed by that alone.
    TextDiff::from_lines(before, after)
        .unified_diff()
        .header(&format!("a/{name}"), &format!("b/{name}"))
        .missing_newline_hint(true)
        .to_string()
}

/// Applies what mends a text until nothing does.
fn mended(args: &Args, file: &FrameworkFile, check: &Check) -> Result<String, CliError> {
    let mut configuration = file.configuration.clone();
    let world = check.world.as_ref().map_or(1, |world| world.size);
    let given = check_given(args)?;
    for _ in 0..ROUNDS {
        let edits = judge(&configuration, world, &given).edits;
        let text = apply(&configuration.document.text, &edits);
        if text == configuration.document.text {
            break;
        }
        configuration = reread(args, file, &configuration, &text)?;
    }
    Ok(configuration.document.text)
}

fn check_given(args: &Args) -> Result<Given, CliError> {
    crate::cli::check_framework::given(&args.setup)
}

/// Reads a mended text as the first was read.
fn reread(
    args: &Args,
    file: &FrameworkFile,
    before: &Configuration,
    text: &str,
) -> Result<Configuration, CliError> {
    let dialect = args.framework.map_or(before.claims.dialect, |FrameworkArg(dialect)| dialect);
    let read = if before.form == Form::Words {
        read_words(&argv::words(text), Some(dialect))
    } else {
        read(&file.name, text, Some(dialect))
    };
    read.map_err(|error| {
        CliError::new(exit::BROKEN, "what should mend the file broke it").cause(error.to_string())
    })
}

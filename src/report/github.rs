//! A check for GitHub Actions: annotations, outputs, and Markdown for summaries and comments.

use crate::plan::finding::{Check, Finding, Level, Memory};
use crate::report::check::{change, headline, variables};

/// Annotations of one kind that a step may have; GitHub drops those beyond.
///
/// Source: github.com/orgs/community/discussions/26680 (10 of a kind a step, 50 a job).
const MOST_OF_A_KIND: usize = 10;
/// The most bytes of Markdown: over 1,024 KiB GitHub drops a summary, and a comment has 65,536.
const MOST_MARKDOWN: usize = 60_000;

/// Renders what was found as annotations, at most ten of a kind; the last of them says how many
/// more there are. `file` is what was checked, as seen from the root of the repository, where it is
/// a file there.
pub fn annotations(check: &Check, file: Option<&str>) -> String {
    let mut text = String::new();
    for level in [Level::Error, Level::Warning] {
        let mut lines: Vec<String> = check
            .findings
            .iter()
            .filter(|finding| finding.level == level)
            .map(|finding| annotation(finding, file))
            .collect();
        if let (Level::Error, Memory::Unanswered { fact, cause, hint, .. }) = (level, &check.memory)
        {
            let all = [Some(fact), cause.as_ref(), hint.as_ref()];
            let words: Vec<&str> = all.into_iter().flatten().map(String::as_str).collect();
            lines.insert(0, format!("::error title=oomph::{}", data(&words.join("; "))));
        }
        let hidden = lines.len().saturating_sub(MOST_OF_A_KIND);
        if hidden > 0 {
            lines.truncate(MOST_OF_A_KIND - 1);
            let more = hidden + 1;
            lines.push(format!("::{} title=oomph::and {more} more: see the log", level.name()));
        }
        text.extend(lines.into_iter().map(|line| line + "\n"));
    }
    if text.is_empty() {
        text = format!("::notice title=oomph::{}\n", data(&headline(check)));
    }
    text
}

fn annotation(finding: &Finding, file: Option<&str>) -> String {
    let mut properties = Vec::new();
    if let Some((place, file)) = finding.place.zip(file) {
        properties.push(format!("file={}", property(file)));
        properties.push(format!("line={}", place.line));
        properties.push(format!("col={}", place.column));
    }
    properties.push(format!("title=oomph%3A {}", finding.verdict.name()));
    let key = finding.key.as_ref().map_or(String::new(), |key| format!("{key}: "));
    let repairs: String =
        finding.repairs.iter().map(|(key, value)| format!("; repair: {key} = {value}")).collect();
    let message = data(&format!("{key}{}{repairs}", finding.message));
    format!("::{} {}::{message}", finding.level.name(), properties.join(","))
}

/// Folds a report in the log of a step: its first line, and a group of the rest.
///
/// The runner takes a line that begins with `::`, blanks aside, for a command to itself, and so too
/// what a pull request wrote into a configuration: such a line is no longer one.
///
/// Source: github.com/actions/runner, `src/Runner.Common/ActionCommand.cs`.
pub fn folded(report: &str) -> String {
    let harmless = |line: &str| {
        let line = line.replace("##[", "## [");
        match line.trim_start().starts_with("::") {
            true => line.replacen("::", ": :", 1),
            false => line,
        }
    };
    let mut lines = report.trim_end().lines().map(harmless);
    let first = lines.next().unwrap_or_default();
    let rest: String = lines.map(|line| line + "\n").collect();
    format!("{first}\n::group::oomph check in full\n{rest}::endgroup::\n")
}

/// Escapes a message.
///
/// Source: github.com/actions/toolkit, `packages/core/src/command.ts`.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes a property.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// Renders what later steps may want to know, for `GITHUB_OUTPUT`.
pub fn outputs(check: &Check) -> String {
    variables(check).into_iter().map(|(name, value)| format!("{name}={value}\n")).collect()
}

/// Renders a check as Markdown: a step's summary, a comment, an annotation of Buildkite.
pub fn markdown(check: &Check) -> String {
    let mark = if check.code == 0 { "✅" } else { "❌" };
    let mut text = format!("### {mark} oomph: {}\n\n", cell(&headline(check)));
    if let Memory::Unanswered { fact, cause, hint, .. } = &check.memory {
        text.push_str(&format!("**Not answered:** {}\n", cell(fact)));
        text.extend(cause.iter().map(|cause| format!("\n{}\n", cell(cause))));
        text.extend(hint.iter().map(|hint| format!("\nHint: {}\n", cell(hint))));
        text.push('\n');
    }
    if !check.findings.is_empty() {
        text.push_str("| | where | key | what | repair |\n|---|---|---|---|---|\n");
    }
    for (at, finding) in check.findings.iter().enumerate() {
        let row = row(check, finding);
        if text.len() + row.len() > MOST_MARKDOWN {
            text.push_str(&format!("\n… and {} more\n", check.findings.len() - at));
            break;
        }
        text.push_str(&row);
    }
    if !check.differences.is_empty() {
        text.push_str("\n**Against the baseline**\n\n");
        text.extend(check.differences.iter().map(|other| format!("- {}\n", cell(&change(other)))));
    }
    text
}

fn row(check: &Check, finding: &Finding) -> String {
    let place = finding.place.map_or(String::new(), |place| {
        format!("`{}:{}:{}`", check.subject.replace('`', ""), place.line, place.column)
    });
    let key = match (&finding.key, &finding.value) {
        (Some(key), Some(value)) => format!("{key} = {value}"),
        (Some(key), None) => key.clone(),
        _ => String::new(),
    };
    let repairs: Vec<String> =
        finding.repairs.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    format!(
        "| {} | {} | {} | {} | {} |\n",
        finding.level.name(),
        place.replace('|', "\\|"),
        cell(&key),
        cell(&finding.message),
        cell(&repairs.join(", ")),
    )
}

/// Keeps a text from being read as Markdown or HTML, or from ending its cell.
fn cell(text: &str) -> String {
    let mut safe = String::new();
    for c in text.chars() {
        match c {
            '\n' | '\r' => safe.push(' '),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' => {
                safe.push('\\');
                safe.push(c);
            }
            c => safe.push(c),
        }
    }
    safe
}

//! A check as JUnit's XML, which GitLab, Jenkins and Buildkite read.

use crate::plan::finding::{Check, Level, Memory};
use crate::report::check::headline;

/// Renders a check: a test case for each finding, and one for whether it fits where that stayed
/// open.
///
/// What is found is a `failure`, what could not be answered an `error`, what was not asked
/// `skipped`. Warnings are failures where they alone fail the gate. Cases of one name would be
/// taken for one: a second has a number.
pub fn render(check: &Check) -> String {
    let mut cases = String::new();
    let (mut total, mut failures, mut errors, mut skipped) = (0, 0, 0, 0);
    let mut names: Vec<String> = Vec::new();
    let unanswered = matches!(check.memory, Memory::Unanswered { .. });
    let warned = check.code != 0 && check.count(Level::Error) == 0 && !unanswered;
    for finding in &check.findings {
        total += 1;
        let key = finding.key.as_ref().map_or(String::new(), |key| format!(" {key}"));
        let name = format!("{}{key}", finding.verdict.name());
        names.push(name.clone());
        let name = match names.iter().filter(|other| **other == name).count() {
            1 => escaped(&name),
            nth => escaped(&format!("{name} {nth}")),
        };
        let place = finding.place.map_or(String::new(), |place| {
            format!(" file=\"{}\" line=\"{}\"", escaped(&check.subject), place.line)
        });
        cases.push_str(&format!(
            "    <testcase classname=\"{}\" name=\"{name}\"{place}",
            escaped(&check.subject)
        ));
        let message = escaped(&finding.message);
        match finding.level {
            level if level == Level::Error || (warned && level == Level::Warning) => {
                failures += 1;
                let repairs: String = finding
                    .repairs
                    .iter()
                    .map(|(key, value)| escaped(&format!("repair: {key} = {value}\n")))
                    .collect();
                cases.push_str(&format!(
                    ">\n      <failure message=\"{message}\" type=\"{}\">{repairs}</failure>\n    \
                     </testcase>\n",
                    finding.verdict.name()
                ));
            }
            _ => cases.push_str(&format!(
                ">\n      <system-out>{message}</system-out>\n    </testcase>\n"
            )),
        }
    }
    let open =
        format!("    <testcase classname=\"{}\" name=\"fits\">\n      ", escaped(&check.subject));
    match &check.memory {
        Memory::Answered(_) => {}
        Memory::NotAsked(why) => {
            (total, skipped) = (total + 1, skipped + 1);
            let why = escaped(why);
            cases.push_str(&format!("{open}<skipped message=\"{why}\"/>\n    </testcase>\n"));
        }
        Memory::Unanswered { fact, cause, hint, .. } => {
            (total, errors) = (total + 1, errors + 1);
            let all = [cause.as_deref(), hint.as_deref()];
            let more = escaped(&all.into_iter().flatten().collect::<Vec<_>>().join("\n"));
            let fact = escaped(fact);
            cases.push_str(&format!(
                "{open}<error message=\"{fact}\">{more}</error>\n    </testcase>\n"
            ));
        }
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"oomph\" \
         tests=\"{total}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"{skipped}\">\n    \
         <properties><property name=\"verdict\" value=\"{}\"/></properties>\n{cases}  \
         </testsuite>\n</testsuites>\n",
        escaped(&headline(check))
    )
}

/// Escapes text for XML, and drops what XML 1.0 has no way to write.
fn escaped(text: &str) -> String {
    let mut safe = String::new();
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\n' => safe.push_str("&#10;"),
            '\t' => safe.push_str("&#9;"),
            c if (c as u32) < 32 || matches!(c, '\u{fffe}' | '\u{ffff}') => safe.push('?'),
            c => safe.push(c),
        }
    }
    safe
}

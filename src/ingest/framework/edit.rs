//! A configuration's text with single values changed, and everything else as it was.

use crate::ingest::framework::document::{Document, Span};
use crate::ingest::framework::{Configuration, Form};

/// A piece of text in the place of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// What goes; empty for an insertion.
    pub at: Span,
    /// What comes.
    pub text: String,
}

/// Applies edits that do not overlap; of two at one place the first counts.
pub fn apply(text: &str, edits: &[Edit]) -> String {
    let mut edits: Vec<&Edit> = edits.iter().collect();
    edits.sort_by_key(|edit| edit.at.start);
    let mut result = String::new();
    let mut done = 0;
    for Edit { at, text: new } in edits {
        let (Some(kept), true) = (text.get(done..at.start), at.start >= done) else { continue };
        result.push_str(kept);
        result.push_str(new);
        done = at.end.max(at.start);
    }
    result.push_str(text.get(done..).unwrap_or_default());
    result
}

/// Gives a key another name, in the quotes that it has.
pub fn rename(document: &Document, at: Span, name: &str) -> Edit {
    let old = document.slice(at);
    let leaf = name.rsplit('.').next().unwrap_or(name);
    let text = match old.chars().next() {
        Some(quote @ ('"' | '\'')) => format!("{quote}{leaf}{quote}"),
        Some('-') => format!("--{}", dashed(old, name)),
        _ => leaf.to_owned(),
    };
    Edit { at, text }
}

/// Arguments are written with dashes where the others are.
fn dashed(like: &str, name: &str) -> String {
    if like.trim_start_matches('-').contains('-') {
        name.replace('_', "-")
    } else {
        name.to_owned()
    }
}

/// Writes a number: over the value at `there`, or as a new key behind `near`, a key and where its
/// value stands. `None` where there is neither.
pub fn write_number(
    configuration: &Configuration,
    key: &str,
    there: Option<Span>,
    near: Option<(&str, Span)>,
    number: u64,
) -> Option<Edit> {
    let document = &configuration.document;
    if let Some(at) = there {
        return Some(Edit { at, text: number.to_string() });
    }
    let (near_key, near) = near?;
    let text = &document.text;
    let key_at = document.get(near_key)?.key_at;
    let line = text.get(..key_at.start)?.rfind('\n').map_or(0, |at| at + 1);
    let lead = text.get(line..key_at.start)?;
    let alone = lead.trim().is_empty();
    let leaf = key.rsplit('.').next().unwrap_or(key);
    let line_end = text.get(near.end..)?.find('\n').map_or(text.len(), |at| near.end + at);
    let (start, new) = match configuration.form {
        Form::Json | Form::Hjson if alone => (near.end, format!(",\n{lead}\"{leaf}\": {number}")),
        Form::Json | Form::Hjson => (near.end, format!(", \"{leaf}\": {number}")),
        Form::Yaml if alone => (line_end, format!("\n{lead}{leaf}: {number}")),
        Form::Yaml => (near.end, format!(", {leaf}: {number}")),
        Form::Toml => (line_end, format!("\n{lead}{leaf} = {number}")),
        Form::Words => {
            let like = document.slice(key_at);
            let dashes = if like.starts_with("--") { "--" } else { "" };
            let name = dashed(like, key);
            let joined = if dashes.is_empty() { "=" } else { " " };
            (near.end, format!(" {dashes}{name}{joined}{number}"))
        }
    };
    Some(Edit { at: Span { start, end: start }, text: new })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::framework::dialect::Dialect;
    use crate::ingest::framework::{read, read_words};

    fn inserted(name: &str, text: &str) -> String {
        let configuration = read(name, text, Some(Dialect::Hf)).expect("readable");
        let near = configuration.claims.micro_batch.as_ref().map(|c| (c.key.as_str(), c.at));
        let key = "gradient_accumulation_steps";
        let edit = write_number(&configuration, key, None, near, 11).expect("a place");
        apply(text, &[edit])
    }

    #[test]
    fn a_new_key_stands_behind_its_neighbour_in_every_form() {
        let json =
            inserted("a.json", "{\n  \"per_device_train_batch_size\": 6,\n  \"seed\": 1\n}\n");
        assert_eq!(
            json,
            "{\n  \"per_device_train_batch_size\": 6,\n  \"gradient_accumulation_steps\": 11,\n  \
             \"seed\": 1\n}\n"
        );
        let flat = inserted("a.json", "{\"per_device_train_batch_size\": 6}");
        assert_eq!(
            flat,
            "{\"per_device_train_batch_size\": 6, \"gradient_accumulation_steps\": 11}"
        );
        let yaml = inserted("a.yaml", "per_device_train_batch_size: 6  # six\nseed: 1\n");
        assert_eq!(
            yaml,
            "per_device_train_batch_size: 6  # six\ngradient_accumulation_steps: 11\nseed: 1\n"
        );
    }

    #[test]
    fn arguments_keep_their_own_style() {
        let words: Vec<String> =
            ["--micro-batch-size", "6"].iter().map(|word| (*word).to_owned()).collect();
        let configuration = read_words(&words, Some(Dialect::Megatron)).expect("readable");
        let near = configuration.claims.micro_batch.as_ref().map(|c| (c.key.as_str(), c.at));
        let edit = write_number(&configuration, "global_batch_size", None, near, 264);
        let text = apply(&configuration.document.text, &[edit.expect("a place")]);
        assert_eq!(text, "--micro-batch-size 6 --global-batch-size 264");
    }

    #[test]
    fn edits_leave_everything_else_as_it_was() {
        let edit = |start, end, text: &str| Edit { at: Span { start, end }, text: text.to_owned() };
        assert_eq!(apply("a: 1, b: 2", &[edit(9, 10, "30"), edit(3, 4, "10")]), "a: 10, b: 30");
        assert_eq!(apply("ab", &[edit(0, 2, "x"), edit(1, 2, "y")]), "x", "no overlap");
    }
}

//! Arguments of a training script: `--key value`, `--key=value`, `key=value`, `--flag`.

use crate::ingest::framework::document::{Document, Member, Node, Scalar, Span};

/// Reads arguments. Their text is what a shell would be given, so that a place can be shown.
///
/// A name is taken with `_` for `-`, since argparse makes one of the other. Words that belong to no
/// key (the script, its launcher) are passed over.
pub fn read(words: &[String]) -> Document {
    let mut text = String::new();
    let spans: Vec<Span> = words
        .iter()
        .map(|word| {
            if !text.is_empty() {
                text.push(' ');
            }
            let start = text.len();
            text.push_str(&quoted(word));
            Span { start, end: text.len() }
        })
        .collect();
    let mut members = Vec::new();
    let mut at = 0;
    while let Some(word) = words.get(at) {
        let span = spans[at];
        at += 1;
        let dashed = word.strip_prefix("--");
        let name = dashed.unwrap_or(word);
        if let Some((key, value)) = name.split_once('=').filter(|(key, _)| is_key(key)) {
            let end = span.end;
            let start = span.end.saturating_sub(value.len()).max(span.start);
            let key_end = span.start + (word.len() - name.len()) + key.len();
            let key_at = Span { start: span.start, end: key_end };
            members.push(member(key, key_at, scalar(value), Span { start, end }));
            continue;
        }
        let Some(key) = dashed.filter(|key| is_key(key)) else { continue };
        match words.get(at).filter(|next| !next.starts_with("--")) {
            Some(next) => {
                members.push(member(key, span, scalar(next), spans[at]));
                at += 1;
            }
            None => members.push(member(key, span, Scalar::Bool(true), span)),
        }
    }
    Document::new(&text, &members)
}

fn is_key(key: &str) -> bool {
    let first = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    first && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

fn member(key: &str, key_at: Span, scalar: Scalar, at: Span) -> Member {
    Member { key: key.replace('-', "_"), key_at, node: Node::Scalar(scalar), at }
}

/// A word is text until someone asks for more; what is a whole number is one.
fn scalar(word: &str) -> Scalar {
    if let Ok(number) = word.parse() {
        return Scalar::Integer(number);
    }
    match word {
        "true" | "True" => Scalar::Bool(true),
        "false" | "False" => Scalar::Bool(false),
        _ => word.parse().map_or_else(|_| Scalar::Text(word.to_owned()), Scalar::Float),
    }
}

/// Quotes what a shell would take apart.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Document {
        read(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn keys_come_with_a_blank_an_equals_sign_or_alone() {
        let document = of(
            "torchrun train.py --micro-batch-size 4 --training.seq_len=2048 batch_size=6 --bf16",
        );
        let get = |path: &str| document.get(path).and_then(|entry| entry.scalar.clone());
        assert_eq!(get("micro_batch_size"), Some(Scalar::Integer(4)));
        assert_eq!(get("training.seq_len"), Some(Scalar::Integer(2048)));
        assert_eq!(get("batch_size"), Some(Scalar::Integer(6)));
        assert_eq!(get("bf16"), Some(Scalar::Bool(true)));
        assert_eq!(document.entries.len(), 4);
    }

    #[test]
    fn a_value_can_be_found_in_the_text_again() {
        let document = of("run.py --a 12 --b=34 c=5");
        let slices: Vec<&str> = document.entries.iter().map(|e| document.slice(e.at)).collect();
        assert_eq!(slices, ["12", "34", "5"]);
    }
}

//! Arguments of a training script: `--key value`, `--key=value`, `key=value`, `--flag`.

use crate::ingest::framework::document::{Document, Member, Node, Scalar, Span};

/// Keys that take several words (argparse's `nargs`): Megatron's ramp-up, up to core 0.17, and the
/// layers that TRL makes adapters for.
const SEVERAL: [&str; 4] =
    ["rampup-batch-size", "rampup_batch_size", "lora-target-modules", "lora_target_modules"];

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
            // A quote stands before the key and behind the value.
            let quote = usize::from(span.end - span.start != word.len());
            let (first, end) = (span.start + quote, span.end - quote);
            let start = end.saturating_sub(value.len()).max(first);
            let key_end = first + (word.len() - name.len()) + key.len();
            let key_at = Span { start: first, end: key_end };
            members.push(member(key, key_at, scalar(value), Span { start, end }));
            continue;
        }
        let Some(key) = dashed.filter(|key| is_key(key)) else { continue };
        match words.get(at).filter(|next| !next.starts_with("--")) {
            Some(_) if SEVERAL.contains(&key) => {
                let more = words[at..].iter().take_while(|next| !next.starts_with("--"));
                let all = &words[at..at + more.count()];
                let place = Span { start: spans[at].start, end: spans[at + all.len() - 1].end };
                members.push(member(key, span, Scalar::Text(all.join(" ")), place));
                at += all.len();
            }
            Some(next) => {
                members.push(member(key, span, scalar(next), spans[at]));
                at += 1;
            }
            None => members.push(member(key, span, Scalar::Bool(true), span)),
        }
    }
    Document::new(&text, &members)
}

/// Takes a text of [`read`]'s apart again, quotes included.
pub fn words(text: &str) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let (mut quoted, mut escaped) = (false, false);
    for c in text.chars() {
        match c {
            _ if escaped => {
                word.get_or_insert_default().push(c);
                escaped = false;
            }
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' if !quoted => escaped = true,
            ' ' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
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
    fn words_come_back_from_the_text() {
        for words in [
            vec!["run.py", "--schedule", "0:16 2B:32", ""],
            vec!["it's", "a\\b", "'", " "],
            vec!["plain", "--a=b"],
        ] {
            let all: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(super::words(&read(&all).text), all);
        }
    }

    #[test]
    fn a_ramp_is_three_words_of_one_key() {
        let document = of("--rampup-batch-size 16 8 300000 --seq-length 2048 --rampup-batch-size");
        let ramp = document.get("rampup_batch_size").expect("there");
        assert_eq!(ramp.scalar, Some(Scalar::Bool(true)), "the last one wins");
        let first = &document.entries[0];
        assert_eq!(document.slice(first.at), "16 8 300000");
        let length = document.get("seq_length").and_then(|entry| entry.scalar.clone());
        assert_eq!(length, Some(Scalar::Integer(2048)));
    }

    #[test]
    fn a_value_can_be_found_in_the_text_again() {
        let document = of("run.py --a 12 --b=34 c=5");
        let slices: Vec<&str> = document.entries.iter().map(|e| document.slice(e.at)).collect();
        assert_eq!(slices, ["12", "34", "5"]);
        let quoted = read(&["--schedule=0:16 2B:32".to_owned()]);
        assert_eq!(quoted.slice(quoted.entries[0].at), "0:16 2B:32");
        assert_eq!(quoted.slice(quoted.entries[0].key_at), "--schedule");
    }
}

//! One line of a scenario: `directive word key=value key="value with spaces" flag`.

/// A line taken apart; what nobody asked for is an error at [`Line::finish`].
pub struct Line {
    words: Vec<String>,
    pairs: Vec<(String, String)>,
}

impl Line {
    /// Takes a line apart; `None` for a blank one or a comment.
    pub fn parse(text: &str) -> Result<Option<Line>, String> {
        let mut line = Line { words: Vec::new(), pairs: Vec::new() };
        let mut rest = text.trim();
        while !rest.is_empty() && !rest.starts_with('#') {
            let (key, value, after) = next_token(rest)?;
            match value {
                Some(value) => line.pairs.push((key, value)),
                None => line.words.push(key),
            }
            rest = after.trim_start();
        }
        let blank = line.words.is_empty() && line.pairs.is_empty();
        Ok(if blank { None } else { Some(line) })
    }

    /// Takes the next bare word.
    pub fn word(&mut self) -> Result<String, String> {
        if self.words.is_empty() {
            return Err("a word is missing".to_owned());
        }
        Ok(self.words.remove(0))
    }

    /// Whether the bare word `flag` is there; takes it.
    pub fn flag(&mut self, flag: &str) -> bool {
        let before = self.words.len();
        self.words.retain(|word| word != flag);
        self.words.len() != before
    }

    /// Takes `key=...` if it is there.
    pub fn text(&mut self, key: &str) -> Option<String> {
        let at = self.pairs.iter().position(|(name, _)| name == key)?;
        Some(self.pairs.remove(at).1)
    }

    /// Takes `key=...` as a whole number.
    pub fn number(&mut self, key: &str) -> Result<Option<u64>, String> {
        self.parsed(key, |text| match text.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).ok(),
            None => text.parse().ok(),
        })
    }

    /// Takes `key=...` as a size: bytes, or with KiB, MiB, GiB or TiB.
    pub fn size(&mut self, key: &str) -> Result<Option<u64>, String> {
        self.parsed(key, |text| {
            let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
            let shift = match &text[digits..] {
                "" | "B" => 0,
                "KiB" => 10,
                "MiB" => 20,
                "GiB" => 30,
                "TiB" => 40,
                _ => return None,
            };
            text[..digits].parse::<u64>().ok()?.checked_mul(1 << shift)
        })
    }

    /// Takes `key=...` by a function of one's own.
    pub fn parsed<T>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, String> {
        match self.text(key) {
            None => Ok(None),
            Some(text) => match parse(&text) {
                Some(value) => Ok(Some(value)),
                None => Err(format!("{key}={text} is not understood")),
            },
        }
    }

    /// Refuses what is left over.
    pub fn finish(self) -> Result<(), String> {
        match (self.words.first(), self.pairs.first()) {
            (Some(word), _) => Err(format!("`{word}` is not understood")),
            (None, Some((key, _))) => Err(format!("the key `{key}` is not known here")),
            (None, None) => Ok(()),
        }
    }
}

/// Splits off one word or one pair: (word or key, value, rest).
fn next_token(text: &str) -> Result<(String, Option<String>, &str), String> {
    let end = text.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(text.len());
    let (key, rest) = text.split_at(end);
    let Some(value) = rest.strip_prefix('=') else {
        return Ok((key.to_owned(), None, rest));
    };
    if let Some(quoted) = value.strip_prefix('"') {
        let close = quoted.find('"').ok_or_else(|| format!("{key}=\" is not closed"))?;
        return Ok((key.to_owned(), Some(quoted[..close].to_owned()), &quoted[close + 1..]));
    }
    let end = value.find(char::is_whitespace).unwrap_or(value.len());
    Ok((key.to_owned(), Some(value[..end].to_owned()), &value[end..]))
}

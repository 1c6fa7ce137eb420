//! `--lora r=16[,targets=q_proj+v_proj|all-linear][,dropout=0.05]`.

use std::str::FromStr;

use crate::cli::values::count;
use crate::model::adapters::{Lora, Targets};

/// The highest rank that is taken: that of a full matrix in the widest of models.
const MAX_RANK: u64 = 1 << 16;

/// Adapters as they are asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraArg {
    rank: u64,
    targets: Option<Targets>,
    dropout: f64,
}

impl LoraArg {
    /// Whether the targets are left to peft.
    pub fn leaves_targets(&self) -> bool {
        self.targets.is_none()
    }

    /// Returns the adapters of a model of that type.
    pub fn of_model(&self, model_type: &str) -> Lora {
        let by_peft = || {
            let names = default_targets(model_type).iter().map(|&name| name.to_owned());
            Targets::Named(names.collect())
        };
        let targets = self.targets.clone().unwrap_or_else(by_peft);
        Lora { rank: self.rank, dropout: self.dropout, targets }
    }
}

/// Returns the layers that peft takes where none are named; of other models it asks for names.
///
/// Source: peft 0.21 `utils/constants.py` (`TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING`).
fn default_targets(model_type: &str) -> &'static [&'static str] {
    match model_type {
        "gpt2" => &["c_attn"],
        "gpt_neox" => &["query_key_value"],
        "llama" | "mistral" | "qwen2" | "qwen3" | "gemma2" | "gemma3_text" | "opt" | "bart" => {
            &["q_proj", "v_proj"]
        }
        "t5" | "mt5" => &["q", "v"],
        "bert" | "roberta" | "xlm-roberta" => &["query", "value"],
        "deberta-v2" => &["query_proj", "value_proj"],
        _ => &[],
    }
}

impl FromStr for LoraArg {
    type Err = String;

    fn from_str(text: &str) -> Result<LoraArg, String> {
        let (mut rank, mut targets, mut dropout) = (None, None, None);
        for part in text.split(',') {
            let (key, value) = part.split_once('=').ok_or_else(|| {
                format!("`{part}` is no key=value: r=16, targets=q_proj+v_proj or dropout=0.05")
            })?;
            let twice = match key.trim() {
                "r" => rank.replace(parse_rank(value)?).is_some(),
                "targets" => targets.replace(parse_targets(value)?).is_some(),
                "dropout" => dropout.replace(parse_dropout(value)?).is_some(),
                other => return Err(format!("no key `{other}`: r, targets and dropout are known")),
            };
            if twice {
                return Err(format!("`{}` is given twice", key.trim()));
            }
        }
        let rank = rank.ok_or("the rank is missing: r=16")?;
        Ok(LoraArg { rank, targets, dropout: dropout.unwrap_or(0.0) })
    }
}

fn parse_rank(text: &str) -> Result<u64, String> {
    match count(text).map_err(|error| format!("r {error}"))? {
        rank if rank <= MAX_RANK => Ok(rank),
        _ => Err(format!("r must be at most {MAX_RANK}")),
    }
}

fn parse_targets(text: &str) -> Result<Targets, String> {
    if text.trim() == "all-linear" {
        return Ok(Targets::AllLinear);
    }
    let names: Vec<String> = text.split('+').map(|name| name.trim().to_owned()).collect();
    if names.iter().any(String::is_empty) {
        return Err("targets are names with + between them: q_proj+v_proj, or all-linear".into());
    }
    Ok(Targets::Named(names))
}

fn parse_dropout(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(dropout) if (0.0..1.0).contains(&dropout) => Ok(dropout),
        _ => Err("dropout must be at least 0 and below 1, such as 0.05".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_in_any_order_and_all_but_the_rank_may_be_left_out() {
        let lora: LoraArg = "dropout=0.1,targets=q_proj+o_proj,r=8".parse().expect("valid");
        let targets = Targets::Named(vec!["q_proj".to_owned(), "o_proj".to_owned()]);
        assert_eq!(lora.of_model("llama"), Lora { rank: 8, dropout: 0.1, targets });
        let short: LoraArg = "r=16".parse().expect("valid");
        let targets = Targets::Named(vec!["c_attn".to_owned()]);
        assert_eq!(short.of_model("gpt2"), Lora { rank: 16, dropout: 0.0, targets });
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("16", "r=16"),
            ("r=0", "at least 1"),
            ("r=100000", "at most 65536"),
            ("r=8,r=8", "twice"),
            ("targets=all-linear", "rank is missing"),
            ("r=8,alpha=16", "`alpha`"),
            ("r=8,targets=", "q_proj+v_proj"),
            ("r=8,dropout=1", "below 1"),
        ] {
            let error = text.parse::<LoraArg>().expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}

//! The command line that was typed, with some of its flags changed: to be pasted.

use clap::{Command, CommandFactory};

use crate::cli::args::Cli;
use crate::plan::advise::change::Change;

/// What was typed after the command's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Typed(pub Vec<String>);

/// Flags of the answer, not of the job: they go.
const OF_THE_ANSWER: [(&str, bool); 3] =
    [("--json", false), ("--color", true), ("--all-gpus", false)];

impl Typed {
    /// Reads what this process was called with, after the name of the command.
    pub fn of_process(command: &str) -> Typed {
        let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
        let mut words: Vec<String> = words.skip(1).collect();
        // Flags that all commands share may stand before it.
        if let Some(at) = words.iter().position(|word| word == command) {
            words.remove(at);
        }
        Typed(words)
    }

    /// Returns `oomph advise` with what this process was called with; `None` where it was another command
    /// than those whose MODEL and setup `advise` takes as they are.
    pub fn advise() -> Option<String> {
        let mut words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
        let mut name = words.next()?;
        while name.starts_with('-') {
            // The one shared flag with a value that may stand before the command.
            if name == "--color" {
                words.next();
            }
            name = words.next()?;
        }
        ["estimate", "plan", "probe"].contains(&name.as_str()).then_some(())?;
        Typed(words.collect()).without_flags_of(&name).with("advise", &[], false)
    }

    /// Takes away the flags that a command has and `advise` has not.
    fn without_flags_of(mut self, command: &str) -> Typed {
        let oomph = Cli::command();
        let named =
            |name: &str| oomph.find_subcommand(name).into_iter().flat_map(Command::get_arguments);
        let flags: Vec<_> = named("advise").filter_map(clap::Arg::get_long).collect();
        for argument in named(command) {
            let Some(flag) = argument.get_long().filter(|flag| !flags.contains(flag)) else {
                continue;
            };
            remove(&mut self.0, &format!("--{flag}"), argument.get_action().takes_values());
        }
        self
    }

    /// Returns the same for so many of another GPU; none stands for one.
    #[must_use]
    pub fn on(&self, gpu: &str, count: usize) -> Typed {
        let mut words = self.0.clone();
        for flag in ["--gpu", "--capacity"] {
            remove(&mut words, flag, true);
        }
        let times = if count > 1 { format!("*{count}") } else { String::new() };
        words.extend(["--gpu".to_owned(), format!("{gpu}{times}")]);
        Typed(words)
    }

    /// Returns a command with changes made; `None` where a flag is to go that was not typed.
    ///
    /// With `keeps_equation`, the effective batch is among what was typed, and the accumulation is
    /// left for `oomph plan` to solve.
    pub fn with(&self, command: &str, changes: &[Change], keeps_equation: bool) -> Option<String> {
        let mut words = self.0.clone();
        for (flag, has_value) in OF_THE_ANSWER {
            remove(&mut words, flag, has_value);
        }
        for (flag, value) in changes.iter().flat_map(Change::flags) {
            // What a schedule says is one stage of it from here on.
            match flag {
                "--seq-len" => remove(&mut words, "--seq-len-schedule", true),
                "--accumulation" => remove(&mut words, "--ramp-up", true),
                _ => false,
            };
            let was_there = remove(&mut words, flag, true);
            match value {
                Some(_) if flag == "--accumulation" && keeps_equation => {}
                Some(value) => words.extend([flag.to_owned(), value]),
                None if was_there => {}
                None => return None,
            }
        }
        let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        Some(format!("oomph {command} {}", words.join(" ")))
    }
}

/// Removes a flag, with its value if it has one; says whether it was there.
fn remove(words: &mut Vec<String>, flag: &str, has_value: bool) -> bool {
    let with_value = format!("{flag}=");
    let Some(at) = words.iter().position(|word| word == flag || word.starts_with(&with_value))
    else {
        return false;
    };
    let alone = words.remove(at) == flag;
    if alone && has_value && at < words.len() {
        words.remove(at);
    }
    true
}

/// Quotes a word for a shell where it needs it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+,./:@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::setup::{Checkpointing, Precision};
    use crate::units::{AccumulationSteps, MicroBatch};

    fn typed(line: &str) -> Typed {
        Typed(line.split(' ').map(str::to_owned).collect())
    }

    #[test]
    fn flags_are_replaced_in_both_forms_and_others_stay() {
        let typed = typed("gpt2 --json --precision=fp32 --checkpointing none --gpu sim:l4*2");
        let changes = [
            Change::Precision(Precision::Bf16),
            Change::Checkpointing(Checkpointing::Full),
            Change::SeqLen(512),
        ];
        assert_eq!(
            typed.with("estimate", &changes, false).as_deref(),
            Some(
                "oomph estimate gpt2 --gpu 'sim:l4*2' --precision bf16 --checkpointing full \
                 --seq-len 512"
            )
        );
    }

    #[test]
    fn another_gpu_takes_the_place_of_the_one_typed() {
        let typed = typed("gpt2 --capacity 4GiB --all-gpus --seq-len 512");
        for (count, gpu) in [(0, "sim:t4"), (1, "sim:t4"), (2, "'sim:t4*2'")] {
            assert_eq!(
                typed.on("sim:t4", count).with("estimate", &[], false),
                Some(format!("oomph estimate gpt2 --seq-len 512 --gpu {gpu}"))
            );
        }
    }

    #[test]
    fn an_effective_batch_keeps_its_equation() {
        let typed = typed("gpt2 --micro-batch 8 --effective-batch 64");
        let two = AccumulationSteps::new(32).expect("not zero");
        let changes = [Change::MicroBatch(MicroBatch::new(2).expect("not zero"), two)];
        assert_eq!(
            typed.with("plan", &changes, true).as_deref(),
            Some("oomph plan gpt2 --effective-batch 64 --micro-batch 2")
        );
    }

    #[test]
    fn flags_that_advise_has_not_go_and_the_setup_stays() {
        let typed =
            typed("gpt2 --exact --probe never --out=f --seq-len 64 --emit hf --headroom 5%");
        assert_eq!(
            typed.without_flags_of("plan"),
            Typed(["gpt2", "--seq-len", "64", "--headroom", "5%"].map(str::to_owned).to_vec())
        );
    }

    #[test]
    fn what_was_not_typed_cannot_be_left_out() {
        assert_eq!(typed("gpt2").with("estimate", &[Change::Lora(None)], false), None);
        let with = typed("gpt2 --lora r=8").with("estimate", &[Change::Lora(None)], false);
        assert_eq!(with.as_deref(), Some("oomph estimate gpt2"));
    }
}

//! The machine of `oomph trial`: GPUs, kept runs, and word of how far it is.

use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::launching::trial_place::Place;
use crate::cli::output::write_stderr;
use crate::cli::run::EndArgs;
use crate::report;
use crate::trial::kept::{self, Kept};
use crate::trial::launch::Sink;
use crate::trial::machine::Machine;
use crate::trial::outcome::{GpuPeak, Outcome};
use crate::trial::search::Peaks;
use crate::trial::simulated::{Request, RunError};
use crate::trial::template::{Sizes, Template};
use crate::units::Bytes;

/// GPUs that keep runs, use kept ones again, and say how far they are.
pub struct Tried {
    /// The GPUs.
    pub place: Place,
    /// Where runs are kept.
    pub kept: Option<Kept>,
    /// When a run is ended.
    pub end: EndArgs,
    /// How many runs were there already.
    pub reused: usize,
    /// Whether somebody looks on.
    pub told: bool,
}

impl Tried {
    fn key(&self, template: &Template, sizes: &Sizes) -> String {
        let until = self.end.until.as_ref().map_or("", |until| until.as_str());
        let timeout = format!("{:?}", self.end.timeout);
        let parts = [self.place.decides.as_str(), until, &timeout];
        kept::key(&template.command(sizes), &parts, sizes)
    }

    fn tell(&self, text: &str) {
        if self.told {
            write_stderr(text);
        }
    }
}

impl Machine for Tried {
    type Error = CliError;

    fn capacity(&self) -> Bytes {
        self.place.machine.free()
    }

    fn peaks(&self) -> Peaks {
        self.place.machine.peaks()
    }

    fn run(&mut self, template: &Template, sizes: &Sizes) -> Result<Outcome, CliError> {
        let key = self.key(template, sizes);
        self.tell(&format!(
            "micro-batch {}, {} micro-step{} ... ",
            sizes.micro_batch,
            sizes.accumulation,
            if sizes.accumulation.get() == 1 { "" } else { "s" }
        ));
        let known = self.kept.as_ref().and_then(|kept| kept.find(&key));
        let known = known.and_then(|outcome| self.place.machine.as_of_now(outcome));
        let (outcome, how) = match known {
            Some(outcome) => {
                self.reused += 1;
                (outcome, "kept".to_owned())
            }
            None => {
                let outcome = self.once(template, sizes, &key)?;
                let seconds = format!("{:.1} s", outcome.seconds);
                (outcome, seconds)
            }
        };
        let peak = outcome.tightest().and_then(GpuPeak::peak);
        let peak = peak.map_or(String::new(), |peak| format!(", peak {peak}"));
        self.tell(&format!("{}{peak} ({how})\n", report::trial::verdict(&outcome)));
        Ok(outcome)
    }
}

impl Tried {
    fn once(&mut self, template: &Template, sizes: &Sizes, key: &str) -> Result<Outcome, CliError> {
        let unkept = |error: std::io::Error| {
            CliError::new(exit::BROKEN, "a run cannot be kept").cause(error.to_string())
        };
        let log = self.kept.as_ref().map(|kept| kept.log(key)).transpose().map_err(unkept)?;
        let outcome = self.place.machine.run(Request {
            command: template.command(sizes),
            environment: Template::environment(sizes),
            until: self.end.until.clone(),
            timeout: self.end.timeout,
            interactive: false,
            stdout: Sink::Nowhere,
            stderr: Sink::Nowhere,
            log,
            record: None,
        });
        let outcome = match outcome {
            Err(error @ RunError::Interrupted(_)) => {
                self.tell("interrupted\n");
                return Err(error.into());
            }
            other => other?,
        };
        if let Some(kept) = &self.kept {
            kept.keep(key, sizes, &outcome).map_err(unkept)?;
        }
        Ok(outcome)
    }
}

//! `oomph check`: the gate. What it could not answer is never exit 0.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::cli::check_memory;
use crate::cli::check_output;
use crate::cli::check_subject::{Subject, read};
use crate::cli::config_file;
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::output::{Answer, Style};
use crate::cli::setup::SetupArgs;
use crate::cli::values::Headroom;
use crate::ingest::framework::dialect::Dialect;
use crate::plan::finding::{Check, Level, Memory, Verdict};

/// Arguments of `oomph check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  oomph check gpt2 --micro-batch 8 --seq-len 512 --precision bf16 --gpu sim:t4
  oomph check --only batch --world-size 4 -- --micro-batch-size 6 --global-batch-size 264")]
pub struct Args {
    /// FILE: a framework's configuration, an earlier plan, or `-`; MODEL: as for `oomph plan`
    #[arg(value_name = "FILE|MODEL", num_args = 0..=2)]
    pub things: Vec<String>,
    /// Read FILE, or the arguments after `--`, as this framework's [default: told by its keys]
    #[arg(long, value_name = "NAME")]
    pub framework: Option<FrameworkArg>,
    /// Check the batch equation alone, without a model or a GPU [default: memory too]
    #[arg(long, value_name = "WHAT")]
    pub only: Option<Only>,
    /// Print what would mend FILE as a diff
    #[arg(long)]
    pub fix: bool,
    /// Mend FILE in place, its comments kept
    #[arg(long)]
    pub write: bool,
    /// Fail on findings of this level and above
    #[arg(long, value_name = "LEVEL", default_value = "error")]
    pub fail_on: FailOn,
    /// Fail when less than this stays free: a size or a percentage of the total
    /// [default: nothing beyond --headroom]
    #[arg(long, value_name = "SIZE|PERCENT", allow_hyphen_values = true)]
    pub min_headroom: Option<Headroom>,
    /// Compare with an earlier answer: JSON of check, estimate or plan
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,
    /// What to do where there is no GPU: fail, or skip the question whether it fits
    #[arg(long, value_name = "WHAT", default_value = "fail", help_heading = "Device")]
    pub no_gpu: NoGpu,
    /// Exit with 0 whatever is found (under a launcher, where something else gates)
    #[arg(long)]
    pub exit_zero: bool,
    /// Print for this reader [default: text]
    #[arg(long, value_name = "FORMAT", help_heading = "Output")]
    pub format: Option<CheckFormat>,
    /// Write the answer to this file instead of stdout
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub out: Option<PathBuf>,
    /// Read setup keys from this file [default: oomph.toml in the working folder, if there]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The setup flags.
    #[command(flatten)]
    pub setup: SetupArgs,
    /// The training command's arguments, read as they stand
    #[arg(last = true, value_name = "ARGUMENTS")]
    pub words: Vec<OsString>,
}

/// The value of `--only`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Only {
    /// The batch equation.
    Batch,
}

/// The value of `--fail-on`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum FailOn {
    /// Errors.
    Error,
    /// Warnings too.
    Warning,
}

/// The value of `--no-gpu`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum NoGpu {
    /// It is exit code 4.
    Fail,
    /// The question is skipped, and the answer says so.
    Skip,
}

impl NoGpu {
    /// Returns whether a missing GPU is let pass.
    pub const fn skips(self) -> bool {
        matches!(self, NoGpu::Skip)
    }
}

/// The value of `--format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum CheckFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// Annotations of GitHub Actions.
    Github,
    /// JUnit's XML: GitLab, Jenkins, Buildkite.
    Junit,
    /// Variables: GitLab's `reports:dotenv`.
    Dotenv,
    /// Markdown: a pull request's comment, a step's summary.
    Markdown,
}

/// The value of `--framework`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameworkArg(pub Dialect);

impl clap::ValueEnum for FrameworkArg {
    fn value_variants<'a>() -> &'a [FrameworkArg] {
        const ALL: [FrameworkArg; 8] = [
            FrameworkArg(Dialect::DeepSpeed),
            FrameworkArg(Dialect::Hf),
            FrameworkArg(Dialect::Accelerate),
            FrameworkArg(Dialect::Axolotl),
            FrameworkArg(Dialect::LlamaFactory),
            FrameworkArg(Dialect::TorchtitanSamples),
            FrameworkArg(Dialect::TorchtitanTokens),
            FrameworkArg(Dialect::Megatron),
        ];
        &ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(self.0.name()))
    }
}

/// Runs `oomph check`.
///
/// # Errors
/// When there is nothing to check, or it cannot be read.
pub fn run(args: &Args, style: Style) -> Result<Answer, CliError> {
    if style.json && args.format.is_some_and(|format| format != CheckFormat::Json) {
        return Err(CliError::usage("--json cannot be used with --format").hint("leave one out"));
    }
    let (subject, check) = match judged(args) {
        Ok((subject, check)) => (Some(subject), check),
        // CI hears of it as of any other question that stays open.
        Err(error) if check_output::is_told(args) => (None, unreadable(args, error)),
        Err(error) => return Err(error),
    };
    if let (true, Some(Subject::Framework(file))) = (args.fix || args.write, &subject) {
        return check_output::fixed(args, file, &check, style);
    }
    check_output::answer(args, &check, style)
}

/// Reads what is to be checked, and checks it.
fn judged(args: &Args) -> Result<(Subject, Check), CliError> {
    let baseline = args.baseline.as_deref().map(check_output::baseline).transpose()?;
    let job = config_file::load(args.config.as_deref())?;
    let subject = read(args)?;
    let mut check = check_memory::check(args, &subject, job)?;
    if let (Some(baseline), Memory::Answered(estimate)) = (&baseline, &check.memory) {
        check.differences = baseline.against(estimate);
    }
    check.code = if args.exit_zero { exit::OK } else { code(&check, args.fail_on) };
    Ok((subject, check))
}

/// Says of a job that could not be looked at what there is to say.
fn unreadable(args: &Args, error: CliError) -> Check {
    let code = error.code;
    Check {
        subject: args.things.first().cloned().unwrap_or("the arguments".to_owned()),
        kind: "not read".to_owned(),
        world: None,
        data_parallel: None,
        batch: None,
        findings: Vec::new(),
        memory: check_memory::unanswered(error),
        differences: Vec::new(),
        code,
    }
}

/// The first that applies, in the order of `exit`.
fn code(check: &Check, fail_on: FailOn) -> u8 {
    let any = |verdict| {
        let mut found = check.findings.iter();
        found.any(|finding| finding.verdict == verdict && finding.level == Level::Error)
    };
    let memory = match &check.memory {
        Memory::Answered(estimate) if estimate.fits() == Some(true) => exit::OK,
        Memory::Answered(_) => exit::DOES_NOT_FIT,
        Memory::NotAsked(_) => exit::OK,
        Memory::Unanswered { code, .. } => *code,
    };
    let mut codes = vec![memory];
    codes.extend(any(Verdict::Invalid).then_some(exit::USAGE));
    codes.extend(any(Verdict::DoesNotFit).then_some(exit::DOES_NOT_FIT));
    codes.extend((check.count(Level::Error) > 0).then_some(exit::NO_EXACT_PLAN));
    let warned = fail_on == FailOn::Warning && check.count(Level::Warning) > 0;
    codes.extend(warned.then_some(exit::NO_EXACT_PLAN));
    let order = [
        exit::USAGE,
        exit::NO_GPU,
        exit::BROKEN,
        exit::NOT_MEASURED,
        exit::DOES_NOT_FIT,
        exit::NO_EXACT_PLAN,
    ];
    order.into_iter().find(|code| codes.contains(code)).unwrap_or(exit::OK)
}

//! `oomph profiles`: what is built in.

use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::output::{Answer, Style};
use crate::profile::file::ProfileError;
use crate::profile::gpu::{self, GpuProfile};
use crate::profile::model::{self, ModelProfile};
use crate::profile::names::nearest;
use crate::report;
use crate::report::text::Paint;

/// Arguments of `oomph profiles`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  oomph profiles list\n  oomph profiles show h100-80gb --json")]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with the profiles.
#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// List every model and GPU that is built in
    #[command(after_help = "Examples:\n  oomph profiles list\n  oomph profiles list --json")]
    List,
    /// Show one model or GPU
    #[command(
        after_help = "Examples:\n  oomph profiles show gpt2\n  oomph profiles show t4 --json"
    )]
    Show {
        /// Its name
        name: String,
    },
}

/// Runs `oomph profiles`.
///
/// # Errors
/// When there is no profile of that name.
pub fn run(args: &Args, style: Style) -> Result<Answer, CliError> {
    let paint = Paint { on: style.color };
    let text = match &args.action {
        Action::List => list(style.json, paint)?,
        Action::Show { name } => show(name, style.json, paint)?,
    };
    Ok(Answer { text, code: exit::OK })
}

fn list(json: bool, paint: Paint) -> Result<String, CliError> {
    let models: Vec<ModelProfile> =
        model::names().map(ModelProfile::built_in).collect::<Result<_, _>>()?;
    let gpus: Vec<GpuProfile> = gpu::names().map(GpuProfile::built_in).collect::<Result<_, _>>()?;
    Ok(if json {
        report::profiles::list_json(&models, &gpus)
    } else {
        report::profiles::list(&models, &gpus, paint)
    })
}

fn show(name: &str, json: bool, paint: Paint) -> Result<String, CliError> {
    let name = name.trim().to_ascii_lowercase();
    let name = name.strip_prefix("sim:").unwrap_or(&name);
    if gpu::names().any(|known| known == name) {
        let gpu = GpuProfile::built_in(name)?;
        return Ok(if json {
            report::profiles::gpu_json(&gpu)
        } else {
            report::profiles::gpu(&gpu, paint)
        });
    }
    if model::names().any(|known| known == name) {
        let model = ModelProfile::built_in(name)?;
        return Ok(if json {
            report::profiles::model_json(&model)
        } else {
            report::profiles::model(&model, paint)
        });
    }
    let near = nearest(name, model::names().chain(gpu::names()));
    Err(CliError::usage(format!("no profile `{name}` is built in")).hint(match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => "oomph profiles list shows all".to_owned(),
    }))
}

impl From<ProfileError> for CliError {
    fn from(error: ProfileError) -> CliError {
        let plain = CliError::usage(error.to_string());
        match error.hint() {
            Some(hint) => plain.hint(hint),
            None => plain,
        }
    }
}

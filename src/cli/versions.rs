//! Which PyTorch and transformers an answer is for: flags, else installed, else the newest known.

use crate::cli::setup::SetupArgs;
use crate::cli::support::{NEWEST_TORCH, NEWEST_TRANSFORMERS};
use crate::ingest::versions::{Environment, Installed, find};
use crate::plan::result::Versions;
use crate::step::setup::Version;

/// Decides on the versions. Looks at folder names where a flag leaves one open; runs no Python.
pub fn resolve(args: &SetupArgs) -> Versions {
    let installed = match (args.torch, args.transformers) {
        (Some(_), Some(_)) => Default::default(),
        _ => find(&Environment::of_process()),
    };
    let (torch, torch_from) = one(args.torch, installed.torch, NEWEST_TORCH);
    let (transformers, transformers_from) =
        one(args.transformers, installed.transformers, NEWEST_TRANSFORMERS);
    let source = if torch_from == transformers_from {
        torch_from
    } else {
        format!("PyTorch {torch_from}, transformers {transformers_from}")
    };
    Versions { torch, transformers, source }
}

fn one(given: Option<Version>, installed: Option<Installed>, newest: Version) -> (Version, String) {
    match (given, installed) {
        (Some(version), _) => (version, "as given".to_owned()),
        (None, Some(installed)) => {
            (installed.version, format!("installed, found by {}", installed.via.name()))
        }
        (None, None) => (newest, "the newest known: none is installed here".to_owned()),
    }
}

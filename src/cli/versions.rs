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

/// The oldest and the newest PyTorch that answers were compared with.
///
/// Source: the rows of tests/data, and docs/design.md ("PyTorch in between").
const COMPARED_TORCH: [Version; 2] = [Version::new(2, 4), NEWEST_TORCH];
/// The same of transformers, of either major version.
const COMPARED_TRANSFORMERS: [[Version; 2]; 2] =
    [[Version::new(4, 44), Version::new(4, 56)], [Version::new(5, 0), Version::new(5, 24)]];

/// Says which versions nothing was compared with, and which they are worked out as; transformers older
/// than all is said by model (`support::older_transformers`).
pub fn not_compared(versions: &Versions) -> Vec<String> {
    let [oldest, newest] = COMPARED_TORCH;
    let torch = versions.torch.clamp(oldest, newest);
    let newest_below = |version| {
        let ranges = COMPARED_TRANSFORMERS.into_iter();
        ranges.filter(|[oldest, _]| *oldest <= version).map(|[_, newest]| newest).max()
    };
    let transformers = newest_below(versions.transformers).unwrap_or(versions.transformers);
    let asked = [
        ("PyTorch", versions.torch, torch),
        ("transformers", versions.transformers, transformers.min(versions.transformers)),
    ];
    let beyond = asked.into_iter().filter(|(_, version, known)| version != known);
    beyond
        .map(|(name, version, known)| {
            format!("{name} {version} was not compared: worked out as {known} is")
        })
        .collect()
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

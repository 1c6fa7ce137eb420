//! `--gpu sim:...`: which GPUs that are not there a run is planned for.

use std::fmt;
use std::path::Path;

use crate::profile::file::ProfileError;
use crate::profile::gpu::{GpuProfile, LARGEST_TOTAL};
use crate::units::{Bytes, ParseBytesError};

/// More simulated GPUs than any one job is planned for here; each costs a row in every table.
pub const MOST_GPUS: u32 = 1024;

/// The least memory that a simulated GPU may have: a context alone takes more than half of it.
pub const LEAST_TOTAL: Bytes = Bytes::gib(1);

/// Some GPUs of one kind, all with the same memory free.
#[derive(Debug, Clone, PartialEq)]
pub struct SimulatedGpus {
    /// The kind.
    pub profile: GpuProfile,
    /// How many, from 1 to [`MOST_GPUS`].
    pub count: u32,
    /// What is free on each, where the specification says; else total - reserved.
    pub free: Option<Bytes>,
}

/// Why a `sim:` specification could not be read.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SimulatedGpuError {
    /// It does not begin with `sim:`.
    #[error("`{0}` does not name a simulated GPU")]
    NotSimulated(String),
    /// Nothing after `sim:`.
    #[error("`{0}` names no GPU after `sim:`")]
    NoName(String),
    /// Nothing built in has that name.
    #[error("there is no built-in GPU `{name}`")]
    UnknownName {
        /// The name.
        name: String,
        /// The built-in name that it resembles.
        nearest: Option<&'static str>,
        /// Every built-in name.
        known: Vec<&'static str>,
    },
    /// A user's own profile that cannot be read.
    #[error(transparent)]
    Profile(ProfileError),
    /// The count is not a number, or none, or too many.
    #[error("`*{0}` is not a number of GPUs")]
    Count(String),
    /// A size that cannot be read.
    #[error("`{text}` is not a memory size: {reason}")]
    Size {
        /// What was written.
        text: String,
        /// What is wrong with it.
        reason: ParseBytesError,
    },
    /// A card of no, little or absurdly much memory.
    #[error("a GPU of {0} bytes cannot be simulated")]
    Total(u64),
    /// `free=` of nothing at all.
    #[error("`free=` leaves nothing on the GPU")]
    NothingFree,
    /// More free than an idle card of that kind has.
    #[error(
        "`free={free}` is more than {name} ever has free: {idle} ({total} less {reserved} that \
         the driver keeps)"
    )]
    MoreFreeThanIdle {
        /// The profile's name.
        name: String,
        /// What was asked for.
        free: Bytes,
        /// What an idle card has.
        idle: Bytes,
        /// The card's total.
        total: Bytes,
        /// What the driver keeps.
        reserved: Bytes,
    },
    /// An option other than `free=`, or twice the same.
    #[error("`{0}` is not an option of a simulated GPU")]
    Option(String),
}

impl SimulatedGpuError {
    /// Returns one thing to type.
    pub fn hint(&self) -> String {
        match self {
            SimulatedGpuError::UnknownName { nearest: Some(near), .. } => {
                format!("did you mean sim:{near}? all: oomph profiles list; or a size, sim:24GiB")
            }
            SimulatedGpuError::UnknownName { known, .. } => {
                format!("known: {}; or a size, sim:24GiB", known.join(" "))
            }
            SimulatedGpuError::Profile(error) => error.hint().unwrap_or_else(|| FORM.to_owned()),
            SimulatedGpuError::Count(_) => {
                format!("a count is a whole number from 1 to {MOST_GPUS}, as in sim:a100-40gb*8")
            }
            SimulatedGpuError::Total(_) => {
                format!("a size from {LEAST_TOTAL} to {LARGEST_TOTAL}, as in sim:24GiB")
            }
            SimulatedGpuError::MoreFreeThanIdle { name, idle, .. } => {
                format!("sim:{name} alone has {idle} free; free= takes a smaller size")
            }
            SimulatedGpuError::Size { text, .. } if text.parse::<u32>().is_ok() => {
                format!("did you mean {text}GiB, as in sim:24GiB?")
            }
            SimulatedGpuError::Size { .. } | SimulatedGpuError::NothingFree => {
                "a size is a number and a unit, as in sim:h100-80gb,free=60GiB".to_owned()
            }
            SimulatedGpuError::NotSimulated(_)
            | SimulatedGpuError::NoName(_)
            | SimulatedGpuError::Option(_) => FORM.to_owned(),
        }
    }
}

const FORM: &str = "sim:NAME, sim:NAME*8, sim:24GiB, sim:h100-80gb,free=60GiB";

impl SimulatedGpus {
    /// Reads `sim:NAME`, `sim:NAME*8`, `sim:24GiB`, each with `,free=SIZE` or not.
    ///
    /// `NAME` is a built-in profile's, or the path of a user's own (it has a `/` or ends in
    /// `.toml`). A size is a generic card, see [`GpuProfile::generic`].
    ///
    /// ```
    /// use oomph::profile::simulated::SimulatedGpus;
    /// let gpus = SimulatedGpus::parse("sim:a100-40gb*2,free=30GiB")?;
    /// assert_eq!((gpus.count, gpus.free_each()), (2, oomph::units::Bytes::gib(30)));
    /// # Ok::<(), oomph::profile::simulated::SimulatedGpuError>(())
    /// ```
    ///
    /// # Errors
    /// What is wrong with the specification, each with a hint.
    pub fn parse(spec: &str) -> Result<SimulatedGpus, SimulatedGpuError> {
        let Some(body) = spec.trim().strip_prefix("sim:") else {
            return Err(SimulatedGpuError::NotSimulated(spec.to_owned()));
        };
        let mut parts = body.split(',').map(str::trim);
        let card = parts.next().unwrap_or_default();
        let (name, count) = match card.rsplit_once('*') {
            Some((name, count)) => (name.trim(), parse_count(count.trim())?),
            None => (card, 1),
        };
        if name.is_empty() {
            return Err(SimulatedGpuError::NoName(spec.to_owned()));
        }
        let profile = find(name)?;
        let mut free = None;
        for part in parts {
            let size = part.strip_prefix("free=").filter(|_| free.is_none());
            let size = size.ok_or_else(|| SimulatedGpuError::Option(part.to_owned()))?;
            free = Some(parse_free(size, &profile)?);
        }
        Ok(SimulatedGpus { profile, count, free })
    }

    /// Returns what is free on each: as asked for, or all but what the driver keeps.
    pub fn free_each(&self) -> Bytes {
        self.free.unwrap_or_else(|| idle(&self.profile))
    }
}

/// Prints the specification as it can be typed; a user's own profile by its name without the path.
impl fmt::Display for SimulatedGpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sim:{}", self.profile.name)?;
        if self.count > 1 {
            write!(f, "*{}", self.count)?;
        }
        match self.free {
            Some(free) => write!(f, ",free={}B", free.get()),
            None => Ok(()),
        }
    }
}

fn find(name: &str) -> Result<GpuProfile, SimulatedGpuError> {
    if name.contains('/') || name.ends_with(".toml") {
        return GpuProfile::load(Path::new(name)).map_err(SimulatedGpuError::Profile);
    }
    let error = match GpuProfile::built_in(name) {
        Ok(profile) => return Ok(profile),
        Err(error) => error,
    };
    // No built-in name reads as a size, so what ends in a unit was one.
    match name.parse::<Bytes>() {
        Ok(total) if total < LEAST_TOTAL || total > LARGEST_TOTAL => {
            Err(SimulatedGpuError::Total(total.get()))
        }
        Ok(total) => GpuProfile::generic(total).map_err(SimulatedGpuError::Profile),
        Err(reason) => Err(match error {
            // `4090` is near to a name; `24` and `-8GiB` are sizes gone wrong.
            ProfileError::UnknownName { nearest: None, .. }
                if name.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) =>
            {
                SimulatedGpuError::Size { text: name.to_owned(), reason }
            }
            ProfileError::UnknownName { name, nearest, known, .. } => {
                SimulatedGpuError::UnknownName { name, nearest, known }
            }
            other => SimulatedGpuError::Profile(other),
        }),
    }
}

fn parse_count(text: &str) -> Result<u32, SimulatedGpuError> {
    let plain = text.bytes().all(|b| b.is_ascii_digit());
    let count = text.parse().ok().filter(|count| plain && (1..=MOST_GPUS).contains(count));
    count.ok_or_else(|| SimulatedGpuError::Count(text.to_owned()))
}

fn parse_free(text: &str, profile: &GpuProfile) -> Result<Bytes, SimulatedGpuError> {
    let free: Bytes =
        text.parse().map_err(|reason| SimulatedGpuError::Size { text: text.to_owned(), reason })?;
    if free == Bytes::ZERO {
        return Err(SimulatedGpuError::NothingFree);
    }
    let idle = idle(profile);
    if free > idle {
        return Err(SimulatedGpuError::MoreFreeThanIdle {
            name: profile.name.clone(),
            free,
            idle,
            total: profile.total,
            reserved: profile.reserved,
        });
    }
    Ok(free)
}

fn idle(profile: &GpuProfile) -> Bytes {
    profile.total.saturating_sub(profile.reserved)
}

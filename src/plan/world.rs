//! How many devices train together, and who says so: a flag, the launcher, or the GPUs there are.

use crate::units::counted;

/// The most devices that a launcher is believed to have started.
const MOST: u64 = 1_000_000;

/// What a launcher puts into the environment of each process.
struct Launcher {
    /// Who it is.
    name: &'static str,
    /// The variable that holds the number of processes.
    size: &'static str,
    /// The variable without which the number is not the training job's own.
    mark: &'static str,
}

/// In the order in which they are believed: a Slurm step may run torchrun, which starts the ranks.
///
/// Source: each launcher was run (torchrun of torch 2.15, Open MPI 4.1.4, MPICH's pmi2 and Slurm
/// 22.05). In a batch script without `srun`, SLURM_NTASKS is what was asked for, not a job's size:
/// only a step has SLURM_STEP_ID.
const LAUNCHERS: [Launcher; 4] = [
    Launcher { name: "torchrun", size: "WORLD_SIZE", mark: "RANK" },
    Launcher { name: "Open MPI", size: "OMPI_COMM_WORLD_SIZE", mark: "OMPI_COMM_WORLD_RANK" },
    Launcher { name: "PMI", size: "PMI_SIZE", mark: "PMI_RANK" },
    Launcher { name: "srun", size: "SLURM_NTASKS", mark: "SLURM_STEP_ID" },
];

/// Who says how many devices there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorldFrom {
    /// `--world-size`.
    Flag,
    /// A launcher's variable.
    Launcher {
        /// The launcher.
        name: &'static str,
        /// Its variable.
        variable: &'static str,
    },
    /// A file, by the key that says it.
    File(String),
    /// The number of chosen GPUs.
    Gpus,
    /// Nobody: one is assumed.
    Assumed,
}

impl WorldFrom {
    /// Returns the source as a person writes it.
    pub fn words(&self) -> String {
        match self {
            WorldFrom::Flag => "--world-size".to_owned(),
            WorldFrom::Launcher { name, variable } => format!("{variable} of {name}"),
            WorldFrom::File(key) => format!("`{key}` of the file"),
            WorldFrom::Gpus => "the chosen GPUs".to_owned(),
            WorldFrom::Assumed => "an assumption: no GPU was chosen".to_owned(),
        }
    }

    /// Returns the name used in JSON.
    pub fn name(&self) -> String {
        match self {
            WorldFrom::Flag => "flag".to_owned(),
            WorldFrom::Launcher { variable, .. } => (*variable).to_owned(),
            WorldFrom::File(key) => format!("file:{key}"),
            WorldFrom::Gpus => "gpus".to_owned(),
            WorldFrom::Assumed => "assumed".to_owned(),
        }
    }
}

/// The number of devices that train together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct World {
    /// Devices, at least one.
    pub size: u64,
    /// Who says so.
    pub from: WorldFrom,
    /// Others who say otherwise, each a line.
    pub disagreements: Vec<String>,
}

/// A launcher's variable that holds no number of processes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable}=`{value}` in the environment is no number of processes")]
pub struct NotASize {
    /// The variable.
    pub variable: &'static str,
    /// Its value.
    pub value: String,
}

impl World {
    /// Decides on the number of devices: `flag`, else the launcher, else `file` (a key and its
    /// number), else `gpus`, else one.
    ///
    /// `variable` looks a variable of the environment up. Whoever is not believed and says
    /// otherwise is named, the GPUs aside: more devices than GPUs here is what several nodes are.
    ///
    /// # Errors
    /// When the launcher's own variable cannot be read and nothing overrules it.
    pub fn find(
        flag: Option<u64>,
        file: Option<(&str, u64)>,
        gpus: u64,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<World, NotASize> {
        let mut said: Vec<(WorldFrom, u64)> = Vec::new();
        said.extend(flag.map(|size| (WorldFrom::Flag, size)));
        for Launcher { name, size: key, mark } in LAUNCHERS {
            let Some(value) = variable(key).filter(|_| variable(mark).is_some()) else { continue };
            let from = WorldFrom::Launcher { name, variable: key };
            match value.trim().parse::<u64>() {
                Ok(size) if (1..=MOST).contains(&size) => said.push((from, size)),
                _ if flag.is_some() => {}
                _ => return Err(NotASize { variable: key, value }),
            }
        }
        said.extend(file.map(|(key, size)| (WorldFrom::File(key.to_owned()), size)));
        if said.is_empty() {
            said.push(match gpus {
                0 => (WorldFrom::Assumed, 1),
                gpus => (WorldFrom::Gpus, gpus),
            });
        }
        let (from, size) = said.remove(0);
        let disagreements = said
            .into_iter()
            .filter(|(_, other)| *other != size)
            .map(|(other, says)| {
                format!(
                    "{} says {}, and {} says {size}: {size} is taken",
                    other.words(),
                    counted(says, "device"),
                    from.words()
                )
            })
            .collect();
        Ok(World { size, from, disagreements })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(flag: Option<u64>, gpus: u64, set: &[(&str, &str)]) -> Result<World, NotASize> {
        World::find(flag, None, gpus, |name| {
            set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_flag_wins_then_the_launcher_then_the_gpus() {
        let torchrun = [("WORLD_SIZE", "8"), ("RANK", "0")];
        let world = found(Some(4), 2, &torchrun).expect("a flag");
        assert_eq!((world.size, world.from), (4, WorldFrom::Flag));
        assert_eq!(world.disagreements.len(), 1, "{:?}", world.disagreements);
        let world = found(None, 2, &torchrun).expect("a launcher");
        assert_eq!((world.size, world.from.name().as_str()), (8, "WORLD_SIZE"));
        assert!(world.disagreements.is_empty(), "several nodes are no disagreement");
        assert_eq!(found(None, 2, &[]).expect("GPUs").from, WorldFrom::Gpus);
        assert_eq!(found(None, 0, &[]).expect("one").from, WorldFrom::Assumed);
    }

    #[test]
    fn mpirun_around_a_world_of_one_is_named() {
        // github.com/hiyouga/LLaMA-Factory/issues/2574: mpirun -np 16, and `16 != 1 * 1 * 1`.
        let set = [
            ("WORLD_SIZE", "1"),
            ("RANK", "0"),
            ("OMPI_COMM_WORLD_SIZE", "16"),
            ("OMPI_COMM_WORLD_RANK", "3"),
        ];
        let world = found(None, 1, &set).expect("two launchers");
        assert_eq!(world.size, 1);
        assert!(world.disagreements[0].contains("OMPI_COMM_WORLD_SIZE of Open MPI says 16"));
    }

    #[test]
    fn a_batch_script_without_srun_has_no_world_yet() {
        let batch = [("SLURM_NTASKS", "8"), ("SLURM_PROCID", "0")];
        assert_eq!(found(None, 2, &batch).expect("GPUs").size, 2);
        let step = [("SLURM_NTASKS", "8"), ("SLURM_STEP_ID", "0")];
        assert_eq!(found(None, 2, &step).expect("a step").size, 8);
    }

    #[test]
    fn a_launchers_nonsense_is_an_error_unless_a_flag_overrules_it() {
        for bad in ["0", "", "eight", "-4", "99999999999"] {
            let set = [("WORLD_SIZE", bad), ("RANK", "0")];
            assert!(found(None, 2, &set).is_err(), "{bad}");
            assert_eq!(found(Some(2), 2, &set).expect("a flag").size, 2);
        }
    }
}

//! Which GPUs have enough free memory, now and several readings in a row; nothing is asked here.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::{ComputeMode, Gpu, GpuRow};
use crate::units::Bytes;

/// How much must be free on a GPU.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MinFree {
    /// A size, above zero.
    Size(Bytes),
    /// A percentage of the GPU's total, above 0 and at most 100.
    Percent(f64),
}

impl MinFree {
    /// Returns the bytes that must be free on a GPU of `total` bytes.
    pub fn of(self, total: Bytes) -> Bytes {
        match self {
            MinFree::Size(size) => size,
            MinFree::Percent(percent) => total.percent(percent),
        }
    }
}

/// How one GPU stands against [`MinFree`] at one reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Enough is free.
    Enough {
        /// What is free.
        free: Bytes,
    },
    /// Others hold too much of it.
    Short {
        /// What is free.
        free: Bytes,
        /// What must be.
        wanted: Bytes,
    },
    /// Enough is free, and another process has the GPU to itself.
    Taken,
    /// It could not have as much free if nobody used it.
    TooSmall {
        /// All of it but what the driver keeps.
        usable: Bytes,
        /// What must be free.
        wanted: Bytes,
    },
    /// It takes no jobs, or cannot say what is free: why.
    Unusable(String),
}

/// Judges one reading of one GPU.
pub fn standing(row: &GpuRow, min: MinFree) -> Standing {
    let gpu = match &row.gpu {
        Ok(gpu) => gpu,
        Err(reason) => return Standing::Unusable(reason.clone()),
    };
    if let Some(reason) = refusal(gpu) {
        return Standing::Unusable(reason.to_owned());
    }
    let memory = match &gpu.memory {
        Ok(memory) => memory,
        Err(reason) => return Standing::Unusable(reason.clone()),
    };
    let wanted = min.of(memory.total);
    let usable = memory.total.saturating_sub(memory.reserved.unwrap_or(Bytes::ZERO));
    let alone = gpu.compute_mode == Some(ComputeMode::ExclusiveProcess);
    if wanted > usable {
        Standing::TooSmall { usable, wanted }
    } else if memory.free < wanted {
        Standing::Short { free: memory.free, wanted }
    } else if alone && !gpu.processes.is_empty() {
        Standing::Taken
    } else {
        Standing::Enough { free: memory.free }
    }
}

/// Says why a GPU takes no job as a whole, whatever is free on it.
fn refusal(gpu: &Gpu) -> Option<&'static str> {
    if gpu.mig_enabled == Some(true) {
        return Some("it is partitioned by MIG, and its instances are not looked at");
    }
    (gpu.compute_mode == Some(ComputeMode::Prohibited))
        .then_some("its compute mode lets no process in")
}

/// Returns the positions of the rows that have enough free, the freest first, then by index.
pub fn freest(rows: &[GpuRow], min: MinFree) -> Vec<usize> {
    let mut enough: Vec<(Reverse<Bytes>, usize)> = rows
        .iter()
        .enumerate()
        .filter_map(|(at, row)| match standing(row, min) {
            Standing::Enough { free } => Some((Reverse(free), at)),
            _ => None,
        })
        .collect();
    enough.sort_unstable();
    enough.into_iter().map(|(_, at)| at).collect()
}

/// Counts for how many readings in a row each GPU has had enough free.
#[derive(Debug, Clone)]
pub struct Streaks {
    min: MinFree,
    need: usize,
    stable: u64,
    by_index: BTreeMap<u32, u64>,
}

impl Streaks {
    /// Starts with no reading: `need` GPUs must have enough in `stable` readings in a row.
    pub fn new(min: MinFree, need: usize, stable: u64) -> Streaks {
        Streaks { min, need, stable, by_index: BTreeMap::new() }
    }

    /// Takes in a reading; returns the positions of the GPUs to use once there are `need` of them.
    pub fn read(&mut self, rows: &[GpuRow]) -> Option<Vec<usize>> {
        let enough = freest(rows, self.min);
        self.by_index.retain(|index, _| enough.iter().any(|at| rows[*at].index == *index));
        for at in &enough {
            *self.by_index.entry(rows[*at].index).or_default() += 1;
        }
        let steady: Vec<usize> = enough
            .into_iter()
            .filter(|at| self.by_index[&rows[*at].index] >= self.stable)
            .take(self.need)
            .collect();
        (steady.len() == self.need).then_some(steady)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{DeviceMemory, GpuProcess};

    fn row(index: u32, free: u64) -> GpuRow {
        let gpu = Gpu {
            name: "test".into(),
            uuid: format!("GPU-{index}"),
            simulated: false,
            memory: Ok(DeviceMemory {
                total: Bytes::gib(24),
                reserved: Some(Bytes::gib(1)),
                used: Bytes::gib(23 - free),
                free: Bytes::gib(free),
            }),
            compute_capability: None,
            sm_count: None,
            compute_mode: None,
            mig_enabled: None,
            mig_instances: Vec::new(),
            processes: vec![GpuProcess { pid: 1, name: None, used: None }],
        };
        GpuRow { index, gpu: Ok(gpu) }
    }

    const TEN: MinFree = MinFree::Size(Bytes::gib(10));

    #[test]
    fn the_freest_come_first_and_what_is_short_is_left_out() {
        assert_eq!(freest(&[row(0, 12), row(1, 9), row(2, 20), row(3, 12)], TEN), [2, 0, 3]);
    }

    #[test]
    fn what_no_waiting_can_bring_is_told_from_what_is_short() {
        let (free, wanted) = (Bytes::gib(9), Bytes::gib(10));
        assert_eq!(standing(&row(0, 9), TEN), Standing::Short { free, wanted });
        let whole = standing(&row(0, 23), MinFree::Percent(100.0));
        let (usable, wanted) = (Bytes::gib(23), Bytes::gib(24));
        assert_eq!(whole, Standing::TooSmall { usable, wanted });
    }

    #[test]
    fn a_gpu_for_one_process_is_taken_while_anyone_is_on_it() {
        let mut row = row(0, 20);
        let gpu = row.gpu.as_mut().expect("it answers");
        gpu.compute_mode = Some(ComputeMode::ExclusiveProcess);
        assert_eq!(standing(&row, TEN), Standing::Taken);
        row.gpu.as_mut().expect("it answers").processes.clear();
        assert_eq!(standing(&row, TEN), Standing::Enough { free: Bytes::gib(20) });
    }

    #[test]
    fn a_dip_starts_the_count_of_that_gpu_anew() {
        let mut streaks = Streaks::new(TEN, 1, 2);
        assert_eq!(streaks.read(&[row(0, 12), row(1, 2)]), None);
        assert_eq!(streaks.read(&[row(0, 2), row(1, 12)]), None);
        assert_eq!(streaks.read(&[row(0, 20), row(1, 12)]), Some(vec![1]));
    }
}

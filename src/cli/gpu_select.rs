//! Which GPUs are meant: `--gpu`, and CUDA_VISIBLE_DEVICES for `all`.

use std::fmt;
use std::str::FromStr;

use crate::probe::{GpuList, GpuRow};
use crate::profile::simulated::SimulatedGpus;

/// One GPU by index or UUID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GpuId {
    /// NVML's index, as nvidia-smi shows it.
    Index(u32),
    /// `GPU-...` or `MIG-...`, or an unambiguous beginning of one.
    Uuid(String),
}

/// The value of `--gpu`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum GpuSelector {
    /// Every GPU that CUDA_VISIBLE_DEVICES leaves.
    #[default]
    All,
    /// These, in this order.
    These(Vec<GpuId>),
    /// A simulated one: the whole text, `sim:` included.
    Simulated(String),
}

/// Why GPUs could not be chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// No such GPU.
    #[error("there is no GPU {wanted}: found {found}")]
    NoSuchGpu {
        /// What was asked for.
        wanted: String,
        /// What there is, in words.
        found: String,
    },
    /// The beginning of more than one UUID.
    #[error("{wanted} begins more than one UUID: {}", found.join(", "))]
    Ambiguous {
        /// What was asked for.
        wanted: String,
        /// The UUIDs.
        found: Vec<String>,
    },
    /// The driver lists none.
    #[error("the driver lists no GPU")]
    NoGpus,
    /// CUDA_VISIBLE_DEVICES hides all.
    #[error("CUDA_VISIBLE_DEVICES=`{0}` leaves no GPU visible")]
    AllHidden(String),
}

impl FromStr for GpuId {
    type Err = String;
    fn from_str(text: &str) -> Result<GpuId, String> {
        let upper = text.to_ascii_uppercase();
        if upper.starts_with("GPU-") || upper.starts_with("MIG-") {
            return Ok(GpuId::Uuid(text.to_owned()));
        }
        text.parse().map(GpuId::Index).map_err(|_| {
            let simulated = format!("sim:{text}");
            if SimulatedGpus::parse(&simulated).is_ok() {
                return format!(
                    "`{text}` is no GPU of this machine: a simulated one is {simulated}"
                );
            }
            format!(
                "`{text}` is no GPU: write all, an index (0,2), a UUID (GPU-...), or sim:NAME \
                 (sim:h100-80gb)"
            )
        })
    }
}

impl FromStr for GpuSelector {
    type Err = String;
    fn from_str(text: &str) -> Result<GpuSelector, String> {
        let text = text.trim();
        if text == "all" {
            return Ok(GpuSelector::All);
        }
        if text.starts_with("sim:") {
            return Ok(GpuSelector::Simulated(text.to_owned()));
        }
        let ids: Vec<GpuId> =
            text.split(',').map(|id| id.trim().parse()).collect::<Result<_, _>>()?;
        for (i, id) in ids.iter().enumerate() {
            if ids[..i].contains(id) {
                return Err(format!("GPU {id} is named twice"));
            }
        }
        Ok(GpuSelector::These(ids))
    }
}

impl fmt::Display for GpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GpuId::Index(index) => write!(f, "{index}"),
            GpuId::Uuid(uuid) => f.write_str(uuid),
        }
    }
}

/// Picks the rows of an inventory that the selector means, in the order asked for.
///
/// `visible` is the value of CUDA_VISIBLE_DEVICES, which counts for [`GpuSelector::All`] only. As
/// CUDA does, an entry that names no GPU ends the list, and an empty value hides all. Its numbers
/// are taken as NVML's, which holds where CUDA_DEVICE_ORDER=PCI_BUS_ID or all GPUs are alike.
/// A simulated selector picks every row: its inventory holds nothing else.
///
/// # Errors
/// When a GPU asked for is not there, or none is left.
pub fn select(
    list: &GpuList,
    selector: &GpuSelector,
    visible: Option<&str>,
) -> Result<Vec<GpuRow>, SelectError> {
    let rows = match (selector, visible) {
        (GpuSelector::These(ids), _) => {
            return ids.iter().map(|id| find(list, id).cloned()).collect();
        }
        (GpuSelector::All, Some(visible)) if !list.rows.is_empty() => {
            let rows: Vec<GpuRow> = visible
                .split(',')
                .map_while(|id| id.trim().parse::<GpuId>().ok())
                .map_while(|id| find(list, &id).ok().cloned())
                .collect();
            if rows.is_empty() {
                return Err(SelectError::AllHidden(visible.to_owned()));
            }
            rows
        }
        _ => list.rows.clone(),
    };
    if rows.is_empty() { Err(SelectError::NoGpus) } else { Ok(rows) }
}

fn find<'a>(list: &'a GpuList, id: &GpuId) -> Result<&'a GpuRow, SelectError> {
    let missing = || SelectError::NoSuchGpu { wanted: id.to_string(), found: found(list) };
    let prefix = match id {
        GpuId::Index(index) => {
            return list.rows.iter().find(|row| row.index == *index).ok_or_else(missing);
        }
        GpuId::Uuid(prefix) => prefix,
    };
    let uuids = list.rows.iter().filter_map(|row| Some((row, row.gpu.as_ref().ok()?)));
    let uuids = uuids.flat_map(|(row, gpu)| {
        let instances = gpu.mig_instances.iter().map(|mig| &mig.uuid);
        std::iter::once(&gpu.uuid).chain(instances).map(move |uuid| (row, uuid))
    });
    let hits: Vec<(&GpuRow, &String)> =
        uuids.filter(|(_, uuid)| uuid.starts_with(prefix)).collect();
    match hits[..] {
        [] => Err(missing()),
        [(row, _)] => Ok(row),
        _ => Err(SelectError::Ambiguous {
            wanted: prefix.clone(),
            found: hits.into_iter().map(|(_, uuid)| uuid.clone()).collect(),
        }),
    }
}

fn found(list: &GpuList) -> String {
    match list.rows.as_slice() {
        [] => "none".to_owned(),
        [one] => format!("GPU {}", one.index),
        rows => {
            let names: Vec<String> = rows.iter().map(|row| row.index.to_string()).collect();
            format!("GPUs {}", names.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Gpu;

    fn list(uuids: &[&str]) -> GpuList {
        let row = |(index, uuid): (usize, &&str)| GpuRow {
            index: index as u32,
            gpu: Ok(Gpu {
                name: "test".into(),
                uuid: (*uuid).to_owned(),
                simulated: false,
                memory: Err("not read".into()),
                compute_capability: None,
                sm_count: None,
                compute_mode: None,
                mig_enabled: None,
                mig_instances: Vec::new(),
                processes: Vec::new(),
            }),
        };
        GpuList { rows: uuids.iter().enumerate().map(row).collect(), ..GpuList::default() }
    }

    fn indices(rows: Result<Vec<GpuRow>, SelectError>) -> Vec<u32> {
        rows.expect("some GPUs").iter().map(|row| row.index).collect()
    }

    #[test]
    fn all_is_what_cuda_visible_devices_leaves() {
        let gpus = list(&["GPU-a", "GPU-b", "GPU-c"]);
        assert_eq!(indices(select(&gpus, &GpuSelector::All, None)), [0, 1, 2]);
        assert_eq!(indices(select(&gpus, &GpuSelector::All, Some("2,0"))), [2, 0]);
        assert_eq!(indices(select(&gpus, &GpuSelector::All, Some("GPU-b"))), [1]);
        assert_eq!(indices(select(&gpus, &GpuSelector::All, Some("1,-1,2"))), [1]);
        assert_eq!(
            select(&gpus, &GpuSelector::All, Some("")),
            Err(SelectError::AllHidden(String::new()))
        );
    }

    #[test]
    fn a_named_gpu_that_is_missing_is_an_error_that_lists_what_there_is() {
        let gpus = list(&["GPU-a", "GPU-b"]);
        assert_eq!(indices(select(&gpus, &"1".parse().expect("index"), Some("0"))), [1]);
        let error = select(&gpus, &"0,7".parse().expect("list"), None).expect_err("no GPU 7");
        assert_eq!(error.to_string(), "there is no GPU 7: found GPUs 0, 1");
        let error = select(&gpus, &"GPU-".parse().expect("prefix"), None).expect_err("two");
        assert_eq!(error.to_string(), "GPU- begins more than one UUID: GPU-a, GPU-b");
    }

    #[test]
    fn selectors_parse() {
        assert_eq!("all".parse(), Ok(GpuSelector::All));
        assert_eq!("sim:24GiB".parse(), Ok(GpuSelector::Simulated("sim:24GiB".into())));
        assert!("0,0".parse::<GpuSelector>().is_err());
        assert!("rtx-4090*2".parse::<GpuSelector>().is_err_and(|e| e.ends_with("sim:rtx-4090*2")));
        assert!("h100".parse::<GpuSelector>().is_err_and(|e| e.contains("sim:")));
    }
}

//! The scenario file: what GPUs there are, who else is on them, what goes wrong. See README.md.

use std::path::{Path, PathBuf};

use super::card::{Gpu, Mig, default_uuid};
use super::ledger::Kind;
use super::line::Line;
use super::rule::Rule;
use super::table::{MAX_PLACES, MAX_RULES};

/// A scenario, as its file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// Driver version, as nvidia-smi prints it.
    pub driver_version: String,
    /// CUDA version as one number: 13.0 is 13000.
    pub cuda_version: u32,
    /// What `cuInit` returns: 0 is success, 34 the toolkit's stub library, 100 no device.
    pub cuda_init: u32,
    /// What `nvmlInit` returns: 0 is success, 9 a driver that is not loaded.
    pub nvml_init: u32,
    /// NVML indices in CUDA's order (fastest first).
    pub cuda_order: Vec<usize>,
    /// Where calls are logged.
    pub log: Option<PathBuf>,
    /// GPUs in NVML's order (by PCI address).
    pub gpus: Vec<Gpu>,
    /// Where memory is: first every GPU by index, then the MIG instances.
    pub places: Vec<Place>,
    /// Other processes.
    pub neighbours: Vec<Neighbour>,
    /// Faults and steals.
    pub rules: Vec<Rule>,
}

/// What has memory of its own: a card or a MIG instance on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Index of the card.
    pub gpu: usize,
    /// The instance, or the whole card.
    pub mig: Option<Mig>,
}

/// Another process, which exists in the scenario only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// Index of the place.
    pub place: usize,
    /// Its process id.
    pub pid: u32,
    /// What it holds from the start.
    pub bytes: u64,
    /// In which list of NVML it shows.
    pub kind: Kind,
    /// Its program.
    pub name: String,
}

impl Scenario {
    /// Reads a scenario; a relative log path is taken from the folder of `path`.
    pub fn parse(text: &str, path: &Path) -> Result<Scenario, String> {
        let mut scenario = Scenario {
            driver_version: "580.65.06".to_owned(),
            cuda_version: 13000,
            cuda_init: 0,
            nvml_init: 0,
            cuda_order: Vec::new(),
            log: None,
            gpus: Vec::new(),
            places: Vec::new(),
            neighbours: Vec::new(),
            rules: Vec::new(),
        };
        let mut lines = Vec::new();
        for (index, text) in text.lines().enumerate() {
            let at_line = |reason: String| format!("line {}: {reason}", index + 1);
            if let Some(mut line) = Line::parse(text).map_err(at_line)? {
                let directive = line.word().map_err(at_line)?;
                lines.push((index + 1, directive, line));
            }
        }
        // Cards come first in `places`, instances next; what refers to either comes last.
        let rank = |directive: &str| match directive {
            "gpu" => 0,
            "mig" => 1,
            _ => 2,
        };
        lines.sort_by_key(|(_, directive, _)| rank(directive));
        for (number, directive, line) in lines {
            scenario.read(&directive, line, path).map_err(|e| format!("line {number}: {e}"))?;
        }
        if scenario.rules.len() > MAX_RULES {
            return Err(format!("more than {MAX_RULES} faults and steals"));
        }
        if scenario.places.len() > MAX_PLACES {
            return Err(format!("more than {MAX_PLACES} GPUs and MIG instances"));
        }
        if scenario.cuda_order.is_empty() {
            scenario.cuda_order = (0..scenario.gpus.len()).collect();
        }
        Ok(scenario)
    }

    fn read(&mut self, directive: &str, mut line: Line, path: &Path) -> Result<(), String> {
        match directive {
            "driver" => self.read_driver(&mut line)?,
            "log" => {
                let folder = path.parent().unwrap_or(Path::new("."));
                self.log = Some(folder.join(line.text("path").ok_or("log needs path=FILE")?));
            }
            "gpu" => {
                let gpu = Gpu::read(&mut line, self.gpus.len())?;
                self.places.push(Place { gpu: self.gpus.len(), mig: None });
                self.gpus.push(gpu);
            }
            "mig" => self.read_mig(&mut line)?,
            "process" => {
                let place = self.place(&mut line)?;
                let pid = line.parsed("pid", |text| text.parse().ok())?.ok_or("pid= is missing")?;
                let bytes = line.size("bytes")?.ok_or("bytes= is missing")?;
                let kind = line.parsed("kind", Kind::parse)?.unwrap_or(Kind::Compute);
                let name = line.text("name").unwrap_or_else(|| "python3".to_owned());
                self.neighbours.push(Neighbour { place, pid, bytes, kind, name });
            }
            "fault" => self.rules.push(Rule::fault(&mut line)?),
            "steal" => {
                let place = self.place(&mut line)?;
                self.rules.push(Rule::steal(&mut line, place)?);
            }
            other => return Err(format!("`{other}` is no directive")),
        }
        line.finish()
    }

    fn read_driver(&mut self, line: &mut Line) -> Result<(), String> {
        if let Some(version) = line.text("version") {
            self.driver_version = version;
        }
        let pair = |text: &str| {
            let (major, minor) = text.split_once('.')?;
            Some(major.parse::<u32>().ok()? * 1000 + minor.parse::<u32>().ok()? * 10)
        };
        self.cuda_version = line.parsed("cuda", pair)?.unwrap_or(self.cuda_version);
        self.cuda_init = line.parsed("cuda_init", |text| text.parse().ok())?.unwrap_or(0);
        self.nvml_init = line.parsed("nvml_init", |text| text.parse().ok())?.unwrap_or(0);
        if let Some(order) = line.text("order") {
            let indices: Result<Vec<usize>, _> = order.split(',').map(str::parse).collect();
            let indices = indices.map_err(|e| format!("order={order}: {e}"))?;
            let mut sorted = indices.clone();
            sorted.sort_unstable();
            if !sorted.into_iter().eq(0..self.gpus.len()) {
                return Err(format!("order={order} does not name every GPU once"));
            }
            self.cuda_order = indices;
        }
        Ok(())
    }

    fn read_mig(&mut self, line: &mut Line) -> Result<(), String> {
        let card = line.number("gpu")?.unwrap_or(0) as usize;
        let gpu = self.gpus.get_mut(card).ok_or("gpu= names no GPU")?;
        gpu.mig = Some(true);
        let sms = gpu.sms;
        let next = self.places.iter().filter(|p| p.gpu == card && p.mig.is_some()).count();
        let uuid = default_uuid("MIG", self.places.len() as u32);
        let mig = Mig::read(line, uuid, next as u32, sms / 7)?;
        self.places.push(Place { gpu: card, mig: Some(mig) });
        Ok(())
    }

    /// Reads `gpu=N [mig=INDEX]`.
    fn place(&self, line: &mut Line) -> Result<usize, String> {
        let gpu = line.number("gpu")?.unwrap_or(0) as usize;
        let mig = line.number("mig")?.map(|index| index as u32);
        self.places
            .iter()
            .position(|p| p.gpu == gpu && p.mig.as_ref().map(|mig| mig.index) == mig)
            .ok_or_else(|| "gpu= and mig= name no GPU or MIG instance".to_owned())
    }

    /// Total and reserved bytes of a place.
    pub fn memory(&self, place: usize) -> (u64, u64) {
        let Place { gpu, mig } = &self.places[place];
        match mig {
            Some(mig) => (mig.total, mig.reserved),
            None => (self.gpus[*gpu].total, self.gpus[*gpu].reserved),
        }
    }

    /// The UUID of a place.
    pub fn uuid(&self, place: usize) -> &str {
        let Place { gpu, mig } = &self.places[place];
        mig.as_ref().map_or(&self.gpus[*gpu].uuid, |mig| &mig.uuid)
    }

    /// The name of a place.
    pub fn name(&self, place: usize) -> String {
        let Place { gpu, mig } = &self.places[place];
        match mig {
            Some(mig) => format!("{} MIG {}", self.gpus[*gpu].name, mig.profile),
            None => self.gpus[*gpu].name.clone(),
        }
    }

    /// Calls that fail at a place: name and code.
    pub fn failing(&self, place: usize) -> &[(String, u32)] {
        let Place { gpu, mig } = &self.places[place];
        mig.as_ref().map_or(&self.gpus[*gpu].failing, |mig| &mig.failing)
    }

    /// The PCI address of a card: one bus each, in NVML's order.
    pub fn pci_address(&self, gpu: usize) -> String {
        format!("0000:{:02x}:00.0", gpu + 1)
    }

    /// Whether calls are logged, or may fail or have effects of their own.
    pub fn is_watched(&self) -> bool {
        self.log.is_some() || self.names().next().is_some()
    }

    /// Every name that faults, steals and failing cards speak of, for a check that there is such.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let failing = (0..self.places.len()).flat_map(|place| self.failing(place));
        let patterns = self.rules.iter().map(|rule| rule.pattern.as_str());
        patterns.chain(failing.map(|(name, _)| name.as_str()))
    }

    /// The card that a place is on.
    pub fn gpu_at(&self, place: usize) -> &Gpu {
        &self.gpus[self.places[place].gpu]
    }
}

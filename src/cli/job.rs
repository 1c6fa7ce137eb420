//! What a command is asked about: the model, the setup, the GPUs; put together once for all.

use crate::cli::config_file;
use crate::cli::error::CliError;
use crate::cli::gpu_select::GpuSelector;
use crate::cli::settings::Settings;
use crate::cli::setup::{ModelArgs, SetupArgs};
use crate::cli::support;
use crate::cli::target::{CONTEXT_ALLOWANCE, ChosenGpu, chosen};
use crate::cli::values::{Headroom, ParallelArg};
use crate::cli::versions;
use crate::ingest::source::{ModelError, ModelSource, Origin};
use crate::plan::capacity::{Capacity, OutsideAllocator};
use crate::plan::world::World;
use crate::step::setup::{GpuArch, Setup};
use crate::step::{self, StepError};
use crate::trace::Trace;
use crate::units::{AccumulationSteps, Bytes, DataParallelSize, MicroBatch};

/// What is said of replicas where there is one.
const ALONE: &str = "--parallel ddp on one device: neither NCCL nor gradient buckets are counted; \
                     --world-size N says how many train together";

/// What is said of several devices that are to share nothing.
const TOGETHER: &str = "--parallel none on several devices: counted as ddp, since they do one optimizer \
                        step together";

/// A model, its setup and the GPUs that a command is about.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// The model.
    pub model: ModelSource,
    /// The setup.
    pub settings: Settings,
    /// The GPUs, none when `--capacity` was given without them or none was named.
    pub gpus: Vec<ChosenGpu>,
    /// `--capacity`.
    pub capacity: Option<Bytes>,
    /// How many devices train together, and who says so.
    pub world: World,
}

/// Which GPUs a command takes when none is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithoutGpu {
    /// All real ones, unless `--capacity` says enough.
    AskDriver,
    /// None.
    Assume,
}

impl Job {
    /// Reads model, file and flags, and finds the GPUs.
    ///
    /// # Errors
    /// For input that cannot be worked with; exit code 4 where a GPU is needed and none is there.
    pub fn prepare(args: &ModelArgs, without: WithoutGpu) -> Result<Job, CliError> {
        let file = config_file::load(args.config.as_deref())?.setup;
        Job::of(&args.model, args.setup.clone().or(file), without)
    }

    /// The same of a setup that is put together already: no file is read for what it leaves open.
    ///
    /// # Errors
    /// Those of [`prepare`](Job::prepare).
    pub fn of(model: &str, setup: SetupArgs, without: WithoutGpu) -> Result<Job, CliError> {
        let asked = model.trim();
        let mut model = ModelSource::resolve(model)?;
        if let Some(image_size) = setup.image_size {
            support::image_size(&model.config, image_size)?;
            model.config = model.config.with_image_size(image_size);
        }
        model.config = support::with_task(model.config, setup.task)?;
        // What needs no GPU is refused before a driver is asked: exit code 2 comes before 4.
        let simulated = match &setup.gpu {
            Some(selector @ GpuSelector::Simulated(_)) => Some(chosen(selector)?),
            _ => None,
        };
        let versions = versions::resolve(&setup);
        Settings::resolve(&setup, &model.config, GpuArch::A100, versions.clone())?;
        let gpus = match (&setup.gpu, without) {
            (Some(selector), _) => simulated.map_or_else(|| chosen(selector), Ok)?,
            (None, WithoutGpu::AskDriver) if setup.capacity.is_none() => chosen(&GpuSelector::All)?,
            (None, _) => Vec::new(),
        };
        let arch = gpus.first().map_or(GpuArch::A100, |gpu| gpu.arch);
        let mut settings = Settings::resolve(&setup, &model.config, arch, versions)?;
        let transformers = settings.versions.transformers;
        settings.assumptions.extend(versions::not_compared(&settings.versions));
        settings.assumptions.extend(support::older_transformers(&model.config, transformers));
        settings.assumptions.extend(support::ignored_checkpointing(&model.config, &settings.setup));
        if gpus.is_empty() {
            let assumed = "an A100 (compute capability 8.0, 108 SMs): no --gpu was given";
            settings.assumptions.push(assumed.to_owned());
        }
        if setup.headroom.is_none() && setup.capacity.is_none() && !gpus.is_empty() {
            let line = format!("--headroom {} (default)", Headroom::DEFAULT);
            settings.assumptions.push(line);
        }
        if asked.contains('/') && matches!(model.origin, Origin::Profile { .. }) {
            settings.assumptions.push(format!(
                "`{asked}` is as the built-in `{}` has it: nothing is downloaded",
                model.name
            ));
        }
        settings.notes.extend(support::loaded_otherwise(model.dtype.as_deref(), &settings));
        settings.notes.extend(model.notes.iter().cloned());
        let capacity = setup.capacity;
        let world = world(settings.world_size, None, gpus.len())?;
        let used = usize::try_from(world.size).unwrap_or(usize::MAX).min(gpus.len());
        check_capacity(capacity, &gpus[..used])?;
        if let Some(size) = capacity.filter(|_| gpus.is_empty()) {
            settings.notes.push(format!(
                "--capacity is what PyTorch's allocator may take. A card of {size} leaves it less, for \
                 the driver, the CUDA context and the headroom: --gpu sim:{}",
                typed(size)
            ));
        }
        if setup.parallel == Some(ParallelArg::Ddp) && world.size == 1 {
            settings.notes.push(ALONE.to_owned());
        }
        if setup.parallel == Some(ParallelArg::None) && world.size > 1 {
            settings.notes.push(TOGETHER.to_owned());
        }
        Ok(Job { model, settings, gpus, capacity, world }.limited_to_world())
    }

    /// Keeps no more GPUs than the world has devices, and says who decided on their number.
    fn limited_to_world(mut self) -> Job {
        let World { size, from, disagreements } = &self.world;
        let notes = &mut self.settings.notes;
        notes.extend(disagreements.iter().cloned());
        let (here, from) = (self.gpus.len(), from.words());
        let world = usize::try_from(*size).unwrap_or(usize::MAX);
        if world < here {
            notes.push(format!("{from} says {size}: uses {size} of {here} GPUs"));
            self.gpus.truncate(world);
        } else if here > 0 && world > here {
            notes.push(format!(
                "{from} says {size}, and {here} {} here: the others are taken to be alike",
                if here == 1 { "GPU is" } else { "GPUs are" }
            ));
        }
        self
    }

    /// Returns the setup at these sizes on a GPU, or on what the capacity says of one, else on one whose
    /// kernels are an A100's and whose memory has no end.
    pub fn setup_on(
        &self,
        gpu: Option<&ChosenGpu>,
        micro_batch: MicroBatch,
        accumulation: AccumulationSteps,
    ) -> Setup {
        let asked = self.settings.at(micro_batch, accumulation);
        match (gpu, self.capacity) {
            (Some(gpu), _) => Setup { gpu: gpu.arch, device_total: gpu.usable, ..asked },
            (None, Some(capacity)) => Setup { gpu: GpuArch::A100, device_total: capacity, ..asked },
            (None, None) => Setup { gpu: GpuArch::A100, ..asked },
        }
    }

    /// Returns the trace of a step of the job.
    ///
    /// # Errors
    /// A setup that is not covered yet.
    pub fn trace(&self, setup: &Setup) -> Result<Trace, StepError> {
        step::trace_tuned(&self.model.config, &self.settings.tuning, setup)
    }

    /// Returns the number of replicas: the world, or one a GPU.
    ///
    /// Tensor, pipeline and context parallelism would divide it; they are refused so far.
    pub fn data_parallel(&self) -> DataParallelSize {
        DataParallelSize::new(self.world.size).unwrap_or(DataParallelSize::ONE)
    }

    /// Returns what a device spends beside the step, with `gradients` bytes of gradients.
    pub fn outside(&self, gpu: Option<&ChosenGpu>, gradients: Bytes) -> OutsideAllocator {
        let context = gpu.map_or(CONTEXT_ALLOWANCE, |gpu| gpu.context);
        OutsideAllocator::new(context, self.data_parallel(), gradients)
    }

    /// Returns the capacity on a GPU, or the given one; `None` where neither is known.
    pub fn capacity_on(
        &self,
        gpu: Option<&ChosenGpu>,
        outside: &OutsideAllocator,
    ) -> Option<Capacity> {
        let headroom = self.settings.headroom;
        if let Some(size) = self.capacity {
            // A capacity given by hand is meant as it stands, unless a headroom is given as well.
            let left = headroom.map_or(Bytes::ZERO, |headroom| headroom.of(size));
            return Some(Capacity::given(size, outside, left));
        }
        let gpu = gpu?;
        let headroom = headroom.unwrap_or(Headroom::DEFAULT).of(gpu.total);
        Some(Capacity::of_device(gpu.free, outside, headroom))
    }

    /// Refuses GPUs that the PyTorch in question has no kernels for.
    ///
    /// # Errors
    /// With exit code 3.
    pub fn check_kernels(&self) -> Result<(), CliError> {
        let torch = self.settings.versions.torch;
        self.gpus.iter().try_for_each(|gpu| support::kernels(gpu.arch, torch))
    }
}

/// Refuses a capacity that no GPU in question has.
fn check_capacity(capacity: Option<Bytes>, gpus: &[ChosenGpu]) -> Result<(), CliError> {
    let Some(size) = capacity else { return Ok(()) };
    // What has no figure of its own is why a capacity is given (memory shared with the host).
    match gpus.iter().find(|gpu| gpu.total > Bytes::ZERO && size > gpu.total) {
        None => Ok(()),
        Some(gpu) => Err(CliError::usage(format!("--capacity is more than GPU {} has", gpu.index))
            .cause(format!("{} has {} in all, and {size} are asked for", gpu.name, gpu.total))
            .hint("leave --capacity out: what the GPU has free is taken")),
    }
}

/// A size as a flag takes it.
fn typed(size: Bytes) -> String {
    let gib = size.get() >> 30;
    if Bytes::gib(gib) == size { format!("{gib}GiB") } else { format!("{}B", size.get()) }
}

/// Decides on the number of devices: the flag, the launcher's environment, a file, the GPUs.
///
/// # Errors
/// When the launcher's variable cannot be read.
pub fn world(flag: Option<u64>, file: Option<(&str, u64)>, gpus: usize) -> Result<World, CliError> {
    World::find(flag, file, gpus as u64, |name| std::env::var(name).ok()).map_err(|error| {
        CliError::usage(error.to_string()).hint("--world-size N says how many devices train")
    })
}

impl From<ModelError> for CliError {
    fn from(error: ModelError) -> CliError {
        let plain = CliError::usage(error.to_string()).hint(error.hint());
        match error.cause() {
            Some(cause) => plain.cause(cause),
            None => plain,
        }
    }
}

//! `oomph trial`: the plan, with the training command itself as the judge.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::cli::check::NoGpu;
use crate::cli::gpu_select::GpuSelector;
use crate::cli::run::EndArgs;
use crate::cli::values::{Headroom, count};

/// Arguments of `oomph trial`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  oomph trial --effective-batch 64 --until 'step 3' -- python train.py --bs {micro_batch}
  oomph trial --gpu sim:a10*4 --effective-batch 256 -- torchrun train.py {micro_batch}
  oomph trial --gpu sim:t4 --shell -- 'cd . && python train.py $OOMPH_MICRO_BATCH'")]
pub struct Args {
    /// Run on these GPUs: all (that CUDA_VISIBLE_DEVICES leaves), 0,2, a UUID, or simulated ones
    /// (sim:NAME, sim:NAME*8, sim:24GiB)
    #[arg(long, value_name = "GPU", default_value = "all", help_heading = "Device")]
    pub gpu: GpuSelector,
    /// Run beside other programs on a real GPU, which could then run out of memory
    #[arg(long, help_heading = "Device")]
    pub shared: bool,
    /// Without a GPU whose memory can be read, fail, or go by the command's verdicts alone
    #[arg(
        long,
        value_name = "fail|skip",
        default_value = "fail",
        hide_possible_values = true,
        help_heading = "Device"
    )]
    pub no_gpu: NoGpu,
    /// Leave this much free on each GPU: a size, or a percentage of its total [default: 3%]
    #[arg(long, value_name = "SIZE|PERCENT", allow_hyphen_values = true, help_heading = "Device")]
    pub headroom: Option<Headroom>,
    /// Reach N samples in an optimizer step, over all devices [default: what the micro-batch makes]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub effective_batch: Option<u64>,
    /// Try no micro-batch above N [default: the effective batch of a device, else 4096]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub micro_batch_max: Option<u64>,
    /// Train on N devices in all [default: the number of GPUs]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub world_size: Option<u64>,
    /// Exit with code 6 when no exact plan reaches the effective batch
    #[arg(long)]
    pub exact: bool,
    /// Keep each run's log and outcome in DIR; a trial that finds them there uses them again
    /// [default: nothing is kept]
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// Let a shell read the command: `sh -c CMD`
    #[arg(long)]
    pub shell: bool,
    /// When the command is ended before it ends by itself.
    #[command(flatten)]
    pub end: EndArgs,
    /// The command after `--`, with {micro_batch}, {accumulation_steps} and {effective_batch} in
    /// its arguments (and OOMPH_MICRO_BATCH, ... in its environment)
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

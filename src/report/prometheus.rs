//! What each GPU has free, in Prometheus' text format, for node_exporter's textfile collector.
//!
//! Source: prometheus.io/docs/instrumenting/exposition_formats (text format 0.0.4): the samples of a
//! metric stand together, below its HELP and TYPE.

use std::fmt::Write;

use crate::probe::{DeviceMemory, Gpu, GpuList, GpuRow};
use crate::report::gpus::unattributed;
use crate::units::Bytes;

/// The four figures of a memory: the metric's ending, what it says, and where it is.
type Figure = (&'static str, &'static str, fn(&DeviceMemory) -> Option<Bytes>);

const FIGURES: [Figure; 4] = [
    ("total", "All memory", |memory| Some(memory.total)),
    ("reserved", "Memory that the driver keeps", |memory| memory.reserved),
    ("used", "Memory that processes hold", |memory| Some(memory.used)),
    ("free", "Memory that is free", |memory| Some(memory.free)),
];

/// Returns the metrics of every GPU. What could not be read has no sample: an old figure or a zero
/// would be taken for a reading.
pub fn metrics(list: &GpuList) -> String {
    let mut text = String::new();
    let rows = || list.rows.iter();
    let gpus = || rows().filter_map(|row| Some((row.index, row.gpu.as_ref().ok()?)));
    family(&mut text, "oomph_gpu_up", "Whether the GPU answers", rows().map(up));
    let about = gpus().map(|(index, gpu)| info(list, index, gpu));
    family(&mut text, "oomph_gpu_info", "What the GPU is", about);
    for (name, help, figure) in FIGURES {
        let samples = gpus().filter_map(|(index, gpu)| {
            let bytes = figure(gpu.memory.as_ref().ok()?)?;
            Some((of_gpu(index, gpu), bytes.get()))
        });
        family(&mut text, &format!("oomph_gpu_memory_{name}_bytes"), help, samples);
    }
    let rest = gpus().filter_map(|(i, gpu)| Some((of_gpu(i, gpu), unattributed(gpu)?.get())));
    let help = "Memory in use that no visible process accounts for";
    family(&mut text, "oomph_gpu_memory_unattributed_bytes", help, rest);
    let held = gpus().flat_map(|(index, gpu)| processes(index, gpu));
    let help = "Memory that a process holds";
    family(&mut text, "oomph_gpu_process_memory_bytes", help, held);
    for (name, help, figure) in FIGURES {
        let samples = gpus().flat_map(|(index, gpu)| instances(index, gpu, figure));
        let help = format!("{help}, of a MIG instance");
        family(&mut text, &format!("oomph_mig_memory_{name}_bytes"), &help, samples);
    }
    text
}

/// Labels and value.
type Sample = (Vec<(&'static str, String)>, u64);

fn up(row: &GpuRow) -> Sample {
    (vec![("gpu", row.index.to_string())], u64::from(row.gpu.is_ok()))
}

fn of_gpu(index: u32, gpu: &Gpu) -> Vec<(&'static str, String)> {
    vec![("gpu", index.to_string()), ("uuid", gpu.uuid.clone())]
}

fn info(list: &GpuList, index: u32, gpu: &Gpu) -> Sample {
    let mut labels = of_gpu(index, gpu);
    labels.push(("name", gpu.name.clone()));
    labels.push(("simulated", gpu.simulated.to_string()));
    labels.push(("driver_version", list.driver_version.clone().unwrap_or_default()));
    (labels, 1)
}

fn processes(index: u32, gpu: &Gpu) -> impl Iterator<Item = Sample> + '_ {
    gpu.processes.iter().filter_map(move |process| {
        let mut labels = of_gpu(index, gpu);
        labels.push(("pid", process.pid.to_string()));
        labels.push(("process", process.name.clone().unwrap_or_default()));
        Some((labels, process.used?.get()))
    })
}

fn instances(
    index: u32,
    gpu: &Gpu,
    figure: fn(&DeviceMemory) -> Option<Bytes>,
) -> impl Iterator<Item = Sample> + '_ {
    gpu.mig_instances.iter().filter_map(move |instance| {
        let bytes = figure(instance.memory.as_ref().ok()?)?;
        let labels = vec![
            ("gpu", index.to_string()),
            ("mig", instance.index.to_string()),
            ("uuid", instance.uuid.clone()),
        ];
        Some((labels, bytes.get()))
    })
}

/// Writes one metric; nothing where it has no sample.
fn family(text: &mut String, name: &str, help: &str, samples: impl Iterator<Item = Sample>) {
    let mut samples = samples.peekable();
    if samples.peek().is_none() {
        return;
    }
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
    for (labels, value) in samples {
        let labels: Vec<String> =
            labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
        let _ = writeln!(text, "{name}{{{}}} {value}", labels.join(","));
    }
}

/// A label's value: backslashes, quotes and line feeds are escaped.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_calls_itself_cannot_end_its_label() {
        assert_eq!(escaped("a\"b\\c\nd"), r#"a\"b\\c\nd"#);
    }

    #[test]
    fn a_metric_without_a_sample_is_left_out() {
        let lost = GpuRow { index: 3, gpu: Err("lost".to_owned()) };
        let list = GpuList { rows: vec![lost], ..GpuList::default() };
        let help = "# HELP oomph_gpu_up Whether the GPU answers\n# TYPE oomph_gpu_up gauge\n";
        assert_eq!(metrics(&list), format!("{help}oomph_gpu_up{{gpu=\"3\"}} 0\n"));
    }
}

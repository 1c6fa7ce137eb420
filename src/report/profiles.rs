//! Built-in models and GPUs, as tables and JSON.

use comfy_table::ContentArrangement;
use serde_json::{Value, json};

use crate::profile::gpu::GpuProfile;
use crate::profile::model::ModelProfile;
use crate::report::text::{Paint, grouped, labelled, lines, table};

/// Renders the lists of models and GPUs.
pub fn list(models: &[ModelProfile], gpus: &[GpuProfile], paint: Paint) -> String {
    let mut by_model = table(&["model", "parameters", "on the hub by"], &[1]);
    by_model.add_rows(models.iter().map(|model| {
        let by = model.hub_id.split('/').next().unwrap_or_default();
        vec![model.name.clone(), grouped(model.parameters), by.to_owned()]
    }));
    let mut by_gpu = table(&["GPU", "total", "compute", "SMs", "as NVML names it"], &[1, 2, 3]);
    by_gpu.add_rows(gpus.iter().map(|gpu| {
        let (major, minor) = gpu.arch.compute_capability;
        vec![
            format!("sim:{}", gpu.name),
            gpu.total.to_string(),
            format!("{major}.{minor}"),
            gpu.arch.sm_count.to_string(),
            gpu.product_name.clone(),
        ]
    }));
    // One name is longer than what 80 columns leave it.
    by_gpu.set_content_arrangement(ContentArrangement::Dynamic).set_width(79);
    let (models, gpus) = (lines(&by_model), lines(&by_gpu));
    let heading = |text: &str| paint.bold(text);
    format!("{}\n{models}\n{}\n{gpus}", heading("Models"), heading("GPUs, simulated by --gpu"))
}

/// Renders the lists as JSON (`oomph.profiles/1`).
pub fn list_json(models: &[ModelProfile], gpus: &[GpuProfile]) -> String {
    let models: Vec<Value> = models.iter().map(model_value).collect();
    let gpus: Vec<Value> = gpus.iter().map(gpu_value).collect();
    let value = json!({ "schema": "oomph.profiles/1", "models": models, "gpus": gpus });
    format!("{value:#}\n")
}

/// Renders one model.
pub fn model(model: &ModelProfile, paint: Paint) -> String {
    let mut text = format!("{} ({})\n", paint.bold(&model.name), model.hub_id);
    text.push_str(&format!("  {:<28}{}\n", "parameters", grouped(model.parameters)));
    for (i, id) in model.same_memory.iter().enumerate() {
        let key = if i == 0 { "the same memory" } else { "" };
        text.push_str(&format!("  {key:<28}{id}\n"));
    }
    for (key, value) in &model.config {
        text.push_str(&format!("  {key:<28}{value}\n"));
    }
    text.push_str(&source(&model.source));
    text
}

/// Renders one GPU.
pub fn gpu(gpu: &GpuProfile, paint: Paint) -> String {
    let (major, minor) = gpu.arch.compute_capability;
    let rows = [
        ("total", gpu.total.to_string()),
        ("kept by the driver", gpu.reserved.to_string()),
        ("CUDA context (allowance)", gpu.context.to_string()),
        ("compute capability", format!("{major}.{minor}")),
        ("streaming multiprocessors", gpu.arch.sm_count.to_string()),
        ("L2 cache", gpu.l2.to_string()),
        ("boost clock", format!("{} MHz", gpu.clock_mhz)),
        ("memory bandwidth", per_second(gpu.memory_bandwidth)),
        ("host link", per_second(gpu.host_link_bandwidth)),
    ];
    let mut text = format!("{} ({})\n", paint.bold(&gpu.name), gpu.product_name);
    for (key, value) in rows {
        text.push_str(&format!("  {key:<28}{value}\n"));
    }
    text.push_str(&source(&gpu.source));
    text
}

/// Renders where figures come from: an entry begins at the start of a line, and indented lines go on.
fn source(text: &str) -> String {
    let mut entries: Vec<String> = Vec::new();
    for line in text.lines() {
        match entries.last_mut().filter(|_| line.starts_with(' ')) {
            Some(entry) => entry.push_str(line),
            None => entries.push(line.to_owned()),
        }
    }
    entries.iter().map(|entry| labelled("source", entry)).collect()
}

/// Renders one model as JSON.
pub fn model_json(model: &ModelProfile) -> String {
    with_schema("oomph.model/1", model_value(model))
}

/// Renders one GPU as JSON.
pub fn gpu_json(gpu: &GpuProfile) -> String {
    with_schema("oomph.gpu/1", gpu_value(gpu))
}

fn with_schema(schema: &str, value: Value) -> String {
    let mut whole = json!({ "schema": schema });
    if let (Value::Object(whole), Value::Object(fields)) = (&mut whole, value) {
        whole.extend(fields);
    }
    format!("{whole:#}\n")
}

fn model_value(model: &ModelProfile) -> Value {
    json!({
        "name": model.name,
        "hub_id": model.hub_id,
        "parameters": model.parameters,
        "same_memory": model.same_memory,
        "config": model.config,
        "source": model.source,
    })
}

fn gpu_value(gpu: &GpuProfile) -> Value {
    let (major, minor) = gpu.arch.compute_capability;
    json!({
        "name": gpu.name,
        "product_name": gpu.product_name,
        "total_bytes": gpu.total,
        "reserved_bytes": gpu.reserved,
        "context_bytes": gpu.context,
        "compute_capability": format!("{major}.{minor}"),
        "sm_count": gpu.arch.sm_count,
        "l2_bytes": gpu.l2,
        "boost_clock_mhz": gpu.clock_mhz,
        "memory_bandwidth_bytes_per_second": gpu.memory_bandwidth,
        "host_link_bytes_per_second": gpu.host_link_bandwidth,
        "source": gpu.source,
    })
}

/// Vendors quote bandwidth in decimal units.
fn per_second(bytes: u64) -> String {
    format!("{:.0} GB/s", bytes as f64 / 1e9)
}

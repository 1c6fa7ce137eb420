//! NVML as a whole: starting it, versions, names of processes.

use std::ffi::c_char;

use super::error;
use crate::c::Out;
use crate::call::{Call, Code, Outcome};

/// `nvmlInit_v2`: may be called again, and is counted.
pub fn init(call: &mut Call) -> Outcome {
    if call.scenario.nvml_init != 0 {
        return Err(Code(call.scenario.nvml_init));
    }
    call.nvml.initialized += 1;
    Ok(())
}

/// `nvmlInitWithFlags`
pub fn init_with_flags(call: &mut Call, _flags: u32) -> Outcome {
    init(call)
}

/// `nvmlShutdown`
pub fn shutdown(call: &mut Call) -> Outcome {
    call.nvml_initialized()?;
    call.nvml.initialized -= 1;
    Ok(())
}

/// Writes text; a buffer that is too small gets none.
pub fn answer(text: &Out<c_char>, length: u32, value: &str) -> Outcome {
    if (length as usize) <= value.len() {
        return Err(error::INSUFFICIENT_SIZE);
    }
    text.set_text(value, length as usize)?;
    Ok(())
}

/// `nvmlSystemGetDriverVersion`
pub fn driver_version(call: &mut Call, text: Out<c_char>, length: u32) -> Outcome {
    call.nvml_initialized()?;
    answer(&text, length, &call.scenario.driver_version)
}

/// `nvmlSystemGetNVMLVersion`: the CUDA major version before the driver's.
pub fn nvml_version(call: &mut Call, text: Out<c_char>, length: u32) -> Outcome {
    call.nvml_initialized()?;
    let major = call.scenario.cuda_version / 1000;
    answer(&text, length, &format!("{major}.{}", call.scenario.driver_version))
}

/// `nvmlSystemGetCudaDriverVersion_v2`
pub fn cuda_version(call: &mut Call, version: Out<i32>) -> Outcome {
    call.nvml_initialized()?;
    Ok(version.set(call.scenario.cuda_version as i32)?)
}

/// `nvmlSystemGetProcessName`: of the scenario's processes, or of real ones; cut to the room.
pub fn process_name(call: &mut Call, pid: u32, text: Out<c_char>, length: u32) -> Outcome {
    call.note("pid", pid);
    call.nvml_initialized()?;
    let neighbour = call.scenario.neighbours.iter().find(|process| process.pid == pid);
    let name = match neighbour {
        Some(process) => process.name.clone(),
        None => std::fs::read(format!("/proc/{pid}/cmdline"))
            .ok()
            .and_then(|line| line.split(|byte| *byte == 0).next().map(<[u8]>::to_vec))
            .map(|program| String::from_utf8_lossy(&program).into_owned())
            .ok_or(error::NOT_FOUND)?,
    };
    text.set_text(&name, length as usize)?;
    Ok(())
}

//! A stand-in for a training program: allocates what it is told through the CUDA driver, prints
//! what PyTorch prints, forks, hangs and dies as programs do.
//!
//! Compiled by the tests with `rustc` alone (tests/training/mod.rs). Words are `name=value`.

use std::collections::HashMap;
use std::ffi::{CString, c_char, c_int, c_void};
use std::io::Write;
use std::process::{Command, exit};
use std::time::Duration;

unsafe extern "C" {
    fn dlopen(name: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    fn signal(number: c_int, handler: usize) -> usize;
    fn setsid() -> c_int;
    fn kill(pid: c_int, signal: c_int) -> c_int;
}

const MIB: u64 = 1 << 20;
const OUT_OF_MEMORY: u32 = 2;

struct Words(HashMap<String, String>);

impl Words {
    fn number(&self, name: &str, otherwise: u64) -> u64 {
        self.0.get(name).map_or(otherwise, |text| text.parse().expect("a number"))
    }

    fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}

/// The driver, by the names that programs use.
struct Cuda(*mut c_void);

impl Cuda {
    fn open() -> Cuda {
        let name = CString::new("libcuda.so.1").expect("no NUL");
        // SAFETY: a valid string; RTLD_NOW.
        let library = unsafe { dlopen(name.as_ptr(), 2) };
        if library.is_null() {
            fail("no libcuda.so.1", 1);
        }
        Cuda(library)
    }

    fn function(&self, name: &str) -> *mut c_void {
        let text = CString::new(name).expect("no NUL");
        // SAFETY: an open library and a valid string.
        let found = unsafe { dlsym(self.0, text.as_ptr()) };
        if found.is_null() {
            fail(name, 1);
        }
        found
    }

    fn enter(&self, device: c_int) {
        let mut context: *mut c_void = std::ptr::null_mut();
        // SAFETY: the functions have these types in cuda.h, and the pointer is to a live variable.
        let codes = unsafe {
            let init: extern "C" fn(u32) -> u32 = std::mem::transmute(self.function("cuInit"));
            let retain: extern "C" fn(*mut *mut c_void, c_int) -> u32 =
                std::mem::transmute(self.function("cuDevicePrimaryCtxRetain"));
            let current: extern "C" fn(*mut c_void) -> u32 =
                std::mem::transmute(self.function("cuCtxSetCurrent"));
            [init(0), retain(&mut context, device), current(context)]
        };
        if let Some(code) = codes.into_iter().find(|code| *code != 0) {
            out_of_memory_or(code, 0);
        }
    }

    fn allocate(&self, bytes: u64) -> Result<u64, u32> {
        let mut address = 0u64;
        // SAFETY: as above.
        let code = unsafe {
            let allocate: extern "C" fn(*mut u64, usize) -> u32 =
                std::mem::transmute(self.function("cuMemAlloc_v2"));
            allocate(&mut address, bytes as usize)
        };
        if code == 0 { Ok(address) } else { Err(code) }
    }

    fn free(&self, address: u64) {
        // SAFETY: as above.
        unsafe {
            let free: extern "C" fn(u64) -> u32 = std::mem::transmute(self.function("cuMemFree_v2"));
            free(address);
        }
    }
}

fn fail(text: &str, code: i32) -> ! {
    eprintln!("{text}");
    exit(code)
}

fn out_of_memory_or(code: u32, bytes: u64) -> ! {
    if code == OUT_OF_MEMORY {
        eprintln!("Traceback (most recent call last):");
        eprintln!("  File \"train.py\", line 40, in <module>");
        fail(
            &format!(
                "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate {} MiB. GPU 0 has a \
                 total capacity of 1.00 GiB",
                bytes / MIB
            ),
            1,
        );
    }
    fail(&format!("CUDA error {code}"), 1)
}

/// Bytes that a step of this many samples takes, by the words' law.
fn law(words: &Words, micro_batch: u64, accumulation: u64) -> u64 {
    let base = words.number("base", 100) * MIB;
    let sample = words.number("sample", 0) * MIB + words.number("sample_kib", 0) * 1024;
    let gradients = if accumulation > 1 { words.number("gradients", 0) * MIB } else { 0 };
    // As cuBLAS and cuDNN do at some sizes: a kernel with more scratch.
    let jump = match words.number("jump_at", 0) {
        0 => 0,
        at => micro_batch / at * words.number("jump", 0) * MIB,
    };
    let granule = words.number("granule", 2) * MIB;
    (base + gradients + micro_batch * sample + jump).div_ceil(granule) * granule
}

/// The samples of a batch: no more than the data set has.
fn micro_batch(words: &Words) -> u64 {
    words.number("micro_batch", 1).min(words.number("samples", u64::MAX))
}

/// Waits until whoever reads the driver has read all of a GPU once more, as its log of calls tells.
fn wait_until_read(log: &str) {
    let length = || std::fs::metadata(log).map_or(0, |found| found.len());
    let start = length() as usize;
    for _ in 0..20_000 {
        let text = std::fs::read(log).unwrap_or_default();
        let new = text.get(start..).unwrap_or_default();
        let name = b"nvmlDeviceGetMemoryInfo_v2";
        // The second reading begins when the first is over.
        if new.windows(name.len()).filter(|part| part == name).count() >= 2 {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    fail("nobody reads the driver", 70)
}

fn train(words: &Words) {
    let micro_batch = micro_batch(words);
    let accumulation = words.number("accumulation", 1);
    let cuda = Cuda::open();
    cuda.enter(std::env::var("LOCAL_RANK").map_or(0, |rank| rank.parse().expect("a rank")));
    let bytes = law(words, micro_batch, accumulation);
    // A part that is held for a moment, too short for anybody to see.
    let moment = match words.number("moment", 0) {
        0 => 0,
        most => (micro_batch * 7_919 % (most + 1)) * MIB,
    };
    for step in 0..words.number("steps", 2) {
        let first = if moment > 0 { cuda.allocate(bytes) } else { Ok(0) };
        if first.is_ok_and(|address| address > 0) {
            cuda.free(first.expect("is there"));
        }
        match first.and_then(|_| cuda.allocate(bytes - moment)) {
            Ok(address) => {
                if !words.text("read_in").is_empty() {
                    wait_until_read(words.text("read_in"));
                }
                println!("step {step} memory {} MiB", bytes / MIB);
                std::thread::sleep(Duration::from_millis(words.number("step_ms", 0)));
                if step + 1 < words.number("steps", 2) {
                    cuda.free(address);
                }
            }
            Err(OUT_OF_MEMORY) if words.text("catch") == "yes" => {
                eprintln!("torch.OutOfMemoryError: CUDA out of memory. Skipped.");
            }
            Err(code) => out_of_memory_or(code, bytes),
        }
    }
}

/// Starts this program again, `count` times, with these words in front.
fn again(count: u64, first: &str) -> Vec<std::process::Child> {
    let own = std::env::current_exe().expect("has a path");
    let rest: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("ranks=") && !word.starts_with("leave=")).collect();
    (0..count)
        .map(|rank| {
            let mut command = Command::new(&own);
            command.args(&rest).arg(first);
            if first.starts_with("rank=") {
                command.env("RANK", rank.to_string()).env("LOCAL_RANK", rank.to_string());
            }
            command.spawn().expect("starts")
        })
        .collect()
}

fn main() {
    let words = std::env::args().skip(1).filter_map(|word| {
        let (name, value) = word.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    });
    let mut words = Words(words.collect());
    for (name, variable) in
        [("micro_batch", "OOMPH_MICRO_BATCH"), ("accumulation", "OOMPH_ACCUMULATION_STEPS")]
    {
        if let (None, Ok(value)) = (words.0.get(name), std::env::var(variable)) {
            words.0.insert(name.to_owned(), value);
        }
    }
    if words.text("term") == "ignored" {
        // SAFETY: SIG_IGN for SIGTERM and SIGINT.
        unsafe {
            signal(15, 1);
            signal(2, 1);
        }
    }
    if words.text("apart") == "yes" {
        // SAFETY: a system call.
        unsafe { setsid() };
    }
    // Descendants in sessions of their own that outlive their parents.
    match words.number("leave", 0) {
        0 => {}
        n => drop(again(n, "apart=yes")),
    }
    let ranks = again(words.number("ranks", 0), "rank=yes");
    if ranks.is_empty() {
        if words.text("cuda") != "no" {
            train(&words);
        }
    } else {
        for mut rank in ranks {
            let status = rank.wait().expect("it was started");
            if !status.success() {
                exit(status.code().unwrap_or(1));
            }
        }
    }
    if !words.text("say").is_empty() {
        println!("{}", words.text("say"));
    }
    std::io::stdout().flush().expect("stdout");
    std::thread::sleep(Duration::from_millis(words.number("sleep_ms", 0)));
    match words.number("signal", 0) {
        0 if micro_batch(&words) >= words.number("exit_from", 0) => {
            exit(words.number("exit", 0) as i32)
        }
        0 => exit(0),
        // SAFETY: a system call.
        number => unsafe {
            kill(std::process::id() as c_int, number as c_int);
        },
    }
}

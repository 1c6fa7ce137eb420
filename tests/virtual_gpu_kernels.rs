//! The simulated GPU's kernels: nothing runs, and what a card could not run fails as on the card.

#![cfg(all(target_os = "linux", target_env = "gnu"))]

mod support;

use support::kernel::{Dim3, ELF, Image, PTX, register};
use support::machine::notes::Kind;
use support::{Scenario, child};

/// `cudaErrorNoKernelImageForDevice`
const NO_KERNEL_IMAGE: u32 = 209;

fn launch_as(function: u64, grid: Dim3, block: Dim3) -> u32 {
    let code = cuda!(cudaLaunchKernel(
        function => u64, grid => Dim3, block => Dim3, 0 => u64, 0 => usize, 0 => u64
    ));
    assert_eq!(cuda!(cudaGetLastError()), code);
    code
}

fn launch(function: u64) -> u32 {
    launch_as(function, Dim3(1, 1, 1), Dim3(32, 1, 1))
}

#[test]
fn a_kernel_runs_where_there_is_code_for_the_card() {
    // Card, images, whether it runs: machine code within a generation, PTX onwards.
    let cases: [(&str, &[Image], bool); 8] = [
        ("8.0", &[(ELF, 75), (ELF, 80)], true),
        ("8.6", &[(ELF, 80)], true),
        ("8.0", &[(ELF, 86)], false),
        ("9.0", &[(ELF, 80)], false),
        ("9.0", &[(ELF, 80), (PTX, 80)], true),
        ("7.0", &[(ELF, 75), (ELF, 80), (PTX, 90)], false),
        ("12.0", &[(ELF, 100)], false),
        ("12.0", &[(ELF, 100), (ELF, 120)], true),
    ];
    for (card, images, runs) in cases {
        let machine = Scenario::unlogged(&format!("gpu total=1GiB capability={card}"));
        child::run(&machine, || {
            let wanted = if runs { 0 } else { NO_KERNEL_IMAGE };
            assert_eq!(launch(register(c"", images)), wanted, "{images:?} on {card}");
        });
    }
}

#[test]
fn the_note_names_the_card_and_what_there_is() {
    let machine = Scenario::unlogged("gpu total=1GiB capability=7.0");
    child::run(&machine, || {
        launch(register(c"", &[(ELF, 75), (PTX, 90)]));
    });
    let notes = machine.notes();
    let said: Vec<_> = notes.iter().filter(|note| note.kind == Kind::NoKernelImage).collect();
    assert_eq!(said.len(), 1);
    assert_eq!(said[0].detail, "sm_70 has sm_75,compute_90");
}

#[test]
fn a_kernel_says_what_its_code_was_made_for() {
    let machine = Scenario::unlogged("gpu total=1GiB capability=8.6");
    child::run(&machine, || {
        let function = register(c"", &[(ELF, 75), (ELF, 80), (PTX, 80)]);
        let mut bytes = [0u32; 36];
        let code = cuda!(cudaFuncGetAttributes(&mut bytes => *mut [u32; 36], function => u64));
        // driver_types.h: maxThreadsPerBlock, numRegs, ptxVersion, binaryVersion at 24.
        assert_eq!((code, bytes[6], bytes[8], bytes[9]), (0, 1024, 80, 80));
    });
}

#[test]
fn shapes_that_no_card_takes_fail() {
    let machine = Scenario::unlogged("gpu total=1GiB");
    child::run(&machine, || {
        let function = register(c"", &[(ELF, 80)]);
        let one = Dim3(1, 1, 1);
        assert_eq!(launch_as(function, Dim3(0, 1, 1), one), 9);
        assert_eq!(launch_as(function, one, Dim3(1025, 1, 1)), 9);
        assert_eq!(launch_as(function, Dim3(1, 65536, 1), one), 9);
        assert_eq!(launch_as(function, Dim3(1 << 30, 65535, 1), Dim3(32, 32, 1)), 0);
    });
}

#[test]
fn occupancy_follows_the_cards_generation() {
    let blocks = |threads: i32, shared: usize| {
        let mut blocks = 0;
        let code = cuda!(cudaOccupancyMaxActiveBlocksPerMultiprocessor(
            &mut blocks => *mut i32, 1 => u64, threads => i32, shared => usize
        ));
        assert_eq!(code, 0);
        blocks
    };
    let machine = Scenario::unlogged("gpu total=1GiB capability=7.5");
    child::run(&machine, || assert_eq!((blocks(128, 0), blocks(32, 0)), (8, 16)));
    let machine = Scenario::unlogged("gpu total=1GiB capability=9.0");
    child::run(&machine, || {
        assert_eq!((blocks(128, 0), blocks(32, 0), blocks(128, 100 << 10)), (16, 32, 2));
    });
    // Of 8.6's 100 KiB the system keeps 1 of each block; of 6.x's 64 and 96 none.
    for (capability, fitting) in [("6.0", (1, 32)), ("6.1", (2, 32)), ("8.6", (2, 16))] {
        let machine = Scenario::unlogged(&format!("gpu total=1GiB capability={capability}"));
        child::run(&machine, || assert_eq!((blocks(128, 48 << 10), blocks(32, 0)), fitting));
    }
}

#[test]
fn a_configuration_is_popped_once() {
    let machine = Scenario::unlogged("gpu total=1GiB");
    child::run(&machine, || {
        let push = cuda!(__cudaPushCallConfiguration(
            Dim3(1, 2, 3) => Dim3, Dim3(4, 5, 6) => Dim3, 7 => usize, 8 => u64
        ));
        let (mut grid, mut block) = (Dim3(0, 0, 0), Dim3(0, 0, 0));
        let (mut shared, mut stream) = (0usize, 0u64);
        let mut pop = || {
            cuda!(__cudaPopCallConfiguration(
                &mut grid => *mut Dim3, &mut block => *mut Dim3, &mut shared => *mut usize,
                &mut stream => *mut u64
            ))
        };
        assert_eq!((push, pop(), pop()), (0, 0, 9));
        assert_eq!((grid.2, block.0, shared, stream), (3, 4, 7, 8));
    });
}

#[test]
fn a_variable_of_the_program_has_a_place_on_the_device() {
    let machine = Scenario::unlogged("gpu total=1GiB");
    child::run(&machine, || {
        let register: extern "C" fn(usize, u64, usize, usize, i32, usize, i32, i32) =
            support::driver::exported("__cudaRegisterVar\0");
        let (host, value) = (0u64, 42u64);
        let at = std::ptr::from_ref(&host).expose_provenance() as u64;
        register(0, at, 0, 0, 0, 8, 0, 0);
        let from = std::ptr::from_ref(&value).expose_provenance() as u64;
        let to_symbol = |bytes: usize| {
            cuda!(cudaMemcpyToSymbol(
                at => u64, from => u64, bytes => usize, 0 => usize, 1 => u32
            ))
        };
        assert_eq!((to_symbol(8), to_symbol(9)), (0, 1));
        let mut device = 0;
        assert_eq!(cuda!(cudaGetSymbolAddress(&mut device => *mut u64, at => u64)), 0);
        let mut back = 0u64;
        let code = cuda!(cudaMemcpy(
            &mut back => *mut u64, device => u64, 8 => usize, 4 => u32
        ));
        assert_eq!((code, back), (0, 42));
        assert_eq!(cuda!(cudaGetSymbolAddress(&mut device => *mut u64, 1 => u64)), 13);
    });
}

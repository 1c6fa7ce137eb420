//! The simulated GPU's libraries: handles, sizes, and what is not answered.

#![cfg(all(target_os = "linux", target_env = "gnu"))]

mod support;

use std::ffi::{CStr, c_char};

use support::machine::notes::Kind;
use support::{Scenario, child};

#[test]
fn a_cublas_handle_keeps_its_settings() {
    let machine = Scenario::unlogged("gpu total=1GiB");
    child::run(&machine, || {
        let mut handle = 0;
        assert_eq!(cuda!(cublasCreate_v2(&mut handle => *mut u64)), 0);
        let mut mode = 9;
        assert_eq!(cuda!(cublasGetMathMode(handle => u64, &mut mode => *mut u32)), 0);
        assert_eq!(mode, 0);
        assert_eq!(cuda!(cublasSetMathMode(handle => u64, 3 => u32)), 0);
        assert_eq!(cuda!(cublasGetMathMode(handle => u64, &mut mode => *mut u32)), 0);
        assert_eq!(mode, 3);
        assert_eq!(cuda!(cublasSetStream_v2(handle => u64, 77 => u64)), 0);
        let mut stream = 0;
        assert_eq!(cuda!(cublasGetStream_v2(handle => u64, &mut stream => *mut u64)), 0);
        assert_eq!(stream, 77);
        assert_eq!(cuda!(cublasGemmEx(handle => u64)), 0);
        assert_eq!(cuda!(cublasDestroy_v2(handle => u64)), 0);
        assert_eq!(cuda!(cublasSetMathMode(handle => u64, 3 => u32)), 1);
    });
}

#[test]
fn a_matrix_product_has_one_algorithm_without_a_workspace() {
    let machine = Scenario::unlogged("gpu total=1GiB");
    child::run(&machine, || {
        let mut result = [0xffu8; 96];
        let mut found = 0;
        let at = result.as_mut_ptr();
        let code = cuda!(cublasLtMatmulAlgoGetHeuristic(
            1 => u64, 2 => u64, 3 => u64, 4 => u64, 5 => u64, 6 => u64, 7 => u64, 1 => i32,
            at => *mut u8, &mut found => *mut i32
        ));
        assert_eq!((code, found, result), (0, 1, [0; 96]));
    });
}

#[test]
fn a_convolutions_workspace_is_the_scenarios_and_said() {
    let workspace = || {
        let mut bytes = 1usize;
        let code = cuda!(cudnnGetConvolutionForwardWorkspaceSize(
            1 => u64, 2 => u64, 3 => u64, 4 => u64, 5 => u64, 1 => i32, &mut bytes => *mut usize
        ));
        assert_eq!(code, 0);
        bytes
    };
    let machine = Scenario::unlogged("gpu total=1GiB");
    child::run(&machine, || assert_eq!(workspace(), 0));
    let machine = Scenario::unlogged("gpu total=1GiB convolution=8MiB");
    child::run(&machine, || {
        // CUDA is up by the time that cuDNN is.
        assert_eq!(cuda!(cudaFree(0 => u64)), 0);
        assert_eq!(workspace(), 8 << 20);
    });
    let notes = machine.notes();
    let said = notes.iter().find(|note| note.kind == Kind::Allowance).expect("is noted");
    assert_eq!(said.detail, "convolution 8388608");
}

#[test]
fn a_graph_of_cudnn_has_one_engine_with_the_assumed_workspace() {
    const NUMBER: u32 = 3;
    let machine = Scenario::unlogged("gpu total=1GiB convolution=4MiB");
    child::run(&machine, || {
        assert_eq!(cuda!(cudaFree(0 => u64)), 0);
        let mut plan = 0u64;
        let made = cuda!(cudnnBackendCreateDescriptor(8 => u32, &mut plan => *mut u64));
        let get = |of: u64, name: u32, room: i64| {
            let (mut count, mut values) = (-1i64, [-1i64; 2]);
            let code = cuda!(cudnnBackendGetAttribute(
                of => u64, name => u32, NUMBER => u32, room => i64, &mut count => *mut i64,
                values.as_mut_ptr() => *mut i64
            ));
            (code, count, values)
        };
        // Results of the heuristics, notes of an engine, the plan's workspace.
        assert_eq!((made, get(plan, 202, 0)), (0, (0, 1, [-1; 2])));
        assert_eq!(get(plan, 1303, 2), (0, 0, [-1; 2]));
        assert_eq!(get(plan, 402, 1), (0, 1, [4 << 20, -1]));
        // What was set is what it is.
        let sides = [7i64, 9];
        let set = cuda!(cudnnBackendSetAttribute(
            plan => u64, 902 => u32, NUMBER => u32, 2 => i64, sides.as_ptr() => *const i64
        ));
        assert_eq!((set, get(plan, 902, 2)), (0, (0, 2, [7, 9])));
        assert_eq!(get(plan, 902, 1), (0, 2, [7, -1]));
        assert_eq!(cuda!(cudnnBackendFinalize(plan => u64)), 0);
        assert_eq!(cuda!(cudnnBackendDestroyDescriptor(plan => u64)), 0);
        assert_eq!(cuda!(cudnnBackendFinalize(plan => u64)), 2000);
        assert_eq!(get(plan, 402, 1).0, 2000);
    });
}

#[test]
fn sparse_work_wants_no_area_and_a_matrix_keeps_its_sizes() {
    let machine = Scenario::unlogged("gpu total=1GiB");
    child::run(&machine, || {
        let mut matrix = 0u64;
        let made = cuda!(cusparseCreateCsr(
            &mut matrix => *mut u64, 5 => i64, 7 => i64, 11 => i64, 0 => u64, 0 => u64, 0 => u64,
            0 => u32, 0 => u32, 0 => u32, 0 => u32
        ));
        let sizes = |of: u64| {
            let (mut rows, mut columns, mut count) = (0i64, 0i64, 0i64);
            let code = cuda!(cusparseSpMatGetSize(
                of => u64, &mut rows => *mut i64, &mut columns => *mut i64, &mut count => *mut i64
            ));
            (code, rows, columns, count)
        };
        assert_eq!((made, sizes(matrix)), (0, (0, 5, 7, 11)));
        let area = |bytes: *mut usize| {
            cuda!(cusparseSpMM_bufferSize(
                1 => u64, 0 => u32, 0 => u32, 0 => u64, matrix => u64, 2 => u64, 0 => u64,
                3 => u64, 0 => u32, 0 => u32, bytes => *mut usize
            ))
        };
        let mut bytes = 9;
        assert_eq!((area(&mut bytes), bytes, area(std::ptr::null_mut())), (0, 0, 3));
        assert_eq!(cuda!(cusparseDestroySpMat(matrix => u64)), 0);
        assert_eq!(sizes(matrix).0, 3);
    });
}

#[test]
fn a_librarys_code_has_a_name_to_read() {
    let machine = Scenario::unlogged("gpu total=1GiB");
    child::run(&machine, || {
        for (function, name) in [
            ("cublasGetStatusString\0", c"CUBLAS_STATUS_NOT_SUPPORTED"),
            ("cublasLtGetStatusString\0", c"CUBLAS_STATUS_NOT_SUPPORTED"),
            ("cublasLtGetStatusName\0", c"CUBLAS_STATUS_NOT_SUPPORTED"),
        ] {
            assert_eq!(said(function, 15), name, "{function}");
        }
        for function in [
            "cusparseGetErrorString\0",
            "cusparseGetErrorName\0",
            "cusparseLtGetErrorString\0",
            "cusparseLtGetErrorName\0",
        ] {
            assert_eq!(said(function, 10), c"CUSPARSE_STATUS_NOT_SUPPORTED", "{function}");
        }
    });
}

/// What a function says of a code.
fn said(function: &str, code: u32) -> &'static CStr {
    let says: extern "C" fn(u32) -> *const c_char = support::driver::exported(function);
    // SAFETY: text that is never freed.
    unsafe { CStr::from_ptr(says(code)) }
}

#[test]
fn any_source_compiles_and_its_names_stay() {
    let machine = Scenario::unlogged("gpu total=1GiB");
    child::run(&machine, || {
        let mut program = 0u64;
        let text = c"x".as_ptr();
        type Text = *const std::ffi::c_char;
        let made = cuda!(nvrtcCreateProgram(
            &mut program => *mut u64, text => Text, text => Text, 0 => i32, 0 => u64, 0 => u64
        ));
        let named = cuda!(nvrtcAddNameExpression(
            program => u64, c"kernel<float>".as_ptr() => Text
        ));
        assert_eq!((made, named), (0, 0));
        assert_eq!(cuda!(nvrtcCompileProgram(program => u64, 0 => i32, 0 => u64)), 0);
        let mut lowered: Text = std::ptr::null();
        let code = cuda!(nvrtcGetLoweredName(
            program => u64, c"kernel<float>".as_ptr() => Text, &mut lowered => *mut Text
        ));
        assert_eq!(code, 0);
        // SAFETY: text of the program's, which is alive.
        assert_eq!(unsafe { std::ffi::CStr::from_ptr(lowered) }, c"kernel<float>");
        let mut bytes = 0usize;
        assert_eq!(cuda!(nvrtcGetPTXSize(program => u64, &mut bytes => *mut usize)), 0);
        assert_eq!(bytes, 1);
        assert_eq!(cuda!(nvrtcDestroyProgram(&mut program => *mut u64)), 0);
        assert_eq!(cuda!(nvrtcCompileProgram(program => u64, 0 => i32, 0 => u64)), 4);
    });
}

#[test]
fn a_call_that_is_not_answered_fails_and_is_named_once() {
    let machine = Scenario::unlogged("gpu total=1GiB");
    child::run(&machine, || {
        for _ in 0..3 {
            assert_eq!(cuda!(cudaIpcGetMemHandle(0 => u64, 0 => u64)), 801);
        }
        assert_eq!(cuda!(cudnnFusedOpsExecute(0 => u64)), 3000);
    });
    let notes = machine.notes();
    let unanswered = notes.iter().filter(|note| note.kind == Kind::Unanswered);
    let names: Vec<_> = unanswered.map(|note| note.detail.as_str()).collect();
    assert_eq!(names, ["cudaIpcGetMemHandle", "cudnnFusedOpsExecute"]);
}

#[test]
fn what_triton_looks_up_is_there() {
    let machine = Scenario::unlogged("gpu total=1GiB");
    child::run(&machine, || {
        support::driver::context(0).expect("a context");
        let (mut module, mut function) = (0u64, 0u64);
        let name = c"kernel".as_ptr();
        let loaded =
            cuda!(cuModuleLoadData(&mut module => *mut u64, name => *const std::ffi::c_char));
        let found = cuda!(cuModuleGetFunction(
            &mut function => *mut u64, module => u64, name => *const std::ffi::c_char
        ));
        assert_eq!((loaded, found), (0, 0));
        let mut value = 0;
        let code = cuda!(cuFuncGetAttribute(&mut value => *mut i32, 0 => u32, function => u64));
        assert_eq!((code, value), (0, 1024));
        // CUlaunchConfig: six sides, shared memory, stream, attributes.
        let config: [u32; 14] = [1, 1, 1, 128, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        let launch = |function: u64| {
            cuda!(cuLaunchKernelEx(
                &config => *const [u32; 14], function => u64, 0 => u64, 0 => u64
            ))
        };
        assert_eq!((launch(function), launch(0)), (0, 400));
        let mut map = [0xffu8; 128];
        let at = map.as_mut_ptr();
        assert_eq!(cuda!(cuTensorMapEncodeTiled(at => *mut u8)), 0);
    });
}

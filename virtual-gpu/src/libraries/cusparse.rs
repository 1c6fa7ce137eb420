//! cuSPARSE: handles; descriptors, which keep the addresses of their arrays; work areas.
//!
//! A real work area depends on the card and the algorithm. Assumed: none.

use std::ffi::{CStr, c_char};

use super::arrays::{self, Described};
use super::handle::{answers, creates};
use crate::c::Out;

/// `CUSPARSE_STATUS_INVALID_VALUE`
const INVALID_VALUE: u32 = 3;

creates! { 3;
    cusparseCreate cusparseCreateMatDescr cusparseSpGEMM_createDescr cusparseSpSV_createDescr
    cusparseSpSM_createDescr
}

/// Makes functions a line that hand out a descriptor: sizes and arrays follow it.
macro_rules! describes {
    ($($name:ident($($size:ident)*; $($array:ident)*))*) => {
        answers! {
            $(
                $name(out: Out<u64> $(, $size: u64)* $(, $array: u64)*) -> u32 {
                    let descriptor = super::handle::new();
                    let described =
                        Described { sizes: vec![$($size),*], arrays: vec![$($array),*] };
                    arrays::keep(descriptor, described);
                    if out.set(descriptor).is_ok() { 0 } else { INVALID_VALUE }
                }
            )*
        }
    };
}

describes! {
    cusparseCreateCsr(rows columns count; offsets indices values)
    cusparseCreateCsc(rows columns count; offsets indices values)
    cusparseCreateCoo(rows columns count; indices others values)
    cusparseCreateBsr(rows columns count block_rows block_columns; offsets indices values)
    cusparseCreateDnMat(rows columns leading; values)
    cusparseCreateDnVec(count; values)
    cusparseCreateSpVec(size count; indices values)
}

/// Makes functions a line that set the last arrays of a descriptor.
macro_rules! sets {
    ($($name:ident($($array:ident)*))*) => {
        answers! {
            $(
                $name(descriptor: u64 $(, $array: u64)*) -> u32 {
                    arrays::set(descriptor, &[$($array),*]);
                    0
                }
            )*
        }
    };
}

sets! {
    cusparseCsrSetPointers(offsets indices values)
    cusparseCscSetPointers(offsets indices values)
    cusparseCooSetPointers(indices others values)
    cusparseDnMatSetValues(values)
    cusparseDnVecSetValues(values)
    cusparseSpMatSetValues(values)
    cusparseSpVecSetValues(values)
}

/// Makes functions that end a descriptor of arrays.
macro_rules! ends {
    ($($name:ident)*) => {
        answers! {
            $(
                $name(descriptor: u64) -> u32 {
                    arrays::forget(descriptor);
                    0
                }
            )*
        }
    };
}

ends! { cusparseDestroyDnMat cusparseDestroyDnVec cusparseDestroySpMat cusparseDestroySpVec }

/// Makes functions a line that answer that no work area is wanted: so many words, then the answer.
macro_rules! areas {
    ($($name:ident($($word:ident)*))*) => {
        answers! {
            $(
                $name($($word: u64,)* bytes: Out<usize>) -> u32 {
                    if bytes.set(0).is_ok() { 0 } else { INVALID_VALUE }
                }
            )*
        }
    };
}

areas! {
    cusparseSpMM_bufferSize(_handle _a _b _alpha _left _right _beta _result _type _algorithm)
    cusparseSpMV_bufferSize(_handle _a _alpha _matrix _vector _beta _result _type _algorithm)
    cusparseSDDMM_bufferSize(_handle _a _b _alpha _left _right _beta _result _type _algorithm)
    cusparseSpSV_bufferSize(_handle _a _alpha _matrix _vector _result _type _algorithm _plan)
    cusparseSpSM_bufferSize(_handle _a _b _alpha _left _right _result _type _algorithm _plan)
    cusparseSpVV_bufferSize(_handle _a _left _right _result _type)
    cusparseSparseToDense_bufferSize(_handle _from _to _algorithm)
    cusparseDenseToSparse_bufferSize(_handle _from _to _algorithm)
    cusparseSpGEMM_workEstimation(
        _handle _a _b _alpha _left _right _beta _result _type _algorithm _plan
    )
    cusparseSpGEMM_compute(_handle _a _b _alpha _left _right _beta _result _type _algorithm _plan)
    cusparseXcoosort_bufferSizeExt(_handle _rows _columns _count _indices _others)
    cusparseXcsrsort_bufferSizeExt(_handle _rows _columns _count _offsets _indices)
    cusparseXcscsort_bufferSizeExt(_handle _rows _columns _count _offsets _indices)
}

answers! {
    // Of a product as many elements as its descriptor was made with: none, as a kernel counts them.
    cusparseSpMatGetSize(
        descriptor: u64, rows: Out<u64>, columns: Out<u64>, count: Out<u64>
    ) -> u32 {
        match arrays::sizes(descriptor).as_deref() {
            Some([of_rows, of_columns, elements, ..])
                if rows.set(*of_rows).is_ok()
                    && columns.set(*of_columns).is_ok()
                    && count.set(*elements).is_ok() =>
            {
                0
            }
            _ => INVALID_VALUE,
        }
    }
    cusparseGetErrorName(code: u32) -> *const c_char { name(code).as_ptr() }
    cusparseGetErrorString(code: u32) -> *const c_char { name(code).as_ptr() }
    cusparseLtGetErrorName(code: u32) -> *const c_char { name(code).as_ptr() }
    cusparseLtGetErrorString(code: u32) -> *const c_char { name(code).as_ptr() }
}

fn name(code: u32) -> &'static CStr {
    match code {
        0 => c"CUSPARSE_STATUS_SUCCESS",
        1 => c"CUSPARSE_STATUS_NOT_INITIALIZED",
        3 => c"CUSPARSE_STATUS_INVALID_VALUE",
        10 => c"CUSPARSE_STATUS_NOT_SUPPORTED",
        _ => c"unknown",
    }
}

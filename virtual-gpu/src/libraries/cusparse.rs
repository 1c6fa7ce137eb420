//! cuSPARSE: handles and descriptors, which keep the addresses of their arrays.

use super::arrays;
use super::handle::{answers, creates};
use crate::c::Out;

/// `CUSPARSE_STATUS_INVALID_VALUE`
const INVALID_VALUE: u32 = 3;

creates! { 3;
    cusparseCreate cusparseCreateMatDescr cusparseSpGEMM_createDescr cusparseSpSV_createDescr
    cusparseSpSM_createDescr
}

/// Hands out a descriptor of arrays.
fn describes(out: &Out<u64>, addresses: &[u64]) -> u32 {
    let descriptor = super::handle::new();
    arrays::set(descriptor, addresses);
    if out.set(descriptor).is_ok() { 0 } else { INVALID_VALUE }
}

/// Makes functions a line that hand out a descriptor: arguments of which the last are arrays.
macro_rules! describes {
    ($($name:ident($($size:ident)*; $($array:ident)*))*) => {
        answers! {
            $(
                $name(out: Out<u64> $(, $size: u64)* $(, $array: u64)*) -> u32 {
                    describes(&out, &[$($array),*])
                }
            )*
        }
    };
}

describes! {
    cusparseCreateCsr(_rows _columns _count; offsets columns values)
    cusparseCreateCsc(_rows _columns _count; offsets rows values)
    cusparseCreateCoo(_rows _columns _count; rows columns values)
    cusparseCreateBsr(_rows _columns _count _block_rows _block_columns; offsets columns values)
    cusparseCreateDnMat(_rows _columns _leading; values)
    cusparseCreateDnVec(_count; values)
    cusparseCreateSpVec(_size _count; indices values)
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
    cusparseCsrSetPointers(offsets columns values)
    cusparseCscSetPointers(offsets rows values)
    cusparseCooSetPointers(rows columns values)
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

//! cuSOLVER: handles, and work areas of the factorizations that PyTorch asks for.
//!
//! A real work area depends on the card and the algorithm. Assumed: as many elements as the matrix
//! has, which is what blocked factorizations take at most.

use super::handle::creates;

creates! { 3;
    cusolverDnCreate cusolverSpCreate cusolverRfCreate cusolverDnCreateParams
    cusolverDnCreateSyevjInfo cusolverDnCreateGesvdjInfo cusolverDnIRSParamsCreate
    cusolverDnIRSInfosCreate cusolverSpCreateCsrqrInfo
}

/// Makes functions that answer how many elements of work area a matrix takes: `rows`, `columns`
/// and the answer are where the header has them.
macro_rules! areas {
    ($($name:ident($($argument:ident: $type:ty),*; $rows:ident, $columns:ident);)*) => {
        super::handle::answers! {
            $(
                $name(_handle: u64 $(, $argument: $type)*, elements: crate::c::Out<i32>) -> u32 {
                    $(let _ = $argument;)*
                    let area = i64::from($rows).saturating_mul(i64::from($columns)).max(1);
                    let Ok(area) = i32::try_from(area) else { return 3 };
                    if elements.set(area).is_ok() { 0 } else { 3 }
                }
            )*
        }
    };
}

areas! {
    cusolverDnSgetrf_bufferSize(m: i32, n: i32, a: u64, lda: i32; m, n);
    cusolverDnDgetrf_bufferSize(m: i32, n: i32, a: u64, lda: i32; m, n);
    cusolverDnCgetrf_bufferSize(m: i32, n: i32, a: u64, lda: i32; m, n);
    cusolverDnZgetrf_bufferSize(m: i32, n: i32, a: u64, lda: i32; m, n);
    cusolverDnSgeqrf_bufferSize(m: i32, n: i32, a: u64, lda: i32; m, n);
    cusolverDnDgeqrf_bufferSize(m: i32, n: i32, a: u64, lda: i32; m, n);
    cusolverDnCgeqrf_bufferSize(m: i32, n: i32, a: u64, lda: i32; m, n);
    cusolverDnZgeqrf_bufferSize(m: i32, n: i32, a: u64, lda: i32; m, n);
    cusolverDnSpotrf_bufferSize(uplo: u32, n: i32, a: u64, lda: i32; n, n);
    cusolverDnDpotrf_bufferSize(uplo: u32, n: i32, a: u64, lda: i32; n, n);
    cusolverDnSorgqr_bufferSize(m: i32, n: i32, k: i32, a: u64, lda: i32, tau: u64; m, n);
    cusolverDnDorgqr_bufferSize(m: i32, n: i32, k: i32, a: u64, lda: i32, tau: u64; m, n);
    cusolverDnSsyevd_bufferSize(jobz: u32, uplo: u32, n: i32, a: u64, lda: i32, w: u64; n, n);
    cusolverDnDsyevd_bufferSize(jobz: u32, uplo: u32, n: i32, a: u64, lda: i32, w: u64; n, n);
    cusolverDnSgesvd_bufferSize(m: i32, n: i32; m, n);
    cusolverDnDgesvd_bufferSize(m: i32, n: i32; m, n);
}

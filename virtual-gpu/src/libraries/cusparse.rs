//! cuSPARSE: handles and descriptors.

use super::handle::creates;

creates! { 3;
    cusparseCreate cusparseCreateMatDescr cusparseCreateCsr cusparseCreateCsc cusparseCreateCoo
    cusparseCreateBsr cusparseCreateDnMat cusparseCreateDnVec cusparseCreateSpVec
    cusparseSpGEMM_createDescr cusparseSpSV_createDescr cusparseSpSM_createDescr
}

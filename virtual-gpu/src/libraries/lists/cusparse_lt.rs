//! cuSPARSELt 0.8.

use crate::unanswered::unanswered;

unanswered! {
    10;
    cusparseLtDenseDescriptorInit cusparseLtDestroy cusparseLtGetProperty cusparseLtGetVersion
    cusparseLtInit cusparseLtMatDescGetAttribute cusparseLtMatDescSetAttribute
    cusparseLtMatDescriptorDestroy cusparseLtMatmul cusparseLtMatmulAlgGetAttribute
    cusparseLtMatmulAlgSelectionDestroy cusparseLtMatmulAlgSelectionInit
    cusparseLtMatmulAlgSetAttribute cusparseLtMatmulDescGetAttribute
    cusparseLtMatmulDescSetAttribute cusparseLtMatmulDescriptorInit cusparseLtMatmulGetWorkspace
    cusparseLtMatmulPlanDestroy cusparseLtMatmulPlanInit cusparseLtMatmulSearch
    cusparseLtSpMMACompress cusparseLtSpMMACompress2 cusparseLtSpMMACompressedSize
    cusparseLtSpMMACompressedSize2 cusparseLtSpMMAPrune cusparseLtSpMMAPrune2
    cusparseLtSpMMAPruneCheck cusparseLtSpMMAPruneCheck2 cusparseLtStructuredDescriptorInit
}

//! NVRTC (12.8 and 13.2).

use crate::unanswered::unanswered;

unanswered! {
    11;
    nvrtcGetLTOIR nvrtcGetLTOIRSize nvrtcGetNVVM nvrtcGetNVVMSize nvrtcGetNumSupportedArchs
    nvrtcGetOptiXIR nvrtcGetOptiXIRSize nvrtcGetPCHCreateStatus nvrtcGetPCHHeapSize
    nvrtcGetPCHHeapSizeRequired nvrtcGetSupportedArchs nvrtcGetTileIR nvrtcGetTileIRSize
    nvrtcSetFlowCallback nvrtcSetPCHHeapSize
}

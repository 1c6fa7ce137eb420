//! cuFFT (11.3 and 12.2).

use crate::unanswered::{device_work, settings, unanswered};

settings! {
    cufftDestroy cufftSetPlanPropertyInt64 cufftSetStream cufftSetWorkArea cufftXtSetCallback
    cufftXtSetCallbackSharedSize cufftXtSetGPUs cufftXtSetJITCallback cufftXtSetWorkArea
    cufftXtSetWorkAreaPolicy
}

device_work! {
    cufftExecC2C cufftExecC2R cufftExecD2Z cufftExecR2C cufftExecZ2D cufftExecZ2Z cufftXtExec
    cufftXtExecDescriptor cufftXtExecDescriptorC2C cufftXtExecDescriptorC2R
    cufftXtExecDescriptorD2Z cufftXtExecDescriptorR2C cufftXtExecDescriptorZ2D
    cufftXtExecDescriptorZ2Z
}

unanswered! {
    16;
    cufftDebug cufftDescriptionCreate cufftDescriptionGetTraitInt64 cufftDescriptionSetTraitInt64
    cufftDeviceCreate cufftDeviceDestroy cufftDeviceGetDatabaseStr cufftDeviceGetDatabaseStrSize
    cufftDeviceGetDeviceFunctionTraitInt64 cufftDeviceGetDeviceFunctions cufftDeviceGetLTOIRSizes
    cufftDeviceGetLTOIRs cufftDeviceGetNumDeviceFunctions cufftDeviceGetNumLTOIRs
    cufftDeviceGetSemanticVersion cufftDeviceGetVersion cufftDeviceIsSupported cufftEstimate1d
    cufftEstimate2d cufftEstimate3d cufftEstimateMany cufftGetPlanPropertyInt64 cufftGetProperty
    cufftGetSize cufftGetSize1d cufftGetSize2d cufftGetSize3d cufftGetSizeMany cufftGetSizeMany64
    cufftGetVersion cufftMakePlan1d cufftMakePlan2d cufftMakePlan3d cufftMakePlanMany
    cufftMakePlanMany64 cufftPlan1d cufftPlan2d cufftPlan3d cufftPlanMany cufftResetPlanProperty
    cufftXtClearCallback cufftXtFree cufftXtGetSizeMany cufftXtMakePlanGuru64 cufftXtMalloc
    cufftXtMemcpy cufftXtQueryPlan
}

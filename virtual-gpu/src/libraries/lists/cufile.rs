//! cuFile: reads and writes of device memory by the disk. Its status is a structure of two numbers, of which the first comes back: 5,002 is "driver is not supported".

use crate::unanswered::unanswered;

unanswered! {
    5002;
    cuFileBatchIOCancel cuFileBatchIODestroy cuFileBatchIOGetStatus cuFileBatchIOSetUp
    cuFileBatchIOSubmit cuFileBufDeregister cuFileBufRegister cuFileCopyGpu
    cuFileCopyGpuPosixIORetry cuFileCopyGpuWrap cuFileCopyGpuWrapPosixIORetry cuFileDriverClose
    cuFileDriverClose_v2 cuFileDriverGetP2PFlags cuFileDriverGetProperties cuFileDriverOpen
    cuFileDriverSetMaxCacheSize cuFileDriverSetMaxDirectIOSize cuFileDriverSetMaxPinnedMemSize
    cuFileDriverSetP2PFlags cuFileDriverSetPollMode cuFileExportPCIeTopology cuFileGetBARSizeInKB
    cuFileGetParameterBool cuFileGetParameterGpuBounceBufferSlabArray
    cuFileGetParameterMinMaxValue cuFileGetParameterPosixPoolSlabArray cuFileGetParameterSizeT
    cuFileGetParameterString cuFileGetStatsL1 cuFileGetStatsL2 cuFileGetStatsL3
    cuFileGetStatsLevel cuFileGetVersion cuFileGpuWaitValue32 cuFileHandleDeregister
    cuFileHandleRegister cuFileInlineGpu cuFileRead cuFileReadAsync cuFileSetParameterBool
    cuFileSetParameterGpuBounceBufferSlabArray cuFileSetParameterPosixPoolSlabArray
    cuFileSetParameterSizeT cuFileSetParameterString cuFileSetStatsLevel cuFileSparseGpu
    cuFileStatsReset cuFileStatsStart cuFileStatsStop cuFileStreamDeregister
    cuFileStreamHandleInline cuFileStreamHandleSparse cuFileStreamRegister cuFileStreamWaitValue32
    cuFileUseCount cuFileWrite cuFileWriteAsync
}

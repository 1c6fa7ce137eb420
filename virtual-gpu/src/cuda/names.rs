//! Names of the driver that programs look up and that are not answered: 801.

use crate::unanswered::unanswered;

unanswered! {
    801;
    cuCoredumpSetAttribute cuCoredumpSetAttributeGlobal cuCtxFromGreenCtx
    cuDevResourceGenerateDesc cuDevSmResourceSplitByCount cuDeviceGetDevResource
    cuDeviceSetMemPool cuGraphDestroy cuGraphExecDestroy cuGraphInstantiateWithFlags cuGraphLaunch
    cuGreenCtxCreate cuGreenCtxDestroy cuGreenCtxStreamCreate cuIpcCloseMemHandle
    cuIpcGetMemHandle cuIpcOpenMemHandle_v2 cuLinkAddData_v2 cuLinkComplete cuLinkCreate_v2
    cuLinkDestroy cuMemAdvise cuMemAllocFromPoolAsync cuMemAllocManaged
    cuMemExportToShareableHandle cuMemGetAllocationPropertiesFromHandle cuMemHostRegister_v2
    cuMemHostUnregister cuMemImportFromShareableHandle cuMemPoolCreate cuMemPoolDestroy
    cuMemPoolSetAccess cuMemPrefetchAsync cuMemRetainAllocationHandle cuMemcpy2DAsync_v2
    cuMemcpy2D_v2 cuMemcpy3DAsync_v2 cuMemcpy3D_v2 cuMulticastAddDevice cuMulticastBindAddr
    cuMulticastBindMem cuMulticastCreate cuMulticastGetGranularity cuMulticastUnbind
    cuPointerGetAttributes cuStreamBatchMemOp_v2 cuStreamBeginCapture_v2 cuStreamEndCapture
    cuStreamGetCtx cuStreamWaitValue32_v2
}

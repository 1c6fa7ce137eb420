//! The rest of NCCL's names (2.27 and 2.30): 5 is "invalid usage".

use crate::unanswered::unanswered;

unanswered! {
    5;
    ncclCommGetUniqueId ncclCommGrow ncclCommMemStats ncclCommQueryProperties ncclCommResume
    ncclCommRevoke ncclCommShrink ncclCommSuspend ncclCommWindowDeregister ncclCommWindowRegister
    ncclDevCommCreate ncclDevCommDestroy ncclGetLsaDevicePointer ncclGetLsaMultimemDevicePointer
    ncclGetMultimemDevicePointer ncclGetPeerDevicePointer ncclGinBarrierCreateRequirement
    ncclGinInboxA2ACreateRequirement ncclGinOutboxCreateRequirement ncclLLA2ACalcSlots
    ncclLLA2ACreateRequirement ncclLsaBarrierCreateRequirement ncclPutSignal ncclResetDebugInit
    ncclResetDebugInitInternal ncclSignal ncclTeamLsa ncclTeamRail ncclTeamRankToLsa
    ncclTeamRankToWorld ncclTeamWorld ncclWaitSignal ncclWinGetUserPtr
}

//! cuRAND 10.3.

use crate::unanswered::{device_work, unanswered};

device_work! {
    curandDestroyDistribution curandDestroyGenerator curandGenerate curandGenerateLogNormal
    curandGenerateLogNormalDouble curandGenerateLongLong curandGenerateNormal
    curandGenerateNormalDouble curandGeneratePoisson curandGeneratePoissonMethod
    curandGenerateSeeds curandGenerateUniform curandGenerateUniformDouble curandSetGeneratorOffset
    curandSetGeneratorOrdering curandSetPseudoRandomGeneratorSeed
    curandSetQuasiRandomGeneratorDimensions curandSetStream
}

unanswered! {
    201;
    curandCreatePoissonDistribution curandGetDirectionVectors32 curandGetDirectionVectors64
    curandGetProperty curandGetScrambleConstants32 curandGetScrambleConstants64 curandGetVersion
}

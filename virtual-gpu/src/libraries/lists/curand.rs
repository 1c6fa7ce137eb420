//! cuRAND 10.3.

use crate::unanswered::{device_work, settings, unanswered};

settings! {
    curandDestroyDistribution curandDestroyGenerator curandSetGeneratorOffset
    curandSetGeneratorOrdering curandSetPseudoRandomGeneratorSeed
    curandSetQuasiRandomGeneratorDimensions curandSetStream
}

device_work! {
    curandGenerate curandGenerateLogNormal curandGenerateLogNormalDouble curandGenerateLongLong
    curandGenerateNormal curandGenerateNormalDouble curandGeneratePoisson
    curandGeneratePoissonMethod curandGenerateSeeds curandGenerateUniform
    curandGenerateUniformDouble
}

unanswered! {
    201;
    curandCreatePoissonDistribution curandGetDirectionVectors32 curandGetDirectionVectors64
    curandGetProperty curandGetScrambleConstants32 curandGetScrambleConstants64 curandGetVersion
}

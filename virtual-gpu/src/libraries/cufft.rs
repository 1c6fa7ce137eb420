//! cuFFT: plans are handles, and their work areas are assumed to be as large as what they work on.

use super::handle::answers;
use crate::c::{In, Out};

/// `CUFFT_INVALID_VALUE`
const INVALID_VALUE: u32 = 4;
/// The largest element: two numbers of double precision.
const ELEMENT: i64 = 16;

answers! {
    cufftCreate(plan: Out<i32>) -> u32 {
        let number = super::handle::new() as i32;
        if plan.set(number).is_ok() { 0 } else { INVALID_VALUE }
    }
    cufftSetAutoAllocation(_plan: i32, _auto: i32) -> u32 { 0 }
    cufftXtMakePlanMany(
        _plan: i32, rank: i32, sides: In<i64>, _in_sides: u64, _in_stride: i64, _in_distance: i64,
        _in_type: u32, _out_sides: u64, _out_stride: i64, _out_distance: i64, _out_type: u32,
        batch: i64, bytes: Out<usize>, _compute: u32
    ) -> u32 {
        let sides = (0..rank.max(0) as usize).map(|index| sides.get(index));
        let Ok(sides) = sides.collect::<Result<Vec<i64>, _>>() else {
            return INVALID_VALUE;
        };
        let elements = sides.iter().try_fold(batch.max(1), |all, side| all.checked_mul(*side));
        let Some(area) = elements.and_then(|elements| elements.checked_mul(ELEMENT)) else {
            return INVALID_VALUE;
        };
        if bytes.set(area as usize).is_ok() { 0 } else { INVALID_VALUE }
    }
}

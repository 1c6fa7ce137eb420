//! What follows from what fits: the solver, the capacity, the reasons, the plan. Pure data and
//! arithmetic: knows no device.

pub mod capacity;
pub mod near;
pub mod result;
pub mod solver;
pub mod together;

//! What follows from what fits: the solver, the capacity, the reasons, the plan. Pure data and
//! arithmetic: knows no device.

pub mod advise;
pub mod capacity;
pub mod divisors;
pub mod equation;
pub mod finding;
pub mod learning_rate;
pub mod near;
pub mod result;
pub mod same;
pub mod schedule;
pub mod solver;
pub mod sync;
pub mod together;
pub mod unequal;
pub mod world;

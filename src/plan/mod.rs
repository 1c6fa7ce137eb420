//! What follows from what fits: the solver, the reasons, the plan.

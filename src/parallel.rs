//! Two things at once.

use std::thread;

/// Runs both at the same time, one after the other where there is only one core.
///
/// A panic of either is the caller's.
pub fn both<A, B: Send>(first: impl FnOnce() -> A, second: impl FnOnce() -> B + Send) -> (A, B) {
    if thread::available_parallelism().map_or(1, |cores| cores.get()) < 2 {
        return (first(), second());
    }
    thread::scope(|scope| {
        let second = scope.spawn(second);
        let first = first();
        match second.join() {
            Ok(second) => (first, second),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_run() {
        assert_eq!(both(|| 1, || "two"), (1, "two"));
    }

    #[test]
    #[should_panic(expected = "second")]
    fn a_panic_is_passed_on() {
        both(|| 1, || -> u32 { panic!("second") });
    }
}

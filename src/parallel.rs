//! Several things at once.

use std::sync::atomic::{AtomicUsize, Ordering};
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

/// Does the same with each thing, on all cores, and returns what came of them, in their order.
///
/// A panic of any is the caller's.
pub fn each<T: Sync, R: Send>(things: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
    if cores.min(things.len()) < 2 {
        return things.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let some = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(thing) = things.get(at) else { return done };
            done.push((at, work(thing)));
        }
    };
    let mut all = thread::scope(|scope| {
        let others: Vec<_> = (1..cores.min(things.len())).map(|_| scope.spawn(some)).collect();
        let mut all = some();
        for other in others {
            match other.join() {
                Ok(done) => all.extend(done),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    all.sort_by_key(|&(at, _)| at);
    all.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_of_each_is_in_order() {
        let squares: Vec<usize> = (0..1000).map(|n| n * n).collect();
        assert_eq!(each(&(0..1000).collect::<Vec<usize>>(), |n| n * n), squares);
        assert!(each(&[] as &[usize], |n| n * n).is_empty());
    }

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

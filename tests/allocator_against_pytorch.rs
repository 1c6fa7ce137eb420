//! The replay against stock PyTorch's own allocator statistics, to the byte.
mod allocator_traces;
use oomph::memory::allocator::*;
#[test]
fn explore() {
    for case in allocator_traces::all() {
        let (r, _) = oomph::memory::fit::replay_on(&case.trace, Capacity::unlimited());
        println!(
            "{} events {} blocks: {} {} {} | {} {} {}",
            case.name,
            case.trace.events.len(),
            r.peak_allocated.get(),
            r.peak_reserved.get(),
            r.segments_granted,
            case.peak_allocated.get(),
            case.peak_reserved.get(),
            case.device_allocs
        );
        for run in &case.runs {
            let (r, _) = oomph::memory::fit::replay_on(&case.trace, Capacity::new(run.capacity));
            println!(
                "   {} {} {} {} {} {} {:?}|{} {} {} {} {} {}",
                run.capacity.get() >> 20,
                r.ran(),
                r.peak_allocated.get(),
                r.peak_reserved.get(),
                r.retries,
                r.segments_granted,
                r.outcome,
                run.ran,
                run.peak_allocated.get(),
                run.peak_reserved.get(),
                run.retries,
                run.device_allocs,
                run.allocations
            );
        }
        let t = std::time::Instant::now();
        for _ in 0..20 {
            oomph::memory::fit::replay_on(&case.trace, Capacity::unlimited());
        }
        let one = t.elapsed() / 20;
        let t = std::time::Instant::now();
        let m = oomph::memory::fit::min_capacity(&case.trace).unwrap();
        println!(
            "   replay {:?} min capacity {} after {} in {:?} = {}x",
            one,
            m.0.get(),
            m.1,
            t.elapsed(),
            t.elapsed().as_nanos() / one.as_nanos()
        );
    }
}

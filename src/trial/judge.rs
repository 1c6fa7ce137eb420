//! The verdict on a run: did it run, did the GPU's memory run out, or was it something else?

use crate::trial::launch::{Ended, How, Seen};
use crate::trial::messages::Memory;
use crate::trial::outcome::{Ending, ProcessPeak, Verdict};
use crate::trial::reports::Report;

/// Characters of a message that are quoted: PyTorch's has 700, the first two sentences say it.
const LONGEST: usize = 110;

/// A verdict and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// The verdict.
    pub verdict: Verdict,
    /// Why, in words.
    pub reason: String,
    /// What to keep in mind about it.
    pub warnings: Vec<String>,
    /// Whether the GPU's memory ran out on the way and the command went on.
    pub met_out_of_memory: bool,
}

/// Judges a run by how it ended, what it printed, what its processes reported, and what the device
/// refused them.
pub fn judge(ended: &Ended, reports: &[Report], processes: &[ProcessPeak]) -> Judged {
    let seen = &ended.seen;
    let ooms: u64 = reports.iter().map(Report::ooms).sum();
    let judged = |verdict, reason: String| Judged {
        verdict,
        reason,
        warnings: Vec::new(),
        met_out_of_memory: false,
    };
    let ran = match (ended.how, ended.ending) {
        (How::UntilSeen, _) => {
            Some(format!("printed `{}`, then ended", seen.until.as_deref().unwrap_or_default()))
        }
        (_, Some(Ending::Exit(0))) => Some("ended with exit code 0".to_owned()),
        _ => None,
    };
    if let Some(reason) = ran {
        let met = went_on(seen, reports, processes);
        let warning = match &met {
            Some(how) => Some(format!(
                "{how} and went on: what it then did may be less than it was asked for"
            )),
            None => mentioned(seen, ooms),
        };
        let met_out_of_memory = met.is_some();
        let warnings = warning.into_iter().chain(unmatched(seen)).collect();
        return Judged { warnings, met_out_of_memory, ..judged(Verdict::Ran, reason) };
    }
    let died = how_it_died(ended);
    if let Some(why) = out_of_memory(ended, reports) {
        let refused = refused(reports, processes).map_or(String::new(), |it| format!("; {it}"));
        return judged(Verdict::OutOfMemory, format!("{why}{refused}; {died}"));
    }
    if aborted_after_its_end(ended, reports, processes) {
        let warning = format!(
            "after the program's end a thread of PyTorch's aborted the process (`{TERMINATE}`; \
             pytorch/pytorch issue 38228): its exit code is not known, and taken for 0"
        );
        let reason = "came to its end, and was then aborted by PyTorch".to_owned();
        return Judged { warnings: vec![warning], ..judged(Verdict::Ran, reason) };
    }
    if ended.how == How::TimedOut {
        let warnings = unmatched(seen).into_iter().collect();
        let reason = "time was up before it ended".to_owned();
        return Judged { warnings, ..judged(Verdict::TimedOut, reason) };
    }
    let host = seen.messages.iter().find(|said| said.message.memory == Memory::Host);
    let killed = ended.ending.map(Ending::code) == Some(128 + 9);
    let child = seen.messages.iter().find(|said| said.message.memory == Memory::Killed);
    match host {
        Some(said) => judged(
            Verdict::Failed,
            format!(
                "the machine's own memory ran out, not the GPU's: `{}`; {died}",
                shortened(&said.line)
            ),
        ),
        None if killed => judged(Verdict::Failed, format!("{died}: {}", killer(ended.oom_kills))),
        None => match child {
            Some(said) => judged(
                Verdict::Failed,
                format!(
                    "a process of it was killed: {}: `{}`; {died}",
                    killer(ended.oom_kills),
                    shortened(said.line.trim())
                ),
            ),
            None => {
                let raised = raised(reports).map_or(String::new(), |it| format!("{it}; "));
                judged(Verdict::Failed, format!("{raised}{died}"))
            }
        },
    }
}

/// What launchers raise when a process of theirs has ended, which says why: torchrun's,
/// `torch.multiprocessing`'s, accelerate's and DeepSpeed's (`subprocess`).
const OF_ANOTHERS_END: [&str; 4] =
    ["ChildFailedError", "ProcessExitedException", "ProcessRaisedException", "CalledProcessError"];

/// Says what a process of the command ended with that nobody caught, a rank's first.
fn raised(reports: &[Report]) -> Option<String> {
    let raised = reports.iter().filter_map(|report| {
        let exception = report.exception.as_ref()?;
        let name = exception.types.first()?.rsplit('.').next()?;
        (!OF_ANOTHERS_END.contains(&name)).then_some((report, name, &exception.text))
    });
    let (report, name, text) =
        raised.min_by_key(|(report, ..)| (report.rank.is_none(), report.rank, report.pid))?;
    let who = match report.rank {
        Some(rank) => format!("rank {rank}"),
        None => format!("process {}", report.pid),
    };
    Some(format!("{who} raised `{}`", shortened(&format!("{name}: {text}"))))
}

/// What the C++ library prints before it aborts a process whose thread was ended within a function
/// that lets nothing through (libstdc++, `__verbose_terminate_handler`).
const TERMINATE: &str = "terminate called without an active exception";

/// Whether PyTorch aborted a program that had come to its end.
///
/// A thread of autograd's that lets go of the last tensors needs Python's lock; where Python is at
/// its end, asking for it ends the thread (before Python 3.14), within a destructor. On a loaded
/// machine that happens now and then, under any driver (seen in a backtrace, torch 2.15).
fn aborted_after_its_end(ended: &Ended, reports: &[Report], processes: &[ProcessPeak]) -> bool {
    const ABORTED: i32 = 128 + 6;
    let in_order = |process: &ProcessPeak| {
        reports.iter().any(|report| report.pid == process.pid && report.ended_in_order())
    };
    ended.ending.map(Ending::code) == Some(ABORTED)
        && ended.seen.tail.iter().any(|line| line.contains(TERMINATE))
        && !processes.is_empty()
        && processes.iter().all(in_order)
}

/// Says who sends SIGKILL, as far as the kernel's count of such kills meanwhile tells.
fn killer(oom_kills: Option<u64>) -> String {
    match oom_kills {
        Some(0) => "not by oomph, nor by the kernel for want of memory, which counted none: a \
                    limit of the job's, or somebody else"
            .to_owned(),
        Some(_) => "by the kernel, it seems, which killed for want of the machine's own memory \
                    meanwhile: that is not the GPU's"
            .to_owned(),
        None => "not by oomph; the kernel does so when the machine's memory runs out".to_owned(),
    }
}

/// What makes it out of memory, or nothing.
fn out_of_memory(ended: &Ended, reports: &[Report]) -> Option<String> {
    let uncaught = reports.iter().find(|report| report.ended_out_of_memory());
    let said = ended.seen.messages.iter().find(|said| said.message.memory == Memory::Device);
    if let Some(said) = said.filter(|_| uncaught.is_some()) {
        return Some(format!("printed `{}`", shortened(&said.line)));
    }
    if let Some(report) = uncaught {
        let text = report.exception.as_ref().map_or("", |exception| exception.text.as_str());
        return Some(format!("process {} raised `{}`", report.pid, shortened(text)));
    }
    // Printed, but whoever printed it went on: time that is up then says nothing.
    if ended.how == How::TimedOut {
        return None;
    }
    // A process that caught it and then ended with another exception failed of that one.
    let mut met = reports.iter().filter(|report| report.raised() > 0).peekable();
    let caught = met.peek().is_some() && met.all(|report| report.exception.is_some());
    if caught {
        return None;
    }
    match said {
        Some(said) => Some(format!("printed `{}`", shortened(&said.line))),
        None if reports.iter().any(|report| report.raised() > 0) => {
            Some("PyTorch raised an out-of-memory error".to_owned())
        }
        None => None,
    }
}

/// What the device refused last, to the process that ended of it where that is known.
///
/// Nothing where the device refused nothing: PyTorch has limits of its own
/// (`set_per_process_memory_fraction`).
fn refused(reports: &[Report], processes: &[ProcessPeak]) -> Option<String> {
    let ended_of_it =
        |pid: u32| reports.iter().any(|report| report.pid == pid && report.ended_out_of_memory());
    let refused = processes.iter().filter_map(|process| Some((process, process.refused?)));
    let (process, refused) = refused
        .max_by_key(|(process, refused)| (ended_of_it(process.pid), refused.wanted_bytes))?;
    Some(format!(
        "GPU {} refused it {}, with {} left",
        process.gpu, refused.wanted_bytes, refused.left_bytes
    ))
}

/// How the GPU's memory ran out for a command that went on all the same; nothing where it did not.
///
/// What PyTorch gives back and asks for again is not meant, nor a workspace that cuDNN does without:
/// neither reaches the program. Where every allocation is written down (`processes`), one that was
/// refused and counted was the program's own, as convolutions ask for no workspace there.
fn went_on(seen: &Seen, reports: &[Report], processes: &[ProcessPeak]) -> Option<String> {
    let said = seen.messages.iter().find(|said| said.message.memory == Memory::Device);
    let refused = || processes.iter().filter(|process| process.refused.is_some());
    let ooms: u64 = reports.iter().map(Report::ooms).sum();
    let raised: u64 = reports.iter().map(Report::raised).sum();
    let times =
        if said.is_some() || refused().next().is_some() { raised.max(ooms) } else { raised };
    if times > 0 {
        let plural = if times == 1 { "" } else { "s" };
        return Some(format!("it ran out of memory {times} time{plural}"));
    }
    // Of whoever does not count, the words decide.
    let counted = |pid: u32| reports.iter().any(|report| report.pid == pid && report.is_counted());
    let silent = match processes {
        [] => !reports.iter().any(Report::is_counted),
        _ => refused().any(|process| !counted(process.pid)),
    };
    said.filter(|_| silent).map(|said| format!("it printed `{}`", shortened(&said.line)))
}

/// What to say of a run that `--until` was to end and did not.
fn unmatched(seen: &Seen) -> Option<String> {
    let until = seen.unmatched.as_deref()?;
    Some(format!(
        "no line of its output matched --until '{until}', which is looked for in whole lines"
    ))
}

/// What to say of a run in which memory was short, and which did what it was asked for.
fn mentioned(seen: &Seen, ooms: u64) -> Option<String> {
    let said = seen.messages.iter().find(|said| said.message.memory == Memory::Device);
    match (ooms, said) {
        (0, None) => None,
        (0, Some(said)) => {
            Some(format!("it printed `{}`, and was refused no memory", shortened(&said.line)))
        }
        (n, _) => Some(format!(
            "PyTorch found no memory {n} time(s) and did without (cuDNN's workspaces): a faster \
             algorithm may have had no room"
        )),
    }
}

fn how_it_died(ended: &Ended) -> String {
    match ended.ending {
        Some(Ending::Exit(code)) => format!("ended with exit code {code}"),
        Some(Ending::Signal(signal)) => format!("ended by {}", signal_name(signal)),
        None => "its guard process was killed".to_owned(),
    }
}

/// Returns a signal's name: `SIGSEGV`.
pub fn signal_name(signal: i32) -> String {
    signal_hook::low_level::signal_name(signal)
        .map_or_else(|| format!("signal {signal}"), ToOwned::to_owned)
}

/// Shortens what was printed to its first line, and that to what a person reads.
fn shortened(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{} ...", line[..at].trim_end()),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::trial::launch::Said;
    use crate::trial::messages;
    use crate::trial::outcome::Refused;
    use crate::trial::reports::{Device, Exception};
    use crate::units::Bytes;

    const OOM: &str = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 MiB.";

    fn ended(how: How, ending: Ending, lines: &[&str]) -> Ended {
        let said = |line: &&str| {
            Some(Said { message: messages::find(line.as_bytes())?, line: (*line).to_owned() })
        };
        let messages = lines.iter().filter_map(said).collect();
        let seen = Seen { messages, ..Seen::default() };
        let elapsed = Duration::ZERO;
        Ended { how, ending: Some(ending), elapsed, seen, oom_kills: None }
    }

    fn report(ooms: u64, exception: Option<&str>) -> Report {
        Report {
            pid: 7,
            devices: Some(vec![Device { ooms, ..Device::default() }]),
            exception: exception
                .map(|name| Exception { types: vec![name.to_owned()], text: String::new() }),
            ..Report::default()
        }
    }

    fn a_process() -> ProcessPeak {
        ProcessPeak {
            pid: 7,
            rank: None,
            gpu: 0,
            peak_device_bytes: Bytes::ZERO,
            peak_allocated_bytes: None,
            peak_reserved_bytes: None,
            allocation_retries: None,
            refused: None,
        }
    }

    fn verdict(ended: &Ended, reports: &[Report]) -> Verdict {
        judge(ended, reports, &[]).verdict
    }

    #[test]
    fn exit_0_ran_even_when_memory_ran_out_on_the_way_with_a_warning() {
        let judged = judge(&ended(How::ByItself, Ending::Exit(0), &[OOM]), &[report(2, None)], &[]);
        assert_eq!(judged.verdict, Verdict::Ran);
        assert!(judged.warnings[0].contains("2 times"), "{:?}", judged.warnings);
        let plain = judge(&ended(How::ByItself, Ending::Exit(0), &[]), &[report(0, None)], &[]);
        assert_eq!(plain.warnings, Vec::<String>::new());
    }

    #[test]
    fn a_run_met_out_of_memory_where_the_error_reached_the_program() {
        let met = |lines: &[&str], report: Report, refused: bool| {
            let refused = refused.then_some(Refused {
                times: 1,
                wanted_bytes: Bytes::mib(20),
                left_bytes: Bytes::mib(6),
            });
            let processes = [ProcessPeak { refused, ..a_process() }];
            let processes = if refused.is_some() { &processes[..] } else { &[] };
            let ended = ended(How::UntilSeen, Ending::Signal(15), lines);
            judge(&ended, &[report], processes).met_out_of_memory
        };
        let raised = |raised, ooms| Report { raised: Some(raised), ..report(ooms, None) };
        assert!(met(&[], raised(2, 2), false));
        assert!(met(&[], report(1, None), false), "its own count, where the error was not seen");
        // cuDNN's workspaces, on a card; on a simulated GPU there are none.
        assert!(!met(&[], raised(0, 3), false));
        assert!(met(&[], raised(0, 3), true) && met(&[OOM], raised(0, 3), false));
        // Memory that PyTorch gave back before it asked again, and a program that only talks.
        assert!(!met(&[], raised(0, 0), true) && !met(&[OOM], raised(0, 0), true));
        let other = Report { pid: 7, ..Report::default() };
        assert!(met(&[OOM], other.clone(), true) && met(&[OOM], other.clone(), false));
        assert!(!met(&[], other, true), "a neighbour's own retry");
    }

    #[test]
    fn what_is_printed_or_raised_makes_it_out_of_memory() {
        let failed = |lines: &[&str]| ended(How::ByItself, Ending::Exit(1), lines);
        assert_eq!(verdict(&failed(&[OOM]), &[]), Verdict::OutOfMemory);
        assert_eq!(verdict(&failed(&[]), &[report(1, None)]), Verdict::OutOfMemory);
        let raised = report(1, Some("torch.OutOfMemoryError"));
        assert_eq!(verdict(&failed(&[]), &[raised]), Verdict::OutOfMemory);
        assert_eq!(verdict(&failed(&["ValueError: x"]), &[]), Verdict::Failed);
    }

    #[test]
    fn the_verdict_says_what_was_refused_to_the_process_that_ended_of_it() {
        let process = |pid, wanted: u64| ProcessPeak {
            pid,
            gpu: pid,
            refused: (wanted > 0).then_some(Refused {
                times: 2,
                wanted_bytes: Bytes::mib(wanted),
                left_bytes: Bytes::mib(6),
            }),
            ..a_process()
        };
        let ended = ended(How::ByItself, Ending::Exit(1), &[OOM]);
        let processes = [process(7, 20), process(8, 512), process(9, 0)];
        let raised = report(1, Some("torch.OutOfMemoryError"));
        let of_seven = judge(&ended, &[raised], &processes).reason;
        assert!(
            of_seven.contains("; GPU 7 refused it 20.0 MiB, with 6.0 MiB left; ended"),
            "{of_seven}"
        );
        let unknown = judge(&ended, &[], &processes).reason;
        assert!(unknown.contains("GPU 8 refused it 512.0 MiB"), "{unknown}");
        assert!(!judge(&ended, &[], &processes[2..]).reason.contains("refused"));
    }

    #[test]
    fn an_abort_of_pytorchs_after_the_programs_end_is_no_failure() {
        let mut aborted = ended(How::ByItself, Ending::Signal(6), &[]);
        aborted.seen.tail.push_back(TERMINATE.to_owned());
        let in_order = Report { at_exit: true, ..report(0, None) };
        let of = |pid| ProcessPeak { pid, ..a_process() };
        let judged = judge(&aborted, std::slice::from_ref(&in_order), &[of(7)]);
        assert_eq!(judged.verdict, Verdict::Ran);
        assert!(judged.warnings[0].contains("38228"), "{:?}", judged.warnings);
        // One that was in the middle of its work, one that failed, and one of two.
        for (report, processes) in [
            (report(0, None), vec![of(7)]),
            (Report { at_exit: true, ..report(0, Some("builtins.ValueError")) }, vec![of(7)]),
            (in_order.clone(), vec![of(7), of(8)]),
            (in_order.clone(), vec![]),
        ] {
            let judged = judge(&aborted, &[report], &processes);
            assert_eq!(judged.verdict, Verdict::Failed, "{judged:?}");
        }
        let other = ended(How::ByItself, Ending::Signal(6), &[]);
        assert_eq!(judge(&other, &[in_order], &[of(7)]).verdict, Verdict::Failed);
    }

    #[test]
    fn caught_and_then_failed_otherwise_is_a_failure() {
        let failed = ended(How::ByItself, Ending::Exit(1), &[OOM]);
        let other = report(1, Some("builtins.ValueError"));
        assert_eq!(verdict(&failed, std::slice::from_ref(&other)), Verdict::Failed);
        // Of two ranks, one raised it and the other lost its peer.
        let raised = report(1, Some("torch.OutOfMemoryError"));
        assert_eq!(verdict(&failed, &[other, raised]), Verdict::OutOfMemory);
    }

    #[test]
    fn a_time_out_is_no_verdict_unless_a_process_died_of_it() {
        let ended = ended(How::TimedOut, Ending::Signal(15), &[OOM]);
        assert_eq!(verdict(&ended, &[]), Verdict::TimedOut);
        let raised = report(1, Some("torch.OutOfMemoryError"));
        assert_eq!(verdict(&ended, &[raised]), Verdict::OutOfMemory);
    }

    #[test]
    fn the_machines_own_memory_is_not_the_gpus() {
        let line = "RuntimeError: DefaultCPUAllocator: can't allocate memory: 1 bytes";
        let judged = judge(&ended(How::ByItself, Ending::Exit(1), &[line]), &[], &[]);
        assert_eq!(judged.verdict, Verdict::Failed);
        assert!(judged.reason.contains("machine's own memory"));
        let killed = judge(&ended(How::ByItself, Ending::Signal(9), &[]), &[], &[]);
        assert!(killed.reason.contains("SIGKILL") && killed.reason.contains("kernel"));
    }

    #[test]
    fn a_failure_is_told_by_what_the_first_rank_raised_and_not_by_its_launchers_words() {
        let of = |pid: u32, rank: Option<u64>, name: &str, text: &str| {
            let exception = Exception { types: vec![name.to_owned()], text: text.to_owned() };
            Report { pid, rank, exception: Some(exception), ..Report::default() }
        };
        let torchrun = "torch.distributed.elastic.multiprocessing.errors.ChildFailedError";
        let launcher = of(1, None, torchrun, "\n====\ntrain.py FAILED");
        let ranks =
            [of(3, Some(0), "builtins.KeyError", "'labels'\nmore"), of(2, Some(1), "x.Y", "")];
        let failed = ended(How::ByItself, Ending::Exit(1), &[]);
        let reason = |reports: &[Report]| {
            let judged = judge(&failed, reports, &[]);
            assert_eq!(judged.verdict, Verdict::Failed);
            judged.reason
        };
        let [first, second] = ranks;
        assert_eq!(
            reason(&[launcher.clone(), second, first]),
            "rank 0 raised `KeyError: 'labels'`; ended with exit code 1"
        );
        assert_eq!(reason(&[launcher]), "ended with exit code 1");
        assert_eq!(
            reason(&[of(5, None, "builtins.ValueError", "bad")]),
            "process 5 raised `ValueError: bad`; ended with exit code 1"
        );
    }

    #[test]
    fn a_killed_rank_is_told_by_torchruns_words_and_the_kernels_count() {
        let line = "  traceback : Signal 9 (SIGKILL) received by PID 4242";
        let mut torchrun = ended(How::ByItself, Ending::Exit(1), &[line]);
        for (count, words) in [
            (Some(0), "nor by the kernel for want of memory"),
            (Some(1), "by the kernel, it seems"),
            (None, "the kernel does so when"),
        ] {
            torchrun.oom_kills = count;
            let judged = judge(&torchrun, &[], &[]);
            assert_eq!(judged.verdict, Verdict::Failed);
            assert!(judged.reason.starts_with("a process of it was killed: "), "{}", judged.reason);
            assert!(judged.reason.contains(words), "{}", judged.reason);
            assert!(judged.reason.ends_with("by PID 4242`; ended with exit code 1"), "{judged:?}");
        }
        // What the GPU refused comes first.
        let both = ended(How::ByItself, Ending::Exit(1), &[OOM, line]);
        assert_eq!(verdict(&both, &[]), Verdict::OutOfMemory);
    }
}

//! Parts of a test that run in a child process, on a scenario's machine.
//!
//! The child is the test binary again. [`run`] tells it to run the same test; there, every closure
//! but the wanted one is skipped, and the process ends when it is done, so nothing may be asserted
//! about the machine before the last closure. What runs beside other processes is an ignored test
//! of its own, which [`Child::start`] and [`run_part`] call by its name:
//!
//! ```ignore
//! #[test]
//! #[ignore = "a part of processes_share_the_memory, which starts it"]
//! fn part_that_holds_memory() {
//!     if child::is_part() {
//!         support::driver::context(0).expect("a context");
//!         child::hold();
//!     }
//! }
//! ```

use std::cell::Cell;
use std::io::{BufRead, BufReader, Read};
use std::process::{self, ChildStdin, Command, ExitStatus, Stdio};

use std::time::Duration;

use super::Scenario;

/// Says in the child which closure to run, or that it is a part.
const ROLE: &str = "OOMPH_TEST_ROLE";
/// The role of an ignored test.
const PART: &str = "part";
thread_local! {
    /// Closures of this test so far; tests have a thread each.
    static STARTED: Cell<u32> = const { Cell::new(0) };
}

/// What [`hold`] prints.
const READY: &str = "the child is ready";

/// Runs `body` in a child process on `machine`, and fails when it fails.
pub fn run<F: FnOnce()>(machine: &Scenario, body: F) {
    run_with(machine, &[], body);
}

/// As [`run`], with more environment variables.
pub fn run_with<F: FnOnce()>(machine: &Scenario, environment: &[(&str, &str)], body: F) {
    let (status, output) = try_run(machine, environment, body);
    assert!(status.success(), "the child failed:\n{output}");
}

/// As [`run_with`]; returns how the child ended and what it printed.
pub fn try_run<F: FnOnce()>(
    machine: &Scenario,
    environment: &[(&str, &str)],
    body: F,
) -> (ExitStatus, String) {
    let mut command = again::<F>(machine, body);
    command.envs(environment.iter().copied());
    output_of(command)
}

/// Runs an ignored test in a child process on `machine`, and fails when it fails.
pub fn run_part(machine: &Scenario, name: &str) {
    let (status, output) = try_part(machine, name);
    assert!(status.success(), "{name} failed:\n{output}");
}

/// As [`run_part`]; returns how the child ended and what it printed.
pub fn try_part(machine: &Scenario, name: &str) -> (ExitStatus, String) {
    output_of(part(machine, name))
}

/// Within an ignored test: whether [`run_part`] or [`Child::start`] runs it.
pub fn is_part() -> bool {
    std::env::var(ROLE).is_ok_and(|role| role == PART)
}

fn output_of(mut command: Command) -> (ExitStatus, String) {
    let output = command.output().expect("the test binary runs");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    // A skipped closure of a child runs nothing at all, and a test that is not found does not fail.
    let role = std::env::var_os(ROLE);
    assert!(role.is_some() || text.contains("running 1 test"), "{command:?} runs no test");
    (output.status, text)
}

fn part(machine: &Scenario, name: &str) -> Command {
    let mut command = machine.command(std::env::current_exe().expect("has a path"));
    command.args(["--exact", name, "--ignored", "--nocapture"]).env(ROLE, PART);
    command
}

/// An ignored test that goes on in a child process until it is told to end, or killed.
pub struct Child {
    process: process::Child,
    /// Closed to let the child go on.
    input: Option<ChildStdin>,
}

impl Child {
    /// Starts the ignored test of that name and waits until it calls [`hold`].
    pub fn start(machine: &Scenario, name: &str) -> Child {
        let mut process = part(machine, name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the test binary runs");
        let mut output = BufReader::new(process.stdout.take().expect("is piped"));
        let mut text = String::new();
        while !text.contains(READY) {
            let read = output.read_line(&mut text).expect("the child prints text");
            assert!(read > 0, "the child ended before it was ready:\n{text}");
        }
        // Whatever else it prints must not fill the pipe.
        std::thread::spawn(move || output.read_to_end(&mut Vec::new()));
        let input = process.stdin.take();
        Child { process, input }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Kills it (SIGKILL) and returns when it has ended; it stays a zombie until the value drops.
    pub fn kill(&mut self) {
        self.process.kill().expect("it can be killed");
        let stat = format!("/proc/{}/stat", self.pid());
        while std::fs::read_to_string(&stat).is_ok_and(|text| !text.contains(") Z ")) {
            std::thread::yield_now();
        }
    }

    /// Waits until `condition` holds; fails when the child ends before.
    pub fn wait_until(&mut self, condition: impl Fn() -> bool) {
        while !condition() {
            let ended = self.process.try_wait().expect("it can be asked");
            assert!(ended.is_none(), "the child ended early: {ended:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lets it go on after [`hold`], and waits for its end.
    pub fn finish(mut self) -> ExitStatus {
        drop(self.input.take());
        self.process.wait().expect("it ends")
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Within a test of [`Child::start`]: says that it is ready, and waits to be let go.
pub fn hold() {
    println!("\n{READY}");
    // Ends when the other side closes, whether it says so or dies.
    let _ = std::io::stdin().read(&mut [0]);
}

/// In the child: runs `body` if it is the wanted one, and ends. Returns the command otherwise.
fn again<F: FnOnce()>(machine: &Scenario, body: F) -> Command {
    // `binary::the_test::{{closure}}`, the same for each closure of a test: count them too.
    let name = std::any::type_name::<F>();
    let count = STARTED.replace(STARTED.get() + 1);
    let role = format!("{name} {count}");
    match std::env::var(ROLE) {
        Ok(wanted) if wanted == role => {
            body();
            process::exit(0);
        }
        Ok(_) => return Command::new("true"),
        Err(_) => {}
    }
    // Or `binary::helper<binary::the_test::{{closure}}>::{{closure}}`, the test's the last of all.
    let (binary, _) = name.split_once("::").expect("the name of the crate comes first");
    let (_, path) = name.rsplit_once(&format!("{binary}::")).expect("as it was found there");
    let test = path.split("::{{closure}}").next().expect("the first part");
    let mut command = machine.command(std::env::current_exe().expect("has a path"));
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(ROLE, role);
    command
}

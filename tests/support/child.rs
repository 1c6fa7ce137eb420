//! Closures of a test that run in a child process, on a scenario's machine.
//!
//! The child is the test binary again, told to run the same test; there, every closure but the
//! wanted one is skipped, and the process ends when it is done.

use std::cell::Cell;
use std::io::{BufRead, BufReader, Read};
use std::process::{self, ChildStdin, Command, ExitStatus, Stdio};

use super::Scenario;

/// Says in the child which closure to run.
const ROLE: &str = "OOMPH_TEST_ROLE";
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
    let output = command.output().expect("the test binary runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status, String::from_utf8_lossy(&text).into_owned())
}

/// A closure that goes on in a child process until it is told to end, or killed.
pub struct Child {
    process: process::Child,
    /// Closed to let the child go on.
    input: Option<ChildStdin>,
}

impl Child {
    /// Starts `body` and waits until it calls [`hold`].
    pub fn start<F: FnOnce()>(machine: &Scenario, body: F) -> Child {
        let mut command = again::<F>(machine, body);
        let mut process = command
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

    /// Kills it (SIGKILL), and does not wait for it: it is a zombie until the value drops.
    pub fn kill(&mut self) {
        self.process.kill().expect("it can be killed");
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

/// Within a closure of [`Child::start`]: says that it is ready, and waits to be let go.
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
    let (_, path) = name.split_once("::").expect("the name of the crate comes first");
    let test = path.split("::{{closure}}").next().expect("the first part");
    let mut command = machine.command(std::env::current_exe().expect("has a path"));
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(ROLE, role);
    command
}

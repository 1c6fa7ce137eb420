//! The `oomph` binary: hands its arguments to the library and exits with the code it returns.

use std::process::ExitCode;

fn main() -> ExitCode {
    oomph::cli::main()
}

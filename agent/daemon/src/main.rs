//! See [`coracle_daemon::program`].

fn main() -> std::process::ExitCode {
    coracle_daemon::program::main()
}

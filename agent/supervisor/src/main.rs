//! See [`coracle_supervisor::program`].

fn main() -> std::process::ExitCode {
    coracle_supervisor::program::main()
}

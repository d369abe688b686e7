//! Containers on this machine's kernel. Needs root and busybox-static.

mod support;

fn main() -> std::process::ExitCode {
    support::run(&[("a_program_runs_and_its_exit_is_told", runs)])
}

fn runs() {
    let place = support::Place::new();
    let outcome = place.shell("echo pid $$; hostname; exit 7");
    assert_eq!(outcome.output, "pid 1\ntest\n");
    assert_eq!(outcome.exit, coracle_runtime::Exit::Code(7));
}

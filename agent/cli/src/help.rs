//! What `--help` prints, for the program and for each command.

const GENERAL: &str = "\
coracle - what runs on this board, and how to change it

usage: coracle [--socket PATH | --config FILE] COMMAND [--json]

  ps                    apps of the running set
  logs [-f] APP         what an app wrote
  status                board, running set, link to the console
  restart|stop|start APP
  pause|resume APP      let none of its processes run, and let them go on
  kill [-s SIGNAL] APP  send a signal to an app's first process
  exec [-it] APP CMD    a program in a running app
  stats                 memory, CPU and processes of each app
  images                images of the running set
  volume ls             volumes; also inspect, create, rm, prune, backup, restore
  enrol FILE            make this a board of a fleet
  usb apply DIR|IMAGE   install a release from a stick
  update accept         let the release run that waits for somebody's consent
  store check           whether layers and blobs are as they were signed; --repair
  factory-reset --yes   remove apps, releases and logs; the board stays in its fleet
  decommission --yes    take the board out of its fleet: its key goes, and its volumes
  board check           what the kernel lacks, what that costs, how to get it
  board show            which board profile is in force, and why
  board schema          JSON Schema of board profiles
  config check          whether coracle.toml can be used
  config schema         JSON Schema of coracle.toml
  version               of this program and of what runs

  --socket PATH         coracled's socket
  --config FILE         settings that say where it is (default /etc/coracle/coracle.toml)
  --json                for programs: ps, status, stats, images, version, volume ls and inspect,
                        store check, board check, board show
  -h, --help            print this; `coracle COMMAND --help` for one command
  -V, --version         print the version of this program

examples:
  coracle ps
  coracle logs -f --tail 20 web
  coracle usb apply /media/stick

exit codes: 0 ok; 1 failed; 2 wrong usage; 3 refused (signatures, counters, budget);
            4 coracled cannot be reached
";

const PS: &str = "\
usage: coracle ps [--json]

Apps of the running set. With --json an array; each element is what the daemon reports of one app.

examples:
  coracle ps
  coracle ps --json | jq -r '.[] | select(.healthy == false) | .name'

exit codes: 0 ok; 1 failed; 2 wrong usage; 4 coracled cannot be reached
";

const LOGS: &str = "\
usage: coracle logs [-f] [--tail N|all] [-t] APP

What an app wrote: its standard output here on standard output, its standard error on standard
error.

  -f, --follow      go on as the app writes
  -n, --tail N      only the last N lines
  -t, --timestamps  each line begins with its time

examples:
  coracle logs web
  coracle logs -f --tail 20 web
  coracle logs web 2>/dev/null

exit codes: 0 ok; 1 failed, such as no such app; 2 wrong usage; 4 coracled cannot be reached
";

const STATUS: &str = "\
usage: coracle status [--json]

The board, the running set, the set before it, the last deployment that failed, and the link to the
console.

examples:
  coracle status
  coracle status --json | jq .link.connected

exit codes: 0 ok; 1 failed, or the supervisor does not run; 2 wrong usage;
            4 coracled cannot be reached
";

const CONTROL: &str = "\
usage: coracle restart|stop|start APP

A stopped app stays stopped until it is started, or until the next set is installed.

examples:
  coracle restart web
  coracle stop web && coracle start web

exit codes: 0 ok; 1 failed, such as no such app; 2 wrong usage; 3 refused;
            4 coracled cannot be reached
";

const PAUSE: &str = "\
usage: coracle pause|resume APP

pause    none of its processes runs any more; it keeps its memory, its network and its ports, and
         nobody asks for its health. It stays so until it is resumed, stopped or restarted, until
         the next set is installed, or until the board starts again
resume   they go on where they were; `unpause` is the same

examples:
  coracle pause web
  coracle resume web

exit codes: 0 ok; 1 failed, such as it does not run or a deployment is under way; 2 wrong usage;
            3 refused; 4 coracled cannot be reached
";

const KILL: &str = "\
usage: coracle kill [-s SIGNAL] APP

Sends a signal to the app's first process. Without -s that is SIGKILL: all of the app is gone, at
once, and stays so until it is started. So it does once it ends of the signal by which it is stopped
(SIGTERM, or what its image says). After any other signal its restart policy decides.

  -s, --signal SIGNAL   HUP, SIGHUP, 1 or RTMIN+3

examples:
  coracle kill -s HUP web
  coracle kill web

exit codes: 0 ok; 1 failed, such as no such signal or the app does not run; 2 wrong usage;
            3 refused; 4 coracled cannot be reached
";

const EXEC: &str = "\
usage: coracle exec [-i] [-t] [-u USER] [-e KEY=VALUE]... [-w DIR] APP [--] CMD [ARG]...

Runs a program of a running app's image in its container: among its processes and files, in its
network, and within its limits, which it shares with the app. For root on the board; the supervisor
is asked itself. The program ends with the app, and when this command goes away.

  -i, --interactive     what comes on standard input is the program's
  -t, --tty             it has a terminal
  -u, --user USER       name or number, also with :GROUP; the app's own when left out
  -e, --env KEY=VALUE   over the app's variables; KEY alone has the value that it has here
  -w, --workdir DIR     where it begins; the app's own folder when left out

Four such programs may run in an app at a time, 16 in all.

examples:
  coracle exec web -- ps
  coracle exec -it web sh
  coracle exec -i db -- psql -U shop < dump.sql

exit codes: 0 ok; else the program's own, 128 and its number for a signal; 2 wrong usage;
            125 refused or not started; 126 it cannot be executed; 127 no such program
";

const STATS: &str = "\
usage: coracle stats [--json]

Memory, CPU, processes and writable layer of each app, beside their limits. CPU is taken over one
second; 100 % is one core.

examples:
  coracle stats
  coracle stats --json | jq '.[] | {name, memory_bytes}'

exit codes: 0 ok; 1 failed; 2 wrong usage; 4 coracled cannot be reached
";

const IMAGES: &str = "\
usage: coracle images [--json]

Images of the running set, with the digests of their manifests.

examples:
  coracle images
  coracle images --json

exit codes: 0 ok; 1 failed; 2 wrong usage; 4 coracled cannot be reached
";

const VOLUME: &str = "\
usage: coracle volume ls [--json]
       coracle volume inspect NAME [--json]
       coracle volume create NAME [--size SIZE] [--inodes N]
       coracle volume rm NAME
       coracle volume prune
       coracle volume backup NAME > FILE
       coracle volume restore NAME < FILE

Volumes outlive apps and releases. One that a person made is that person's and root's; one that a
release made is root's. What the running set or the one before it has is never removed.

create    with a hard limit of bytes and files; the board's own when left out
rm        and everything that is in it
prune     yours that no set has; for root everybody's
backup    a tar of what is in it. Apps may go on; a file that shrinks meanwhile ends the backup
restore   what is in it becomes what is in the tar: whole, or not at all. The apps that have it must
          be stopped; a tar with names that lead out of it is refused

examples:
  coracle volume ls
  coracle volume create photos --size 64MiB
  coracle volume backup data | gzip > data.tar.gz
  coracle stop web && zcat data.tar.gz | coracle volume restore data && coracle start web

exit codes: 0 ok; 1 failed, such as in use or no room; 2 wrong usage; 3 refused: not yours;
            4 coracled cannot be reached
";

const ENROL: &str = "\
usage: coracle enrol FILE

Makes this a board of a fleet. FILE comes from the console (`coracle-release enrol-file`) and is
good for one board, once. The board's key is made here and never leaves it. A board with a
manufacturing certificate and a fleet.json needs no FILE: it enrols by itself.

examples:
  coracle enrol /media/stick/board-7.json

exit codes: 0 ok; 1 failed; 2 wrong usage; 3 the console refused; 4 coracled cannot be reached
";

const USB: &str = "\
usage: coracle usb apply DIR|IMAGE
       coracle usb plugged DEVICE

Installs a release from a stick: a folder that holds coracle/stick.json, that folder itself, or a
vfat image or block device. Nothing on a stick is trusted for where it lies: the documents are
signed, and each blob is checked against its digest. Deltas are taken where they fit. Each phase is
printed as it comes; a set that does not prove healthy is rolled back. A stick is only read, but for
one small file that says what became of it, where its signed assignment asks for that.

`plugged` is what udev calls for a stick that comes: the same, but what is no stick of Coracle is
left alone, sticks wait for each other, `[usb] plugged` in coracle.toml decides, and root opens the
device and lets coracled's user read it.

examples:
  coracle usb apply /media/stick
  coracle usb apply /dev/sda1
  coracle usb apply release.img

exit codes: 0 the set runs and is kept; 1 failed or rolled back; 2 wrong usage; 3 refused, and
            nothing was changed; 4 coracled cannot be reached
";

const UPDATE: &str = "\
usage: coracle update accept

Says yes to the release that `coracle status` shows as waiting, on a board whose coracle.toml has
`consent = true` under [deploy]. It runs once nothing else stands against it: a maintenance window
that is not open, an app that holds its update lock.

examples:
  coracle status
  coracle update accept

exit codes: 0 ok; 1 failed, or nothing waits; 2 wrong usage; 4 coracled cannot be reached
";

const RESET: &str = "\
usage: coracle factory-reset --yes [--volumes]
       coracle decommission --yes

For root on the board; the supervisor is asked itself, and has to run. Neither can be undone, and
a power cut does not stop it: the next start goes on with it.

factory-reset removes apps, releases, logs and what was fetched, with --volumes what the apps kept
too. The board keeps its key, its name, the root document and all counters: what was deployed
before is not new to it, the console deploys anew.

decommission does all that, volumes too, and destroys the board's key, certificate and name. The
board says so once and connects no more until it is enrolled. Flash may keep what was deleted.

examples:
  coracle factory-reset --yes
  coracle factory-reset --yes --volumes
  coracle decommission --yes

exit codes: 0 ok; 1 failed; 2 wrong usage; 3 refused; 4 the supervisor cannot be reached
";

const STORE: &str = "\
usage: coracle store check [--repair] [--json]

Reads all layers and blobs on the board again and holds them against the digests that were signed.
Each that is broken gets a line: its digest, which app of which set needs it, and what is wrong with
which of its files. The apps go on meanwhile, and have disk and processor first. A deployment goes
first, too, and the check goes on after it.

  --repair    fetch what is broken anew, from console or mirrors: a layer takes the broken one's
              place while its apps are stopped, in their order and with their grace, and started
              again. Without a network only what can be made from blobs on the board is repaired

examples:
  coracle store check
  coracle store check --repair
  coracle store check --json | jq -r '.found[] | .digest'

exit codes: 0 ok; 1 something is broken, or was and is repaired (the lines say which);
            2 wrong usage, or something could not be looked at
";

const BOARD: &str = "\
usage: coracle board check|show [--json]
       coracle board schema

check    what the kernel has and lacks for this board, what each gap costs, and how to close it.
         As root it uses each part once: limits in a scratch cgroup, layers on the state folder's
         file system, links and NAT in a network namespace of its own. All of it is taken away again
show     the profile in force, why it is this one, what the kernel shows, the apps' budget, and for
         each value whether board.toml, the profile or the kernel says so
schema   JSON Schema of board profiles, for editors

None of them needs coracled.

examples:
  coracle board check
  coracle board check --json | jq '.gaps[].subject'
  coracle board show --json | jq .budget
  coracle board schema > board.schema.json

exit codes: 0 ok; 1 failed, or check found that something needed is missing; 2 wrong usage
";

const CONFIG: &str = "\
usage: coracle [--config FILE] config check
       coracle config schema

check    reads coracle.toml, and board profile and board.toml by it, as the programs will at their
         next start: prints what is wrong, with its line. Keys that a newer version may have
         (config_version) are named and passed over. As root, and while the supervisor runs, also
         whether a reload takes it: some keys wait for a start
schema   JSON Schema of coracle.toml, for editors

A file that is good is taken by `systemctl reload coracle-supervisor coracled`; apps go on.

examples:
  coracle config check
  coracle --config new.toml config check
  coracle config schema > coracle.schema.json

exit codes: 0 ok; 1 it cannot be used; 2 wrong usage
";

const VERSION: &str = "\
usage: coracle version [--json]

Versions of this program and, when they can be asked, of coracled and the supervisor.

examples:
  coracle version

exit codes: 0 ok; 2 wrong usage
";

/// Help on a command; on the program when `command` is empty.
pub fn of(command: &str) -> Option<&'static str> {
    Some(match command {
        "" => GENERAL,
        "ps" => PS,
        "logs" => LOGS,
        "status" => STATUS,
        "restart" | "stop" | "start" => CONTROL,
        "pause" | "resume" | "unpause" => PAUSE,
        "kill" => KILL,
        "exec" => EXEC,
        "stats" => STATS,
        "images" => IMAGES,
        "enrol" => ENROL,
        "volume" => VOLUME,
        "usb" => USB,
        "update" => UPDATE,
        "factory-reset" | "decommission" => RESET,
        "store" => STORE,
        "board" => BOARD,
        "config" => CONFIG,
        "version" => VERSION,
        "help" => GENERAL,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_examples_and_exit_codes() {
        for line in GENERAL.lines().skip(4).take(22) {
            for command in line.split_whitespace().next().unwrap().split('|') {
                let text = of(command).unwrap_or_else(|| panic!("no help on `{command}`"));
                assert!(text.contains("examples:\n  coracle "), "{command}");
                assert!(
                    text.contains("exit codes: 0 ok;") || command == "usb",
                    "{command}"
                );
                assert!(text.lines().all(|l| l.len() <= 100), "{command}");
            }
        }
    }
}

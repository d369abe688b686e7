use super::*;
use crate::profile::Architecture;
use proptest::prelude::*;
use std::path::Path;

const MIB: u64 = 1 << 20;

fn budget() -> Budget {
    Budget {
        memory_bytes: 256 * MIB,
        cpu_millis: 1500,
        cpus: 1,
        pids: 1000,
        disk_bytes: 1024 * MIB,
        io: IoRates::default(),
        modes: [NetworkMode::Bridge, NetworkMode::None]
            .into_iter()
            .collect(),
    }
}

fn app(name: &str, memory_mib: u64) -> AppPromise {
    AppPromise {
        name: name.to_owned(),
        memory_bytes: memory_mib * MIB,
        guarantees: Guarantees::default(),
        more: More::default(),
        cpu_millis: 200,
        pids: 50,
        disk_bytes: 10 * MIB,
        io: IoRates::default(),
        mode: NetworkMode::Bridge,
        host_ports: Vec::new(),
    }
}

fn tcp(port: u16, address: Option<[u8; 4]>) -> HostPort {
    HostPort {
        protocol: PortProtocol::Tcp,
        address: address.map(IpAddr::from),
        port,
    }
}

#[test]
fn what_fits_tells_what_stays_free() {
    let fits = budget().check(&[app("a", 100), app("b", 156)]).unwrap();
    assert_eq!(fits.memory_bytes_free, 0);
    assert_eq!(fits.cpu_millis_free, 1100);
    assert_eq!(fits.disk_bytes_free, 1004 * MIB);
}

#[test]
fn one_byte_too_much_is_too_much() {
    let mut over = app("b", 156);
    over.memory_bytes += 1;
    let problems = budget().check(&[app("a", 100), over]).unwrap_err();
    assert_eq!(
        problems,
        [Problem::TooMuch {
            resource: Resource::Memory,
            asked: 256 * MIB + 1,
            available: 256 * MIB,
            largest: "b".to_owned()
        }]
    );
}

#[test]
fn every_problem_is_told_at_once_with_numbers() {
    let mut first = app("web", 300);
    first.host_ports = vec![tcp(80, None)];
    let mut second = app("web", 1);
    second.cpu_millis = 5000;
    second.mode = NetworkMode::Host;
    second.pids = 0;
    second.host_ports = vec![tcp(80, Some([10, 0, 0, 1]))];
    let problems = budget().check(&[first, second]).unwrap_err();
    let text: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let text = text.join("\n");
    assert_eq!(problems.len(), 6, "{text}");
    for part in [
        "`web`: network mode `host` is not allowed on this board; allowed: bridge, none",
        "`web`: processes has no limit",
        "two apps are named `web`",
        "port 80/tcp is taken by `web` and by `web`",
        "memory: the apps ask for 301.0 MiB, this board has 256.0 MiB for apps, 45.0 MiB too much (`web` asks for most)",
        "CPU: the apps ask for 5200 CPU millis, this board has 1500 CPU millis for apps",
    ] {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
}

#[test]
fn a_port_on_two_addresses_or_protocols_is_two_ports() {
    let mut a = app("a", 1);
    a.host_ports = vec![tcp(53, Some([10, 0, 0, 1])), tcp(53, Some([10, 0, 0, 2]))];
    let mut b = app("b", 1);
    b.host_ports = vec![HostPort {
        protocol: PortProtocol::Udp,
        ..tcp(53, None)
    }];
    assert!(budget().check(&[a.clone(), b]).is_ok());
    let mut any = app("any", 1);
    any.host_ports = vec![tcp(53, Some([0, 0, 0, 0]))];
    assert!(budget().check(&[a, any]).is_err());
}

#[test]
fn what_the_kernel_shows_wins_over_the_profile_and_the_reserve_is_taken() {
    let profile = Profile::generic(Architecture::Aarch64);
    let empty = tempfile::tempdir().unwrap();
    let mut seen = Detected::read(empty.path());
    let by_profile = Budget::of(&profile, &seen);
    let reserve = u64::from(profile.reserve.memory_mib) * MIB;
    assert_eq!(
        by_profile.memory_bytes,
        profile.memory_mib.mib_in_bytes() - reserve
    );
    seen.memory_bytes = Some(8 << 30);
    seen.cpus = Some(8);
    let seen = seen.with_disk_bytes(1 << 40);
    let by_kernel = Budget::of(&profile, &seen);
    assert_eq!(by_kernel.memory_bytes, (8 << 30) - reserve);
    assert_eq!(by_kernel.cpus, 7);
    assert_eq!(
        by_kernel.cpu_millis,
        8000 - u64::from(profile.reserve.cpu_millis)
    );
    let mut tiny = Detected::read(Path::new("/nonexistent"));
    tiny.memory_bytes = Some(1);
    assert_eq!(Budget::of(&profile, &tiny).memory_bytes, 0);
}

proptest! {
    #[test]
    fn a_set_is_let_in_only_within_each_limit(amounts in proptest::collection::vec((any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>()), 0..8)) {
        let promises: Vec<AppPromise> = amounts
            .iter()
            .enumerate()
            .map(|(at, &(memory_bytes, cpu_millis, pids, disk_bytes))| AppPromise {
                memory_bytes: memory_bytes >> (memory_bytes % 64),
                cpu_millis: cpu_millis >> (cpu_millis % 64),
                pids: pids >> (pids % 64),
                disk_bytes: disk_bytes >> (disk_bytes % 64),
                ..app(&format!("app{at}"), 1)
            })
            .collect();
        let budget = budget();
        let sum = |f: fn(&AppPromise) -> u64| promises.iter().map(|p| u128::from(f(p))).sum::<u128>();
        let within = sum(|p| p.memory_bytes) <= budget.memory_bytes.into()
            && sum(|p| p.cpu_millis) <= budget.cpu_millis.into()
            && sum(|p| p.pids) <= budget.pids.into()
            && sum(|p| p.disk_bytes) <= budget.disk_bytes.into()
            && promises.iter().all(|p| p.memory_bytes > 0 && p.cpu_millis > 0 && p.pids > 0);
        let verdict = budget.check(&promises);
        prop_assert_eq!(verdict.is_ok(), within);
        if let Err(problems) = verdict {
            for problem in problems {
                prop_assert!(!problem.to_string().is_empty());
            }
        }
    }
}

#[test]
fn what_the_kernel_cannot_keep_is_refused_with_the_apps_name() {
    use crate::probe::{Outcome, Trials};
    use crate::text::cut;
    let mut trials = Trials::default();
    let quiet = app("quiet", 10);
    let busy = AppPromise {
        io: IoRates {
            read_bytes: Some(1),
            ..IoRates::default()
        },
        ..app("busy", 10)
    };
    let both = [quiet, busy];
    assert_eq!(unkept(&trials, &both), Vec::new(), "nothing was tried");
    trials.note("IO limit", Outcome::Fails(cut("io.max is not there")));
    trials.note("memory limit", Outcome::Works);
    trials.note("process limit", Outcome::NotTried(cut("it needs root")));
    trials.note("IO weight", Outcome::Fails(cut("no app can ask for one")));
    let problems = unkept(&trials, &both);
    assert_eq!(problems.len(), 1, "{problems:?}");
    let sentence = problems[0].to_string();
    for part in ["`busy`", "IO limit", "io.max is not there", "board check"] {
        assert!(sentence.contains(part), "{sentence}");
    }
    trials.note("CPU quota", Outcome::Fails(cut("cpu.max is not there")));
    assert_eq!(unkept(&trials, &both).len(), 3, "each app asks for CPU");
    for (limit, more) in [
        (
            "swap limit",
            More {
                swap: true,
                ..More::default()
            },
        ),
        (
            "OOM group",
            More {
                oom_group: true,
                ..More::default()
            },
        ),
        (
            "CPU burst",
            More {
                cpu_burst: true,
                ..More::default()
            },
        ),
    ] {
        assert!(can_be_asked_for(limit));
        let mut trials = Trials::default();
        trials.note(limit, Outcome::Fails(cut("it is not there")));
        let asks = AppPromise {
            more,
            ..app("asks", 10)
        };
        let problems = unkept(&trials, &[app("quiet", 10), asks]);
        assert_eq!(problems.len(), 1, "{problems:?}");
        let sentence = problems[0].to_string();
        assert!(
            sentence.contains("`asks`") && sentence.contains(limit),
            "{sentence}"
        );
    }
}

#[test]
fn what_the_kernel_lacks_is_told_for_each_need_of_an_app() {
    use crate::probe::{Need, Outcome, Trials};
    use crate::text::cut;
    let every = [[Need::Layers, Need::Filters].as_slice(), &Need::OF_NETWORKS].concat();
    let mut trials = Trials::default();
    assert_eq!(lacking(&trials, "web", &every), [], "nothing was tried");
    for (at, need) in every.iter().enumerate() {
        trials.note(need.subject(), Outcome::Fails(cut("not supported")));
        assert_eq!(lacking(&trials, "web", &every).len(), at + 1);
        let own = lacking(&trials, "web", &[*need]);
        let sentence = own[0].to_string();
        for part in ["`web`", need.subject(), "not supported", "board check"] {
            assert!(sentence.contains(part), "{sentence}");
        }
        assert_eq!(lacking(&trials, "web", &[]), []);
    }
    trials.learn(Need::Vlan, "VLANs\tuntried\tit needs root\n");
    trials.learn(Need::Layers, "VLANs\tfails\t\noverlayfs\tworks\t\n");
    assert_eq!(lacking(&trials, "web", &every).len(), every.len() - 2);
}

#[test]
fn what_is_promised_is_counted_and_asks_for_a_kernel_that_keeps_it() {
    use crate::probe::{Outcome, Trials};
    use crate::text::cut;
    let promised = |name: &str, min: u64, reserved: u64| AppPromise {
        guarantees: Guarantees {
            memory_min_bytes: min * MIB,
            memory_reservation_bytes: reserved * MIB,
            cpus: 0,
        },
        ..app(name, 100)
    };
    let fits = budget().check(&[promised("a", 100, 0), promised("b", 0, 100)]);
    assert_eq!(fits.unwrap().memory_bytes_free, 56 * MIB);
    // More promised than allowed is more than the app's limit says.
    let problems = budget().check(&[promised("a", 100, 0), promised("b", 157, 0)]);
    let [Problem::TooMuch { asked, .. }] = problems.unwrap_err()[..] else {
        panic!("one problem was expected");
    };
    assert_eq!(asked, 257 * MIB);

    let mut trials = Trials::default();
    let missing = Outcome::Fails(cut("memory.min is not there"));
    trials.note("memory guarantee", missing);
    let both = [promised("a", 1, 0), promised("b", 0, 1)];
    let problems = unkept(&trials, &both);
    assert_eq!(problems.len(), 1, "{problems:?}");
    let sentence = problems[0].to_string();
    for part in ["`a`", "memory guarantee", "memory.min is not there"] {
        assert!(sentence.contains(part), "{sentence}");
    }
}

#[test]
fn cpus_of_apps_own_leave_the_board_one_and_count_whole() {
    let own = |name: &str, cpus| AppPromise {
        guarantees: Guarantees {
            cpus,
            ..Guarantees::default()
        },
        ..app(name, 10)
    };
    let fits = budget().check(&[own("a", 1), own("b", 0)]).unwrap();
    assert_eq!(fits.cpu_millis_free, 300, "1000 are a's, whatever it uses");
    let large = Budget {
        cpu_millis: 10_000,
        cpus: 3,
        ..budget()
    };
    assert!(large.check(&[own("a", 1), own("b", 2)]).is_ok());
    let problems = large.check(&[own("a", 2), own("b", 2)]).unwrap_err();
    let [problem] = &problems[..] else {
        panic!("{problems:?}");
    };
    assert_eq!(
        *problem,
        Problem::TooManyCpus {
            asked: 4,
            available: 3
        }
    );
    assert!(problem.to_string().contains("cpus_exclusive"), "{problem}");
    let problems = large.check(&[own("a", u32::MAX), own("b", 1)]);
    assert!(problems.unwrap_err().contains(&Problem::TooManyCpus {
        asked: u32::MAX,
        available: 3
    }));
}

#[test]
fn the_sum_of_rates_stays_below_what_the_disk_carries() {
    let rates = |write_bytes, read_operations| IoRates {
        write_bytes,
        read_operations,
        ..IoRates::default()
    };
    let asks = |name: &str, write_bytes, read_operations| AppPromise {
        io: rates(write_bytes, read_operations),
        ..app(name, 10)
    };
    let budget = Budget {
        io: rates(Some(10_000_000), Some(500)),
        ..budget()
    };
    let fits = [
        asks("a", Some(6_000_000), None),
        asks("b", Some(3_700_000), Some(480)),
        app("c", 10),
    ];
    assert!(budget.check(&fits).is_ok());

    let mut large = asks("big", Some(4_000_001), Some(501));
    large.memory_bytes = 300 * MIB;
    let problems = budget
        .check(&[asks("a", Some(6_000_000), Some(0)), large])
        .unwrap_err();
    let text: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(text.len(), 3, "{text:?}");
    for part in [
        "bytes written: the apps ask for 10.00 MB/s, this board has 10.00 MB/s for apps",
        "(`a` asks for most); an app that names none counts with 0.26 MB/s; where its disk carries more, `write_bytes_per_second` of [storage.ceilings]",
        "reads: the apps ask for 501 a second, this board has 500 a second for apps, 1 a second too much (`big`",
        "memory: the apps ask for",
    ] {
        assert!(
            text.iter().any(|line| line.contains(part)),
            "`{part}` is not in {text:?}"
        );
    }
    // What is not known is not held against anything.
    let unknown = Budget {
        io: IoRates::default(),
        ..budget
    };
    assert!(unknown.check(&[asks("a", Some(u64::MAX), None)]).is_ok());
}

#[test]
fn apps_that_name_no_rates_share_what_the_others_leave_of_the_disk() {
    let mut profile = Profile::generic(Architecture::Aarch64);
    profile.quotas.io_read_bytes_per_second = Some(2_000_000);
    profile.quotas.io_write_bytes_per_second = None;
    let silent = IoRates::default();
    let writes = |rate| IoRates {
        write_bytes: Some(rate),
        ..IoRates::default()
    };
    // What is not known is not shared.
    assert_eq!(
        IoRates::default_of(&profile, silent, &[silent; 3]),
        IoRates::from(&profile.quotas)
    );
    let ceilings = IoRates {
        read_bytes: Some(9_000_000),
        write_bytes: Some(9_000_000),
        write_operations: Some(300),
        read_operations: None,
    };
    let of = |apps: &[IoRates]| IoRates::default_of(&profile, ceilings, apps);
    let alone = of(&[silent]);
    assert_eq!(alone.read_bytes, Some(2_000_000), "by [quotas]");
    assert_eq!(alone.write_bytes, Some(9_000_000));
    assert_eq!(alone.read_operations, None);
    // Three names and two that are silent: 9 - 3 MB/s for two, and all of 300 writes for the five.
    let apps = [
        writes(1_000_000),
        writes(1_500_000),
        writes(500_000),
        silent,
        silent,
    ];
    assert_eq!(of(&apps).write_bytes, Some(3_000_000));
    assert_eq!(of(&apps).write_operations, Some(60));
    // A set that was accepted on another disk still runs.
    assert_eq!(
        of(&[writes(9_000_000), silent]).write_bytes,
        Some(256 * 1024)
    );
}

/// What [`Budget::check`] lets pass and [`IoRates::default_of`] gives never come to more than the disk carries.
#[test]
fn rates_that_are_named_and_shares_stay_below_what_the_disk_carries() {
    let profile = Profile::generic(Architecture::X86_64);
    let ceiling = 10_000_000;
    let budget = Budget {
        io: IoRates {
            write_bytes: Some(ceiling),
            ..IoRates::default()
        },
        ..budget()
    };
    let mut refused = 0;
    for named in [0, 1, 4_999_999, 9_000_000, 9_475_712, 9_475_713, 10_000_000] {
        let mut apps = [app("named", 10), app("b", 10), app("c", 10)];
        apps[0].io.write_bytes = Some(named);
        let rates: Vec<IoRates> = apps.iter().map(|app| app.io).collect();
        match budget.check(&apps) {
            Ok(_) => {
                let share = IoRates::default_of(&profile, budget.io, &rates);
                assert!(named + 2 * share.write_bytes.unwrap() <= ceiling, "{named}");
            }
            Err(problems) => {
                refused += 1;
                let text = problems[0].to_string();
                assert!(
                    text.contains("an app that names none counts with 0.26 MB/s"),
                    "{text}"
                );
            }
        }
    }
    assert_eq!(refused, 2, "those that leave less than 2 x 262144");
}

#[test]
fn a_disk_carries_what_its_entry_says_and_else_what_the_profile_does() {
    let text = include_str!("../../../config/boards/raspberrypi5.toml");
    let profile = Profile::parse(text, std::path::Path::new("x.toml")).unwrap();
    let of = |disk| IoRates::carried_by(&profile, disk);
    let card = of(Some("mmcblk0"));
    assert_eq!(card, IoRates::from(&profile.storage.ceilings));
    assert_eq!((of(None), of(Some("sda"))), (card, card));
    let nvme = of(Some("nvme0n1"));
    assert!(nvme.read_bytes > card.read_bytes, "by its own bus");
    assert_eq!(nvme.write_bytes, card.write_bytes, "not known: the card's");
    let mut seen = Detected::read(Path::new("/nonexistent"));
    assert_eq!(Budget::of(&profile, &seen).io, card);
    seen.state_disk = Some(crate::text::cut("nvme0n1"));
    assert_eq!(Budget::of(&profile, &seen).io, nvme);
}

#[test]
fn a_small_boards_apps_have_half_of_its_processes() {
    let profile = Profile::generic(Architecture::X86_64);
    let apps = |pids| {
        let detected = Detected {
            pids,
            ..Detected::read(Path::new("/nowhere"))
        };
        Budget::of(&profile, &detected).pids
    };
    assert_eq!(apps(Some(32_768)), 32_256);
    assert_eq!(apps(Some(1024)), 512);
    // As the kernel has it with 104 MiB.
    assert_eq!(apps(Some(424)), 212);
    assert_eq!(apps(Some(1)), 1);
    assert_eq!(apps(None), 32_256);
}

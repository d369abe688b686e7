//! `make arm` and all else that builds what ships fails where the program is over its budget of flash.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const ARM: u64 = 6 << 20;
const X86_64: u64 = 110 << 16;
const X86_64_STATIC: u64 = 31 << 18;
const BUDGET: u64 = if cfg!(target_arch = "x86_64") {
    X86_64
} else {
    ARM
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn budget(programs: &[&Path]) -> Output {
    let mut script = Command::new(root().join("agent/board/budget.sh"));
    script.args(programs).output().expect("the script")
}

/// A stripped program of any machine, made as long as is asked.
fn program(folder: &Path, name: &str, bytes: u64) -> PathBuf {
    made_of(Path::new("/bin/true"), folder, name, bytes)
}

fn made_of(stripped: &Path, folder: &Path, name: &str, bytes: u64) -> PathBuf {
    let path = folder.join(name);
    fs::copy(stripped, &path).expect("a stripped program");
    let file = File::options().write(true).open(&path).expect("its copy");
    file.set_len(bytes).expect("its length");
    path
}

#[test]
fn a_program_one_byte_over_its_budget_fails_with_both_numbers_and_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let within = program(folder.path(), "within", BUDGET);
    let over = program(folder.path(), "over", BUDGET + 1);

    let met = budget(&[&within]);
    assert!(met.status.success(), "{met:?}");

    // One that is within does not hide another.
    let missed = budget(&[&over, &within]);
    assert_eq!(missed.status.code(), Some(1));
    let told = String::from_utf8_lossy(&missed.stderr);
    for part in [
        &format!("{} bytes", BUDGET + 1),
        "1 more than",
        &BUDGET.to_string(),
        "docs/decisions/0006",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

/// busybox-static's is such a program.
#[test]
fn a_static_program_has_room_for_the_c_library() {
    let folder = tempfile::tempdir().expect("a folder");
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new);
    let busybox = busybox.into_iter().find(|path| path.exists());
    let busybox = busybox.expect("busybox-static is needed: apt-get install busybox-static");
    let most = BUDGET.max(if cfg!(target_arch = "x86_64") {
        X86_64_STATIC
    } else {
        ARM
    });
    for (name, bytes, met) in [("within", most, true), ("over", most + 1, false)] {
        let program = made_of(busybox, folder.path(), name, bytes);
        let told = budget(&[&program]);
        assert_eq!(told.status.success(), met, "{told:?}");
    }
}

#[test]
fn what_says_nothing_about_the_size_that_ships_is_no_success() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = folder.path().join("text");
    fs::write(&text, "no program\n").expect("a text");
    let own = std::env::current_exe().expect("this test");
    for (file, why) in [(&text, "no program"), (&own, "not stripped")] {
        let refused = budget(&[file]);
        assert_eq!(refused.status.code(), Some(1));
        let told = String::from_utf8_lossy(&refused.stderr);
        assert!(told.contains(why), "{why}: {told}");
    }
    assert_eq!(budget(&[]).status.code(), Some(2));
}

/// What readelf reads of a stripped program for 64-bit ARM: two headers, the second one of a part of the file.
fn of_64_bit_arm(folder: &Path, offset: u64, address: u64, align: u64) -> PathBuf {
    let ident = *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0";
    let half = |number: u16| number.to_le_bytes().to_vec();
    let (word, long) = (|n: u32| n.to_le_bytes(), |n: u64| n.to_le_bytes());
    let mut file = ident.to_vec();
    // A program for machine 183; one entry of 56 bytes right after this header; no sections.
    file.extend([half(2), half(183)].concat());
    file.extend(word(1));
    file.extend([address, 64, 0].map(long).concat());
    file.extend(word(0));
    file.extend([64, 56, 1, 64, 0, 0].map(half).concat());
    // PT_LOAD, to be read and executed.
    file.extend([word(1), word(5)].concat());
    let places = [offset, address, address, 120, 120, align];
    file.extend(places.map(long).concat());
    let path = folder.join(format!("{offset}-{address}-{align}"));
    fs::write(&path, file).expect("a program");
    path
}

#[test]
fn a_program_for_64_bit_arm_that_kernels_with_large_pages_do_not_load_fails() {
    let folder = tempfile::tempdir().expect("a folder");
    let of = |offset, address, align| {
        let program = of_64_bit_arm(folder.path(), offset, address, align);
        budget(&[&program])
    };
    for (offset, address) in [(0, 0x20_0000), (0xd600, 0x2c_d600)] {
        let loaded = of(offset, address, 0x1_0000);
        assert!(loaded.status.success(), "{loaded:?}");
    }
    for (offset, address, align) in [(0, 0x20_0000, 0x1000), (0x600, 0x2c_d600, 0x1_0000)] {
        let refused = of(offset, address, align);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        let told = String::from_utf8_lossy(&refused.stderr);
        assert!(told.contains("max-page-size=65536"), "{told}");
    }
}

#[test]
fn the_bench_and_the_build_hold_the_program_against_the_same_number() {
    let of = |path: &str| fs::read_to_string(root().join(path)).expect(path);
    let (bench, script) = (
        of("tests/src/bin/bench/sizes.rs"),
        of("agent/board/budget.sh"),
    );
    assert!(bench.contains("const BUDGET_ARM: u64 = 6 << 20;"));
    assert!(bench.contains("const BUDGET_X86_64: u64 = 110 << 16;"));
    assert!(bench.contains("const BUDGET_STATIC: u64 = 31 << 18;"));
    for line in [
        format!("\narm={ARM}\n"),
        format!("\nx86_64={X86_64}\n"),
        format!("\nx86_64_static={X86_64_STATIC}\n"),
    ] {
        assert!(script.contains(&line), "{line}");
    }
    let makefile = of("Makefile");
    for from in ["\narm:", "\nstatic:", "\ndefine release"] {
        let (_, recipe) = makefile.split_once(from).expect(from);
        let (recipe, _) = recipe.split_once("\n\n").expect("its end");
        assert!(recipe.contains("agent/board/budget.sh"), "{from}");
    }
    for target in ["\ninstall:", "\ndeb:"] {
        let (_, recipe) = makefile.split_once(target).expect(target);
        let (recipe, _) = recipe.split_once("\n\n").expect("its end");
        assert!(recipe.contains("$(release)"), "{target}");
    }
}

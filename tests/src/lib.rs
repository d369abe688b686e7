//! Whole-system tests and the demo: a console and virtual boards, on one machine, as root.
//!
//! A virtual board is the shipped `coracle-supervisor` and `coracled` with folders of their own in
//! a network namespace of their own, joined to the console by a bridge ([`lan`]).
//!
//! | file | what it holds |
//! |---|---|
//! | [`world`] | the working folder, the programs under test, removal of all that was made |
//! | [`lan`] | the bridge and the namespaces |
//! | [`service`] | a program that runs beside: started, logged, stopped by pid |
//! | [`console`] | the console and its REST API |
//! | [`board`] | a virtual board |
//! | [`engineer`] | keys, root, images and releases, made with `coracle-release` |
//! | [`apt`] | asking apt, also for another suite of Debian |
//! | [`packages`] | Debian packages, unpacked into a cache |
//! | [`rootfs`] | root file systems from Debian packages |
//! | [`attack`] | documents as an attacker would make them |
//! | [`page`] | what stands on docs/benchmarks.md |
//! | [`measure`] | PSS, cgroup files, HTTP |
//! | [`leftovers`] | what is on the machine under our prefix |

pub mod apt;
pub mod attack;
pub mod board;
pub mod console;
pub mod engineer;
pub mod lan;
pub mod leftovers;
pub mod measure;
pub mod packages;
pub mod page;
pub mod rootfs;
pub mod service;
pub mod world;

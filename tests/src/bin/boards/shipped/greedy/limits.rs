//! Each limit that an app can have, and what tries to pass it.

/// How a limit is shown to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// By an attempt.
    By(&'static str),
    /// It is none that could be passed, for this reason.
    Not(&'static str),
}
use Shown::{By, Not};

/// Fields as the signed release has them, those of `AppLimits` and `Rates` first.
pub const LIMITS: [(&str, Shown); 23] = [
    ("memory_bytes", By("memory")),
    ("memory_min_bytes", By("promise")),
    (
        "memory_reservation_bytes",
        Not("what is above it is only taken back before that of others: nothing is refused"),
    ),
    (
        "memory_swap_bytes",
        Not("these boards have no swap, where it is the limit of memory"),
    ),
    (
        "oom_group",
        Not("it says which processes end with the one that passed the limit of memory"),
    ),
    ("cpu_millis", By("cpu")),
    (
        "cpu_burst_micros",
        Not("it is what was left over of `cpu_millis` before: over several periods that one holds"),
    ),
    ("cpus_exclusive", By("cores")),
    ("pids", By("fork")),
    ("io_read_bytes_per_second", By("read")),
    ("io_write_bytes_per_second", By("write")),
    ("io_read_operations_per_second", By("reads")),
    ("io_write_operations_per_second", By("writes")),
    ("open_files", By("files")),
    ("disk_bytes", By("fill")),
    ("disk_inodes", By("inodes")),
    (
        "disk_on",
        Not("it says where the layer is, not how much of it there may be"),
    ),
    ("ingress_bytes_per_second", By("receive")),
    ("egress_bytes_per_second", By("send")),
    ("size_bytes of a volume", By("fill")),
    ("inodes of a volume", By("inodes")),
    ("size_bytes of a folder in memory", By("fill")),
    ("log_mib of the board's quotas", By("log")),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::Layout;
    use crate::shipped::greedy::{Bears, attempts, network::Ports};
    use coracle_protocol::release::{AppLimits, DiskOn, Rates};
    use std::collections::BTreeSet;

    const PORTS: Ports = Ports { takes: 1, gives: 2 };

    fn names(bears: Bears) -> BTreeSet<&'static str> {
        let all = attempts(bears, PORTS);
        let names: BTreeSet<_> = all.iter().map(|attempt| attempt.name).collect();
        assert_eq!(names.len(), all.len(), "two of one name");
        names
    }

    const ALL: Bears = Bears {
        layout: Layout::V2,
        io: true,
        cpus: 2,
    };

    /// A field that is new must be written here, and then stand in the table.
    #[test]
    fn each_limit_of_a_release_is_tried_or_it_is_said_why_not() {
        let limits: AppLimits = AppLimits {
            memory_bytes: 1,
            memory_min_bytes: Some(1),
            memory_reservation_bytes: Some(1),
            memory_swap_bytes: Some(1),
            oom_group: true,
            cpu_millis: 1,
            cpu_burst_micros: Some(1),
            cpus_exclusive: Some(1),
            pids: 1,
            io_read_bytes_per_second: Some(1),
            io_write_bytes_per_second: Some(1),
            io_read_operations_per_second: Some(1),
            io_write_operations_per_second: Some(1),
            open_files: Some(1),
            disk_bytes: Some(1),
            disk_inodes: Some(1),
            disk_on: DiskOn::Memory,
        };
        let rates = Rates {
            ingress_bytes_per_second: Some(1),
            egress_bytes_per_second: Some(1),
        };
        let fields = [serde_json::to_value(&limits), serde_json::to_value(rates)];
        let fields = fields.map(|value| value.expect("a table"));
        let fields = fields
            .iter()
            .flat_map(|value| value.as_object().expect("a table").keys());
        let told = LIMITS.iter().filter(|(name, _)| !name.contains(' '));
        assert_eq!(
            fields.map(String::as_str).collect::<BTreeSet<_>>(),
            told.map(|(name, _)| *name).collect::<BTreeSet<_>>()
        );
        let by = LIMITS.iter().filter_map(|(_, shown)| match shown {
            By(name) => Some(*name),
            Not(reason) => {
                assert!(reason.contains(' '), "{reason}");
                None
            }
        });
        assert_eq!(by.collect::<BTreeSet<_>>(), names(ALL));
    }

    #[test]
    fn a_board_is_not_asked_for_what_it_cannot_hold() {
        let without = |bears: Bears| -> Vec<_> {
            let (all, some) = (names(ALL), names(bears));
            assert!(some.is_subset(&all), "{some:?}");
            all.difference(&some).copied().collect()
        };
        let layout = Layout::V1;
        assert_eq!(without(Bears { layout, ..ALL }), ["promise"]);
        assert_eq!(without(Bears { cpus: 1, ..ALL }), ["cores"]);
        let io = without(Bears { io: false, ..ALL });
        assert_eq!(io, ["read", "reads", "write", "writes"]);
    }
}

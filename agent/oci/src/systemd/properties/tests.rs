use oci_spec::runtime::LinuxResources;

use super::*;
use crate::plan::resources;

fn told(json: &str, version: u32, unified: bool) -> Vec<String> {
    told_beside(json, version, unified, &|_, _| None)
}

fn told_beside(
    json: &str,
    version: u32,
    unified: bool,
    now: &dyn Fn(Controller, &str) -> Option<String>,
) -> Vec<String> {
    let wanted: LinuxResources = serde_json::from_str(json).unwrap();
    let writes = match unified {
        true => resources::for_v2(&wanted),
        false => resources::for_v1(&wanted),
    };
    let shown = |(name, value): Property| match value {
        Value::Number(UNLIMITED) => format!("{name}=infinity"),
        Value::Number(number) => format!("{name}={number}"),
        Value::Rates(all) => format!("{name}={} {}", all[0].0, all[0].1),
        other => format!("{name}={other:?}"),
    };
    of(&writes.unwrap(), unified, version, now)
        .into_iter()
        .map(shown)
        .collect()
}

const ALL: &str = r#"{"memory":{"limit":67108864,"swap":134217728,"reservation":1048576},
    "cpu":{"shares":1024,"quota":50000,"period":100000,"cpus":"0-1,9","mems":"0"},
    "pids":{"limit":64},
    "blockIO":{"weight":1000,"weightDevice":[{"major":8,"minor":16,"weight":10}],
        "throttleReadBpsDevice":[{"major":8,"minor":0,"rate":600}],"throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":7}]},
    "hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}"#;

#[test]
fn on_v2_each_limit_that_systemd_knows_is_told() {
    let expected = [
        "MemoryMax=67108864",
        "MemoryLow=1048576",
        "MemorySwapMax=67108864",
        "CPUWeight=100",
        "AllowedCPUs=Bytes([3, 2])",
        "AllowedMemoryNodes=Bytes([1])",
        "TasksMax=64",
        "IOWeight=10000",
        "IODeviceWeight=/dev/block/8:16 1",
        "IOReadBandwidthMax=/dev/block/8:0 600",
        "IOWriteIOPSMax=/dev/block/8:0 7",
        "CPUQuotaPerSecUSec=500000",
        "CPUQuotaPeriodUSec=100000",
    ];
    assert_eq!(told(ALL, 252, true), expected);
}

#[test]
fn on_v1_they_have_older_names() {
    let json = ALL
        .replace(r#""hugepageLimits""#, r#""unknown""#)
        .replace("\"mems\":\"0\"", "\"mems\":\"\"");
    let expected = [
        "MemoryLimit=67108864",
        "CPUShares=1024",
        "TasksMax=64",
        "BlockIOWeight=1000",
        "BlockIODeviceWeight=/dev/block/8:16 10",
        "BlockIOReadBandwidth=/dev/block/8:0 600",
        "CPUQuotaPerSecUSec=500000",
        "CPUQuotaPeriodUSec=100000",
    ];
    assert_eq!(told(&json, 252, false), expected);
}

#[test]
fn an_older_systemd_is_not_told_what_it_does_not_know() {
    let json = r#"{"cpu":{"quota":50000,"period":100000,"cpus":"0","mems":"0","idle":1}}"#;
    assert_eq!(told(json, 241, true), ["CPUQuotaPerSecUSec=500000"]);
    assert_eq!(
        told(json, 252, true),
        [
            "CPUWeight=0",
            "AllowedCPUs=Bytes([1])",
            "AllowedMemoryNodes=Bytes([1])",
            "CPUQuotaPerSecUSec=500000",
            "CPUQuotaPeriodUSec=100000"
        ]
    );
}

#[test]
fn no_limit_is_infinity_and_what_is_not_set_is_not_told() {
    let json = r#"{"memory":{"limit":-1,"reservation":-1},"cpu":{"quota":-1},"pids":{"limit":-1}}"#;
    let expected = [
        "MemoryMax=infinity",
        "MemoryLow=infinity",
        "MemorySwapMax=infinity",
        "TasksMax=infinity",
        "CPUQuotaPerSecUSec=infinity",
        "CPUQuotaPeriodUSec=100000",
    ];
    assert_eq!(told(json, 252, true), expected);
    assert!(told(r#"{"memory":{"limit":0},"pids":{"limit":0}}"#, 252, true).is_empty());
}

#[test]
fn files_of_the_kernel_by_their_own_names_count_too() {
    let json = r#"{"unified":{"memory.high":"64M","memory.max":"0","io.max":"8:0 wbps=max riops=5","cpu.max":"max","memory.min":"0"}}"#;
    let mut told = told(json, 252, true);
    told.sort();
    let expected = [
        "CPUQuotaPerSecUSec=infinity",
        "CPUQuotaPeriodUSec=100000",
        "IOReadIOPSMax=/dev/block/8:0 5",
        "IOWriteBandwidthMax=/dev/block/8:0 18446744073709551615",
        "MemoryHigh=67108864",
        "MemoryMin=0",
    ];
    assert_eq!(told, expected);
}

/// A quota is kept as whole percents: less than one would be none at all after a reload.
#[test]
fn quotas_are_rounded_up_to_a_percent_of_a_processor() {
    let per_second = |quota: u64| {
        told(
            &format!(r#"{{"cpu":{{"quota":{quota},"period":100000}}}}"#),
            252,
            true,
        )[0]
        .clone()
    };
    assert_eq!(per_second(1000), "CPUQuotaPerSecUSec=10000");
    assert_eq!(per_second(1001), "CPUQuotaPerSecUSec=20000");
    assert_eq!(per_second(150_500), "CPUQuotaPerSecUSec=1510000");
}

#[test]
fn the_other_half_of_a_quota_is_what_it_was() {
    let quota = r#"{"cpu":{"quota":5000}}"#;
    let told = told_beside(quota, 252, true, &|_, file| {
        (file == "cpu.max").then(|| "20000 50000\n".into())
    });
    assert_eq!(
        told,
        ["CPUQuotaPerSecUSec=100000", "CPUQuotaPeriodUSec=50000"]
    );
    let v1 = |_: Controller, file: &str| match file {
        "cpu.cfs_period_us" => Some("50000\n".into()),
        "cpu.cfs_quota_us" => Some("-1\n".into()),
        _ => None,
    };
    let told = told_beside(quota, 252, false, &v1);
    assert_eq!(
        told,
        ["CPUQuotaPerSecUSec=100000", "CPUQuotaPeriodUSec=50000"]
    );
    let told = told_beside(r#"{"cpu":{"period":20000}}"#, 252, false, &v1);
    assert_eq!(
        told,
        ["CPUQuotaPerSecUSec=infinity", "CPUQuotaPeriodUSec=20000"]
    );
}

#[test]
fn lists_of_processors_are_bits() {
    assert_eq!(cpus("0-3,6\n"), Some(vec![0b100_1111]));
    assert_eq!(cpus("8"), Some(vec![0, 1]));
    for wrong in ["", "x", "1-", "0-8192", "99999999999999999999"] {
        assert_eq!(cpus(wrong), None, "{wrong}");
    }
}

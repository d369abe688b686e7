//! `linux.netDevices`: devices of the host that become the container's. Needs root, busybox-static and `ip`.

mod support;

use std::path::Path;
use std::process::Command;

use serde_json::json;
use support::Bundle;

/// One end of a pair, with an address of its own. The other end goes with it.
struct Device(String);

impl Device {
    fn new(address: &str) -> Device {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let device = Device(format!("ct{}x{number}", std::process::id()));
        ip(&["link", "add", &device.0, "type", "veth"]);
        ip(&["addr", "add", address, "dev", &device.0]);
        device
    }

    fn is_here(&self) -> bool {
        Path::new("/sys/class/net").join(&self.0).exists()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if self.is_here() {
            ip(&["link", "del", &self.0]);
        }
    }
}

fn ip(arguments: &[&str]) {
    let said = Command::new("ip").args(arguments).output().expect("ip");
    assert!(said.status.success(), "ip {arguments:?}: {said:?}");
}

#[test]
fn it_keeps_its_addresses_under_another_name() {
    let device = Device::new("192.0.2.7/24");
    let mut bundle = Bundle::new("ip -o addr show eth7; ip link show eth7; sleep 60");
    bundle.config["linux"]["netDevices"] = json!({&device.0: {"name": "eth7"}});
    let id = bundle.id();
    bundle.start(&id);
    support::wait_until("output", || bundle.out().contains("mtu"));
    let out = bundle.out();
    assert!(out.contains("192.0.2.7/24"), "{out}");
    assert!(out.contains(",UP") || out.contains("<UP"), "{out}");
    assert!(!device.is_here());
}

#[test]
fn it_keeps_its_name_when_none_is_given_also_with_users_of_its_own() {
    let device = Device::new("192.0.2.8/24");
    let mut bundle = Bundle::new(&format!("ip -o addr show {}", device.0));
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({"type": "user"}));
    bundle.config["linux"]["netDevices"] = json!({&device.0: {}});
    let said = bundle.run();
    assert!(said.out.contains("192.0.2.8/24"), "{said:?}");
}

#[test]
fn what_cannot_be_moved_is_told_and_stays() {
    let device = Device::new("192.0.2.9/24");
    for (devices, wanted) in [
        (json!({"ct-none-such": {}}), "finding ct-none-such"),
        (json!({&device.0: {"name": "lo"}}), "moving"),
        (json!({&device.0: {"name": "a/b"}}), "cannot be the name"),
        (json!({&device.0: {"name": "eth%d"}}), "cannot be the name"),
    ] {
        let mut bundle = Bundle::new("true");
        bundle.config["linux"]["netDevices"] = devices;
        let said = bundle.run();
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.err.contains(wanted), "{said:?}");
        assert!(device.is_here(), "{wanted}");
        let said = Command::new("ip")
            .args(["addr", "show", &device.0])
            .output();
        let said = String::from_utf8_lossy(&said.unwrap().stdout).into_owned();
        assert!(said.contains("192.0.2.9/24"), "{wanted}: {said}");
    }
    let mut bundle = Bundle::new("true");
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "network");
    bundle.config["linux"]["netDevices"] = json!({&device.0: {}});
    let said = bundle.run();
    assert!(said.err.contains("without a network namespace"), "{said:?}");
    assert!(device.is_here());
}

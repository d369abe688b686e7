//! The network between the console and its virtual boards: one bridge on this machine, one
//! namespace and one veth pair for each board. (The board under test uses netlink; the test bench
//! uses the `ip` program, so that neither checks itself.)

use crate::service::run;
use anyhow::Result;
use std::net::Ipv4Addr;
use std::process::Command;

/// A bridge with boards.
pub struct Lan {
    prefix: String,
    octet: u8,
}

/// A namespace on the bridge.
#[derive(Debug, Clone)]
pub struct Namespace {
    /// Its name for `ip netns`.
    pub name: String,
    /// Its address.
    pub ip: Ipv4Addr,
    host_link: String,
}

impl Lan {
    /// A bridge `<prefix>0` with address 10.213.<n>.1/24; n comes from the prefix, so that two
    /// worlds can stand side by side.
    pub fn create(prefix: &str) -> Result<Self> {
        let octet = prefix
            .bytes()
            .fold(7u8, |sum, b| sum.wrapping_mul(31).wrapping_add(b));
        let lan = Self {
            prefix: prefix.to_owned(),
            octet,
        };
        let bridge = lan.bridge();
        ip(&["link", "add", &bridge, "type", "bridge"])?;
        ip(&[
            "address",
            "add",
            &format!("{}/24", lan.console_ip()),
            "dev",
            &bridge,
        ])?;
        ip(&["link", "set", &bridge, "up"])?;
        Ok(lan)
    }

    fn bridge(&self) -> String {
        format!("{}0", self.prefix)
    }

    /// Where boards find the console.
    pub fn console_ip(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.octet, 1)
    }

    /// A namespace for board `n` (1 to 200), on the bridge when `connected`.
    pub fn namespace(&self, n: u8, connected: bool) -> Result<Namespace> {
        let name = format!("{}-{n}", self.prefix);
        let host_link = format!("{}v{n}", self.prefix);
        let ip_address = Ipv4Addr::new(10, 213, self.octet, 10 + n);
        ip(&["netns", "add", &name])?;
        ip(&["-n", &name, "link", "set", "lo", "up"])?;
        if connected {
            ip(&[
                "link", "add", &host_link, "type", "veth", "peer", "name", "eth0", "netns", &name,
            ])?;
            ip(&["link", "set", &host_link, "master", &self.bridge(), "up"])?;
            ip(&[
                "-n",
                &name,
                "address",
                "add",
                &format!("{ip_address}/24"),
                "dev",
                "eth0",
            ])?;
            ip(&["-n", &name, "link", "set", "eth0", "up"])?;
            ip(&[
                "-n",
                &name,
                "route",
                "add",
                "default",
                "via",
                &self.console_ip().to_string(),
            ])?;
        }
        Ok(Namespace {
            name,
            ip: ip_address,
            host_link,
        })
    }

    /// Removes the bridge; namespaces go with [`crate::leftovers::remove`].
    pub fn remove(&self) {
        let _ = ip(&["link", "delete", &self.bridge()]);
    }
}

impl Namespace {
    /// A command inside. Only the network changes: `ip netns exec` would also hide /sys/fs/cgroup.
    pub fn command(&self, program: &std::path::Path) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{}", self.name))
            .arg("--")
            .arg(program);
        command
    }

    /// Pulls the cable.
    pub fn cut(&self) -> Result<()> {
        ip(&["link", "set", &self.host_link, "down"])
    }

    /// Puts the cable back.
    pub fn mend(&self) -> Result<()> {
        ip(&["link", "set", &self.host_link, "up"])
    }

    /// Removes it, with its link.
    pub fn remove(&self) {
        let _ = ip(&["link", "delete", &self.host_link]);
        let _ = ip(&["netns", "delete", &self.name]);
    }
}

fn ip(args: &[&str]) -> Result<()> {
    run(Command::new("ip").args(args)).map(drop)
}

//! Containers' networks on a board: bridges, a veth and an address for each container, NAT to the outside, published ports,
//! names, limits to what passes, and walls between containers, networks, the board's own services and the world.
//!
//! Everything goes over netlink; no other program is started and none is needed on the board. A network without an IPv6
//! subnet drops IPv6 at its bridge, so that it is no way around the walls. `docs/networking.md` has the whole picture.
//!
//! - [`Networks`] is the host's side of all networks, [`Network`] of one, for a single-threaded tokio runtime with
//!   CAP_NET_ADMIN (and CAP_SYS_ADMIN to configure a container that runs already).
//! - [`configure_inside`] is the container's side, blocking, for the child process before it becomes the program.
//! - [`names`] gives the texts of hosts, hostname and resolv.conf; [`resolver`] answers on a network, in a process of its own.
//!
//! Kernel options: CONFIG_BRIDGE, CONFIG_VETH, CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET, CONFIG_NF_TABLES_IPV4,
//! CONFIG_NF_CONNTRACK, CONFIG_NF_NAT, CONFIG_NFT_NAT, CONFIG_NFT_MASQ, CONFIG_NFT_CT, CONFIG_NFT_FIB_IPV4. For IPv6
//! CONFIG_NF_TABLES_IPV6 and CONFIG_NFT_FIB_IPV6; for limits CONFIG_NET_SCH_TBF, CONFIG_NF_TABLES_NETDEV,
//! CONFIG_NETFILTER_INGRESS and CONFIG_NFT_LIMIT. Which one is missing is said by name when the kernel refuses.

mod config;
mod conntrack;
mod egress;
mod endpoint;
mod error;
mod ethtool;
mod inside;
pub mod lent;
mod link;
pub mod names;
mod network;
mod networks;
mod nft;
mod offload;
mod policy;
mod pool;
mod port;
pub mod resolver;
mod route_socket;
mod sysctl;
mod underlay;

pub use config::{ConfigError, MAX_ALIASES, MAX_PORTS_PER_APP, NetworkConfig};
pub use egress::{
    Admission, EgressRule, EgressTo, MAX_ADMITTED, MAX_EGRESS, names as egress_names,
};
pub use endpoint::{Endpoint, Ipv6Place, Rates, Wanted};
pub use error::NetworkError;
pub use inside::{InsideError, LentAs, configure_inside, configure_lent, configure_loopback};
pub use link::{Counters, LinkError, Namespace};
pub use network::{Ensured, Network, Reconciled};
pub use networks::{
    Attachment, Changes, DEFAULT_NETWORK, DefinitionError, Followed, Ipv6, MAX_NETWORKS,
    MAX_NETWORKS_PER_APP, NetworkDefinition, NetworkRequest, Networks, mtu_of_first,
};
pub use nft::NftError;
pub use offload::Offload;
pub use policy::{BoardPolicy, Offloads, OffloadsOf};
pub use pool::PoolError;
pub use port::{PortError, Protocol, PublishedPort};
pub use sysctl::SysctlError;
pub use underlay::{Station, Underlay};

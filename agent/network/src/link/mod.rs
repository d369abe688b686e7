//! Bridge, veths and addresses by rtnetlink: the only folder that knows the crate.

use std::io;
use std::sync::Arc;

use futures_util::TryStreamExt;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVlan, LinkAttribute, LinkInfo, LinkMessage,
};
use rtnetlink::Handle;
use tokio::task::JoinHandle;

mod addresses;
mod bridge;
mod routes;
mod traffic;
mod veth;
mod wire;

pub(crate) use routes::Route;
pub use traffic::Counters;
pub use veth::Namespace;
pub(crate) use veth::Veth;
pub(crate) use wire::StationLink;

/// Interfaces, routes or addresses that one dump may list before we give up on it.
const MAX_DUMP: usize = 65_536;

#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("cannot open a rtnetlink socket (the kernel needs CONFIG_NET and CONFIG_INET)")]
    Open(#[source] io::Error),
    #[error("cannot {action} {name}{}", hint(.action, .source))]
    Request {
        action: &'static str,
        name: String,
        source: Refusal,
    },
    #[error(
        "interface {name} is a {found}, not a {wanted}: another program's, so it is left alone"
    )]
    WrongKind {
        name: String,
        found: String,
        wanted: &'static str,
    },
    #[error("the kernel lists more than {MAX_DUMP} {what}")]
    TooMany { what: &'static str },
}

impl LinkError {
    fn errno(&self) -> Option<i32> {
        match self {
            Self::Request { source, .. } => errno(source),
            _ => None,
        }
    }
}

/// Why a request came to nothing. Not the crate's own error, which can print every message that there is: all the code for
/// that would be in the program.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("the kernel says: {0}")]
    Kernel(io::Error),
    #[error("the kernel did not answer")]
    NoAnswer,
    #[error("it is not there any more")]
    Gone,
    #[error("the kernel answered something else")]
    OtherAnswer,
    #[error("the request cannot be written: {0}")]
    Unwritten(String),
}

impl From<rtnetlink::Error> for Refusal {
    fn from(error: rtnetlink::Error) -> Self {
        use rtnetlink::Error;
        match error {
            Error::NetlinkError(message) => Self::Kernel(message.to_io()),
            Error::RequestFailed => Self::NoAnswer,
            Error::UnexpectedMessage(_) => Self::OtherAnswer,
            Error::NamespaceError(what) | Error::InvalidNla(what) => Self::Unwritten(what),
            Error::InvalidHardwareAddress(_) => Self::Unwritten("a hardware address".into()),
            Error::InvalidIp(_) | Error::InvalidAddress(..) => Self::Unwritten("an address".into()),
        }
    }
}

fn errno(refusal: &Refusal) -> Option<i32> {
    match refusal {
        Refusal::Kernel(error) => error.raw_os_error(),
        _ => None,
    }
}

const CREATE_BRIDGE: &str = "create bridge";
const CREATE_VETH: &str = "create veth";
const CREATE_VLAN: &str = "create VLAN";
/// macvlan, ipvlan.
const CREATE_STATION: [&str; 2] = ["create macvlan", "create ipvlan"];
const SHAPE: &str = "limit what goes into the container by";

fn hint(action: &str, source: &Refusal) -> &'static str {
    match (action, errno(source)) {
        (_, Some(libc::EPERM)) => " (CAP_NET_ADMIN is needed)",
        (CREATE_BRIDGE, Some(libc::EOPNOTSUPP)) => " (the kernel needs CONFIG_BRIDGE)",
        (SHAPE, Some(libc::ENOENT | libc::EOPNOTSUPP)) => {
            " (the kernel needs CONFIG_NET_SCHED and CONFIG_NET_SCH_TBF)"
        }
        (CREATE_VETH, Some(libc::EOPNOTSUPP)) => " (the kernel needs CONFIG_VETH)",
        (CREATE_VLAN, Some(libc::EOPNOTSUPP)) => " (the kernel needs CONFIG_VLAN_8021Q)",
        (CREATE_VLAN, Some(libc::EEXIST)) => {
            " (the board has this VLAN already: name its link as the parent, and no vlan)"
        }
        (action, Some(libc::EOPNOTSUPP)) if action == CREATE_STATION[0] => {
            " (the kernel needs CONFIG_MACVLAN)"
        }
        (action, Some(libc::EOPNOTSUPP)) if action == CREATE_STATION[1] => {
            " (the kernel needs CONFIG_IPVLAN)"
        }
        (action, Some(libc::EBUSY)) if CREATE_STATION.contains(&action) => {
            " (the link is another's: a port of a bridge or bond, or of the other one of macvlan and ipvlan)"
        }
        (CREATE_VETH, Some(libc::EEXIST)) => " (the name, or eth0 inside, is taken)",
        _ => "",
    }
}

/// An interface as a dump tells it.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub index: u32,
    pub name: String,
    pub controller: Option<u32>,
    /// `bridge`, `veth`; empty for hardware.
    pub kind: String,
    /// The link that it lies on.
    pub parent: Option<u32>,
    pub vlan: Option<u16>,
    pub mtu: u32,
    /// Of Ethernet.
    pub mac: Option<[u8; 6]>,
}

/// A connection to the namespace that it was opened in. Its task ends with the last of its clones.
#[derive(Clone)]
pub(crate) struct Links {
    handle: Handle,
    _connection: Arc<Connection>,
}

struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Links {
    /// Must be called inside a tokio runtime.
    pub fn open() -> Result<Self, LinkError> {
        let (connection, handle, _notices) =
            rtnetlink::new_connection().map_err(LinkError::Open)?;
        let connection = Connection(tokio::spawn(connection));
        Ok(Self {
            handle,
            _connection: Arc::new(connection),
        })
    }

    /// The interface of that name, if there is one.
    pub async fn find(&self, name: &str) -> Result<Option<Link>, LinkError> {
        Ok(self.describe(name).await?.map(|m| link(&m)))
    }

    /// The first of these that is there.
    pub async fn first(&self, names: &[&str]) -> Result<Option<Link>, LinkError> {
        for name in names {
            if let Some(found) = self.find(name).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    async fn describe(&self, name: &str) -> Result<Option<LinkMessage>, LinkError> {
        let request = self.handle.link().get().match_name(name.to_owned());
        let found = request.execute().try_next().await;
        match found.map_err(|e| request_error("look for", name, e)) {
            Err(e) if e.errno() == Some(libc::ENODEV) => Ok(None),
            found => found,
        }
    }

    pub async fn list(&self) -> Result<Vec<Link>, LinkError> {
        let mut stream = std::pin::pin!(self.handle.link().get().execute());
        let mut links = Vec::new();
        while let Some(message) = next(&mut stream, "list", "interfaces").await? {
            bounded(links.len(), "interfaces")?;
            links.push(link(&message));
        }
        Ok(links)
    }

    /// Removes an interface; one that is gone already is no error, since a veth goes with its container's namespace.
    pub async fn remove(&self, name: &str) -> Result<bool, LinkError> {
        let Some(link) = self.find(name).await? else {
            return Ok(false);
        };
        let removed = self.handle.link().del(link.index).execute().await;
        match removed.map_err(|e| request_error("remove", name, e)) {
            Err(e) if e.errno() == Some(libc::ENODEV) => Ok(false),
            Err(e) => Err(e),
            Ok(()) => Ok(true),
        }
    }
}

fn request_error(action: &'static str, name: &str, source: impl Into<Refusal>) -> LinkError {
    LinkError::Request {
        action,
        name: name.to_owned(),
        source: source.into(),
    }
}

async fn next<T, S>(
    stream: &mut S,
    action: &'static str,
    name: &str,
) -> Result<Option<T>, LinkError>
where
    S: futures_util::TryStream<Ok = T, Error = rtnetlink::Error> + Unpin,
{
    let next = stream.try_next().await;
    next.map_err(|e| request_error(action, name, e))
}

fn bounded(count: usize, what: &'static str) -> Result<(), LinkError> {
    if count < MAX_DUMP {
        Ok(())
    } else {
        Err(LinkError::TooMany { what })
    }
}

fn link(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        controller: None,
        kind: String::new(),
        parent: None,
        vlan: None,
        mtu: 0,
        mac: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Controller(index) => link.controller = Some(*index),
            LinkAttribute::Link(index) => link.parent = Some(*index),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(bytes) => link.mac = bytes.as_slice().try_into().ok(),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(kind) => link.kind = kind_name(kind),
                        LinkInfo::Data(InfoData::Vlan(data)) => link.vlan = vlan(data),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    link
}

fn vlan(data: &[InfoVlan]) -> Option<u16> {
    data.iter().find_map(|one| match one {
        InfoVlan::Id(id) => Some(*id),
        _ => None,
    })
}

fn kind_name(kind: &InfoKind) -> String {
    match kind {
        InfoKind::Bridge => "bridge".to_owned(),
        InfoKind::Veth => "veth".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::ErrorMessage;
    use std::error::Error;
    use std::num::NonZero;

    fn refused(errno: i32) -> LinkError {
        let mut message = ErrorMessage::default();
        message.code = NonZero::new(-errno);
        request_error(
            CREATE_BRIDGE,
            "cor0",
            rtnetlink::Error::NetlinkError(message),
        )
    }

    #[test]
    fn what_the_kernel_refuses_keeps_its_number_its_reason_and_what_to_do() {
        let error = refused(libc::EOPNOTSUPP);
        assert_eq!(error.errno(), Some(libc::EOPNOTSUPP));
        assert_eq!(
            error.to_string(),
            "cannot create bridge cor0 (the kernel needs CONFIG_BRIDGE)"
        );
        let source = error.source().unwrap().to_string();
        assert!(
            source.starts_with("the kernel says: Operation not supported"),
            "{source}"
        );
        assert!(refused(libc::EPERM).to_string().contains("CAP_NET_ADMIN"));
    }

    #[test]
    fn what_is_no_answer_of_the_kernel_has_no_number() {
        for error in [
            rtnetlink::Error::RequestFailed,
            rtnetlink::Error::InvalidIp(vec![1]),
        ] {
            assert_eq!(request_error("list", "routes", error).errno(), None);
        }
    }
}

//! Names on one network: containers find each other by name and alias, everything else is asked of the board's resolvers.
//! Who may not go everywhere is answered for the names on its list alone, after the supervisor has opened the way.
//!
//! For a process of its own, without privileges: it is given sockets that are bound already and a stream on which the
//! supervisor tells it what it knows. It ends when that stream does, so none outlives a killed supervisor.
//! Everything is bounded: queries on their way, connections, sizes and times, and each container's share of them.
//!
//! | file | what it does |
//! |---|---|
//! | `zone` | what it knows |
//! | `control` | what it hears and says |
//! | `admissions` | what the supervisor is asked |
//! | `message`, `answer` | reads and writes DNS |
//! | `step` | what becomes of a query |
//! | `udp`, `tcp` | queries on their way |
//! | `share` | who may ask how much |

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use admissions::Admissions;
use control::Control;

mod admissions;
mod answer;
mod control;
mod message;
mod share;
mod step;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;
mod zone;

pub use control::{MAX_SAID_BYTES, Said, Told};
pub use zone::Zone;

const DNS: u16 = 53;

/// Answers queries of the network's containers until `control` ends.
///
/// # Errors
/// When a socket or `control` is broken, or `control` says something that is neither a zone nor an admission.
pub fn serve(
    clients: Ipv4Net,
    udp: UdpSocket,
    tcp: TcpListener,
    control: UnixStream,
) -> io::Result<()> {
    tcp.set_nonblocking(true)?;
    let mut zone = Zone::default();
    let mut queries = udp::Queries::new(clients, udp)?;
    let mut conversations = tcp::Conversations::default();
    let mut admissions = Admissions::new(Control::new(control)?);
    loop {
        let ready = wait(&admissions.control, &tcp, &queries, &conversations)?;
        if ready.control {
            let Some(told) = admissions.hear()? else {
                return Ok(());
            };
            for told in told {
                match told {
                    Told::Zone(new) => {
                        zone = new.known();
                        admissions.shares.keep(|client| zone.knows(*client));
                        queries.zone_is_new(&zone, &mut admissions);
                    }
                    Told::Admitted { id, addresses } => {
                        queries.admitted(id, &addresses);
                        conversations.admitted(id, &addresses);
                    }
                }
            }
            // Positions have changed: the rest is found ready the next time.
            continue;
        }
        queries.go_on(&ready.queries, &zone, &mut admissions);
        conversations.go_on(&ready.conversations, &zone, &mut admissions);
        if ready.tcp {
            conversations.accept(&tcp, clients, &zone);
        }
    }
}

/// What `poll` found.
struct Ready {
    control: bool,
    tcp: bool,
    queries: Vec<bool>,
    conversations: Vec<bool>,
}

fn wait(
    control: &Control,
    tcp: &TcpListener,
    queries: &udp::Queries,
    conversations: &tcp::Conversations,
) -> io::Result<Ready> {
    let mut fds = vec![control.poll_fd(), PollFd::new(tcp, PollFlags::IN)];
    fds.extend(queries.poll_fds());
    let of_queries = 2..fds.len();
    fds.extend(conversations.poll_fds());
    // Without queries on their way nothing wakes this process but a client.
    let deadlines = [queries.first_deadline(), conversations.first_deadline()];
    let timeout = deadlines.into_iter().flatten().min().and_then(|until| {
        let left = until.saturating_duration_since(Instant::now());
        Timespec::try_from(left + Duration::from_millis(1)).ok()
    });
    match poll(&mut fds, timeout.as_ref()) {
        Err(rustix::io::Errno::INTR) => fds.iter_mut().for_each(|fd| fd.clear_revents()),
        Err(e) => return Err(e.into()),
        Ok(_) => {}
    }
    let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
    Ok(Ready {
        control: ready[0],
        tcp: ready[1],
        conversations: ready[of_queries.end..].to_vec(),
        queries: ready[of_queries].to_vec(),
    })
}

/// Nobody else is answered: the gateway's address can be reached by others too.
fn is_client(clients: Ipv4Net, from: SocketAddr) -> bool {
    matches!(from.ip(), IpAddr::V4(ip) if clients.contains(&ip))
}

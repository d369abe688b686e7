//! Hands a batch to the kernel and reads its answer. Never waits: nfnetlink works inside `send`, so whatever it has to say is
//! queued when `send` returns.

use std::io;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

use super::message::{Attributes, Message, encode};
use super::uapi::*;

/// Answers are 36 bytes with NETLINK_CAP_ACK; older kernels echo the request, of which the head is enough.
const ANSWER_BYTES: usize = 8192;

#[derive(Debug, thiserror::Error)]
pub enum NftError {
    #[error("nftables: cannot {action}{}", hint(.source))]
    Socket {
        action: &'static str,
        source: io::Error,
    },
    #[error("nftables: this kernel cannot do {what}: it needs {option}")]
    MissingOption {
        what: String,
        option: &'static str,
        source: io::Error,
    },
    #[error("nftables: the kernel refused {what}")]
    Refused { what: String, source: io::Error },
    #[error("nftables: the kernel did not answer a batch of {messages} messages")]
    NoAnswer { messages: usize },
}

fn hint(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT) => {
            " (the kernel needs CONFIG_NETFILTER_NETLINK and CONFIG_NF_TABLES)"
        }
        Some(libc::EPERM) => " (CAP_NET_ADMIN is needed)",
        _ => "",
    }
}

impl NftError {
    /// The kernel lacks what was asked for.
    pub(crate) fn is_missing_option(&self) -> bool {
        matches!(self, Self::MissingOption { .. })
    }

    /// The error number of a refused message.
    pub(crate) fn refused_with(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } | Self::MissingOption { source, .. } => {
                source.raw_os_error()
            }
            _ => None,
        }
    }
}

/// A socket of the network namespace that it was opened in.
pub(crate) struct NftSocket {
    socket: Socket,
    sequence: u32,
}

impl NftSocket {
    pub fn open() -> Result<Self, NftError> {
        let failed = |action| move |source| NftError::Socket { action, source };
        let mut socket =
            Socket::new(NETLINK_NETFILTER).map_err(failed("open a netfilter socket"))?;
        socket
            .bind_auto()
            .map_err(failed("bind the netfilter socket"))?;
        // Linux 4.3; without it answers are longer, not different.
        let _ = socket.set_cap_ack(true);
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// All of it or nothing.
    ///
    /// # Errors
    /// The first message that the kernel refused, by name, with the missing option where that is what it means.
    pub fn commit(&mut self, messages: &[Message]) -> Result<(), NftError> {
        if messages.is_empty() {
            return Ok(());
        }
        self.forget_late_answers()?;
        let first = self.sequence.wrapping_add(1);
        let bytes = batch(messages, first);
        self.sequence = first.wrapping_add(messages.len() as u32 + 1);
        self.socket
            .send_to(&bytes, &SocketAddr::new(0, 0), 0)
            .map_err(|source| NftError::Socket {
                action: "send a batch",
                source,
            })?;
        let mut acknowledged = false;
        while let Some(answer) = self.receive()? {
            for (sequence, code) in answers(&answer) {
                let index = sequence.wrapping_sub(first) as usize;
                if code != 0 {
                    return Err(refusal(messages, index, -code));
                }
                acknowledged |= index == messages.len();
            }
        }
        if acknowledged {
            Ok(())
        } else {
            Err(NftError::NoAnswer {
                messages: messages.len(),
            })
        }
    }

    /// Whether the table is there; not what is in it.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn has_table(&mut self, family: u8, name: &str) -> Result<bool, NftError> {
        self.forget_late_answers()?;
        self.sequence = self.sequence.wrapping_add(1);
        let kind = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE;
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        let which = Attributes::default().text(NFTA_TABLE_NAME, name);
        let mut bytes = Vec::new();
        encode(&mut bytes, kind, flags, self.sequence, family, 0, &which);
        let failed = |source| NftError::Socket {
            action: "ask for a table",
            source,
        };
        self.socket
            .send_to(&bytes, &SocketAddr::new(0, 0), 0)
            .map_err(failed)?;
        while let Some(answer) = self.receive()? {
            for (sequence, code) in answers(&answer) {
                match -code {
                    _ if sequence != self.sequence => {}
                    0 => return Ok(true),
                    // No such family, in this kernel or yet in this namespace, has no table.
                    libc::ENOENT | libc::EAFNOSUPPORT => return Ok(false),
                    code => return Err(failed(io::Error::from_raw_os_error(code))),
                }
            }
        }
        Err(NftError::NoAnswer { messages: 1 })
    }

    fn receive(&self) -> Result<Option<Vec<u8>>, NftError> {
        let mut buffer = Vec::with_capacity(ANSWER_BYTES);
        match self.socket.recv(&mut buffer, libc::MSG_DONTWAIT) {
            Ok(_) => Ok(Some(buffer)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            // More refusals than the socket holds: the first ones, which say why, are in it.
            Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => self.receive(),
            Err(source) => Err(NftError::Socket {
                action: "read the answer",
                source,
            }),
        }
    }

    /// After an error the answers to the rest of that batch are still queued.
    fn forget_late_answers(&self) -> Result<(), NftError> {
        while self.receive()?.is_some() {}
        Ok(())
    }
}

/// Batch mark, messages, batch mark. `first` is the mark's sequence number; only the last message asks for an
/// acknowledgement, since errors come unasked and many acknowledgements could overrun the socket.
pub(super) fn batch(messages: &[Message], first: u32) -> Vec<u8> {
    let request = libc::NLM_F_REQUEST as u16;
    let mut bytes = Vec::new();
    let nothing = Attributes::default();
    let mark = |bytes: &mut Vec<u8>, kind, sequence| {
        encode(
            bytes,
            kind,
            request,
            sequence,
            NFPROTO_UNSPEC,
            NFNL_SUBSYS_NFTABLES,
            &nothing,
        );
    };
    mark(&mut bytes, NFNL_MSG_BATCH_BEGIN, first);
    let mut sequence = first;
    for (index, message) in messages.iter().enumerate() {
        sequence = sequence.wrapping_add(1);
        let last = index + 1 == messages.len();
        let ack = if last { libc::NLM_F_ACK as u16 } else { 0 };
        let kind = NFNL_SUBSYS_NFTABLES << 8 | message.kind;
        let flags = request | ack | message.flags;
        encode(
            &mut bytes,
            kind,
            flags,
            sequence,
            message.family,
            0,
            &message.attributes,
        );
    }
    mark(&mut bytes, NFNL_MSG_BATCH_END, sequence.wrapping_add(1));
    bytes
}

/// Sequence numbers and codes (0, or a negative errno) of the NLMSG_ERROR messages in an answer; anything else is skipped.
pub(super) fn answers(bytes: &[u8]) -> Vec<(u32, i32)> {
    let word = |at: usize| {
        bytes
            .get(at..at + 4)?
            .try_into()
            .ok()
            .map(u32::from_ne_bytes)
    };
    let mut found = Vec::new();
    let mut at = 0;
    while let (Some(length), Some(kind_and_flags), Some(sequence)) =
        (word(at), word(at + 4), word(at + 8))
    {
        let kind = u16::from_ne_bytes([
            kind_and_flags.to_ne_bytes()[0],
            kind_and_flags.to_ne_bytes()[1],
        ]);
        if i32::from(kind) == libc::NLMSG_ERROR
            && let Some(code) = word(at + 16)
        {
            found.push((sequence, code as i32));
        }
        if length < 16 {
            break;
        }
        at += (length as usize).next_multiple_of(4);
    }
    found
}

fn refusal(messages: &[Message], index: usize, errno: i32) -> NftError {
    let source = io::Error::from_raw_os_error(errno);
    let missing = matches!(
        errno,
        libc::ENOENT | libc::EOPNOTSUPP | libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT
    );
    // Index 0 is the batch mark: refused where nf_tables as a whole is missing.
    let message = index.checked_sub(1).and_then(|i| messages.get(i));
    let (what, option) = message.map_or(("the batch".to_owned(), "CONFIG_NF_TABLES"), |m| {
        (m.what.clone(), m.needs)
    });
    if missing {
        NftError::MissingOption {
            what,
            option,
            source,
        }
    } else {
        NftError::Refused { what, source }
    }
}

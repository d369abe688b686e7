//! How much passes a veth: counters, and the shaping of what goes into a container.

use futures_util::StreamExt;
use netlink_packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkAttribute;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption};
use serde::{Deserialize, Serialize};

use super::{LinkError, Links, Refusal, SHAPE, request_error};

/// linux/pkt_sched.h.
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
const LINKLAYER_ETHERNET: u8 = 1;
/// The least burst, in bytes: a few full packets, and what a timer of 250 Hz lets through in one tick at slow rates.
const MIN_BURST: u64 = 32 * 1024;

/// What went through a container's interface since it was made, as the container counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    pub received_bytes: u64,
    pub received_packets: u64,
    pub sent_bytes: u64,
    pub sent_packets: u64,
}

impl Links {
    /// None where the interface is gone.
    pub async fn counters(&self, host_if: &str) -> Result<Option<Counters>, LinkError> {
        let Some(message) = self.describe(host_if).await? else {
            return Ok(None);
        };
        let stats = message.attributes.iter().find_map(|a| match a {
            LinkAttribute::Stats64(stats) => Some(stats),
            _ => None,
        });
        // What arrives at our end of the pair was sent by the container.
        Ok(stats.map(|stats| Counters {
            received_bytes: stats.tx_bytes,
            received_packets: stats.tx_packets,
            sent_bytes: stats.rx_bytes,
            sent_packets: stats.rx_packets,
        }))
    }

    /// What goes out of this interface is held to a rate: a token bucket (tc-tbf(8)) with a queue of a tenth of a second.
    pub async fn shape(&self, name: &str, bytes_per_second: u64) -> Result<(), LinkError> {
        let Some(link) = self.find(name).await? else {
            let gone = Refusal::Gone;
            return Err(request_error("find the new veth", name, gone));
        };
        let mut message = TcMessage::with_index(link.index as i32);
        message.header.parent = TcHandle::ROOT;
        message.header.handle = TcHandle { major: 1, minor: 0 };
        message.attributes = vec![
            TcAttribute::Kind("tbf".to_owned()),
            TcAttribute::Options(token_bucket(bytes_per_second)),
        ];
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewQueueDiscipline(message));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        let mut handle = self.handle.clone();
        let answers = handle.request(request);
        let mut answers = std::pin::pin!(answers.map_err(|e| request_error(SHAPE, name, e))?);
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(error) = answer.payload
                && error.code.is_some()
            {
                let refused = Refusal::Kernel(error.to_io());
                return Err(request_error(SHAPE, name, refused));
            }
        }
        Ok(())
    }
}

fn token_bucket(bytes_per_second: u64) -> Vec<TcOption> {
    let burst = (bytes_per_second / 100).max(MIN_BURST);
    let queue = burst + bytes_per_second / 10;
    let small = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    // struct tc_tbf_qopt: two struct tc_ratespec of twelve bytes, limit, buffer, mtu. The burst is said apart.
    let mut parameters = vec![0, LINKLAYER_ETHERNET, 0, 0, 0, 0, 0, 0];
    parameters.extend(small(bytes_per_second).to_ne_bytes());
    parameters.extend([0; 12]);
    parameters.extend(small(queue).to_ne_bytes());
    parameters.extend([0; 8]);
    let option = |kind, bytes: Vec<u8>| TcOption::Other(DefaultNla::new(kind, bytes));
    let mut options = vec![
        option(TCA_TBF_PARMS, parameters),
        option(TCA_TBF_BURST, small(burst).to_ne_bytes().to_vec()),
    ];
    if bytes_per_second > u64::from(u32::MAX) {
        options.push(option(
            TCA_TBF_RATE64,
            bytes_per_second.to_ne_bytes().to_vec(),
        ));
    }
    options
}

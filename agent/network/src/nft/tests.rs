use std::net::{IpAddr, Ipv4Addr};

use super::expression as x;
use super::message as m;
use super::sets;
use super::transaction::{answers, batch};
use super::uapi::*;
use super::{EgressTable, Forward, Limit, Members, Ruleset, replace_limits};
use crate::config::NetworkConfig;
use crate::port::{Protocol, PublishedPort};

/// Bytes from text such as "14 00 | 0a". Golden bytes are of little-endian machines, as every board of ours is.
fn hex(text: &str) -> Vec<u8> {
    text.split(|c: char| c.is_whitespace() || c == '|')
        .filter(|w| !w.is_empty())
        .map(|w| u8::from_str_radix(w, 16).unwrap())
        .collect()
}

#[test]
fn a_batch_is_framed_and_only_its_last_message_asks_for_an_answer() {
    let messages = [
        m::new_table(NFPROTO_IPV4, "coracle-a", false),
        m::delete_table(NFPROTO_INET, "coracle-a"),
    ];
    let golden = hex(
        "14 00 00 00 | 10 00 | 01 00 | 07 00 00 00 | 00 00 00 00 | 00 00 00 0a
         2c 00 00 00 | 00 0a | 01 04 | 08 00 00 00 | 00 00 00 00 | 02 00 00 00
           0e 00 01 00 63 6f 72 61 63 6c 65 2d 61 00 00 00 | 08 00 02 00 00 00 00 00
         24 00 00 00 | 02 0a | 05 00 | 09 00 00 00 | 00 00 00 00 | 01 00 00 00
           0e 00 01 00 63 6f 72 61 63 6c 65 2d 61 00 00 00
         14 00 00 00 | 11 00 | 01 00 | 0a 00 00 00 | 00 00 00 00 | 00 00 00 0a",
    );
    assert_eq!(batch(&messages, 7), golden);
}

#[test]
fn a_rule_is_a_list_of_named_expressions() {
    let rule = m::new_rule(NFPROTO_INET, "t", "c", &[x::drop()]);
    let golden = hex("06 00 01 00 74 00 00 00 | 06 00 02 00 63 00 00 00
         34 00 04 80
           30 00 01 80
             0e 00 01 00 69 6d 6d 65 64 69 61 74 65 00 00 00
             1c 00 02 80
               08 00 01 00 00 00 00 00
               10 00 02 80
                 0c 00 02 80
                   08 00 01 00 00 00 00 00");
    // Between the batch's marks, behind the rule's own headers, twenty bytes each.
    let frame = batch(&[rule], 0);
    assert_eq!(&frame[20 + 20..frame.len() - 20], golden);
}

#[test]
fn a_published_port_becomes_a_padded_key_and_value() {
    let forward = |host_ip: Option<IpAddr>| Forward {
        app: "web".into(),
        port: PublishedPort {
            host_ip,
            host_port: 8080,
            container_port: 80,
            protocol: Protocol::Udp,
        },
        to: Ipv4Addr::new(172, 30, 0, 2),
    };
    assert_eq!(
        x::concatenation(None, Some(17), 8080),
        hex("11 00 00 00 1f 90 00 00")
    );
    assert_eq!(
        x::concatenation(Some(Ipv4Addr::LOCALHOST.into()), Some(6), 80),
        hex("7f 00 00 01 06 00 00 00 00 50 00 00")
    );
    assert_eq!(
        x::concatenation(Some(Ipv4Addr::new(172, 30, 0, 2).into()), None, 80),
        hex("ac 1e 00 02 00 50 00 00")
    );
    let config = NetworkConfig::new("cor0", "172.30.0.0/16".parse().unwrap());
    let rules = Ruleset::new(&config);
    let of = |ip| {
        let messages = rules.set_ports(&[forward(ip)]);
        messages.iter().map(|m| m.what.clone()).collect::<Vec<_>>()
    };
    assert_eq!(of(None).last().unwrap(), "elements of coracle-cor0 ports");
    assert_eq!(of(Some(Ipv4Addr::UNSPECIFIED.into())), of(None));
    assert_eq!(
        of(Some(Ipv4Addr::LOCALHOST.into())).last().unwrap(),
        "elements of coracle-cor0 ports_at"
    );
}

#[test]
fn each_rule_that_needs_an_option_of_its_own_names_it() {
    let config = NetworkConfig::new("cor0", "172.30.0.0/16".parse().unwrap());
    let messages = Ruleset::new(&config).create_first();
    let needs = |part: &str| {
        let message = messages.iter().find(|m| m.what.contains(part));
        message.map(|m| m.needs).unwrap()
    };
    assert_eq!(needs("masq"), "CONFIG_NFT_MASQ");
    assert_eq!(needs(" nat)"), "CONFIG_NFT_NAT");
    assert_eq!(needs("(meta cmp ct"), "CONFIG_NFT_CT");
    assert_eq!(
        needs("chain coracle-cor0 postrouting"),
        "CONFIG_NF_NAT and CONFIG_NFT_NAT"
    );
    assert_eq!(messages[1].needs, "CONFIG_NF_TABLES_INET");
}

#[test]
fn answers_are_read_and_broken_ones_do_no_harm() {
    let refused = hex(
        "24 00 00 00 02 00 00 00 09 00 00 00 00 00 00 00 | fe ff ff ff | 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00",
    );
    let done = hex(
        "24 00 00 00 02 00 00 00 0a 00 00 00 00 00 00 00 | 00 00 00 00 | 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00",
    );
    assert_eq!(
        answers(&[refused.clone(), done].concat()),
        [(9, -libc::ENOENT), (10, 0)]
    );
    for cut in 0..refused.len() {
        assert!(answers(&refused[..cut]).len() <= 1);
    }
    assert_eq!(answers(&[0; 64]), []);
}

#[test]
fn a_list_of_places_to_go_names_the_options_that_it_needs() {
    let config = NetworkConfig::new("cor0", "172.30.0.0/16".parse().unwrap());
    let guard = [Limit {
        host_if: "vcor0ac1e0002",
        bytes_per_second: None,
        only_from: Some((Ipv4Addr::new(172, 30, 0, 2), None)),
    }];
    let messages = replace_limits(&config, &guard);
    let needs = |messages: &[m::Message], part: &str| {
        let message = messages.iter().rfind(|m| m.what.contains(part));
        message.map(|m| m.needs).unwrap()
    };
    assert_eq!(needs(&messages, "table"), "CONFIG_NF_TABLES_NETDEV");
    assert_eq!(needs(&messages, "chain"), "CONFIG_NETFILTER_INGRESS");
    // What it does not know and two lies, and no limit beside them.
    assert_eq!(
        messages
            .iter()
            .filter(|m| m.what.starts_with("rule"))
            .count(),
        3
    );
    let nobody = Members {
        confined: Vec::new(),
        open: Vec::new(),
    };
    let messages = EgressTable::new(&config).replace(&nobody);
    assert_eq!(needs(&messages, "table"), "CONFIG_NF_TABLES_INET");
    assert!(needs(&messages, "set").contains("CONFIG_NFT_SET_HASH"));
}

#[test]
fn a_set_that_fades_and_its_elements_are_as_the_kernel_has_them() {
    let set = sets::new_fading_set(NFPROTO_INET, "t", "s", 3, false, 64);
    let golden = hex("06 00 01 00 74 00 00 00 | 06 00 02 00 73 00 00 00
         08 00 03 00 00 00 00 10 | 08 00 04 00 00 00 00 07 | 08 00 05 00 00 00 00 04
         0c 00 09 80 | 08 00 01 00 00 00 00 40
         08 00 0a 00 00 00 00 03");
    let inside = |message| {
        let frame = batch(&[message], 0);
        frame[20 + 20..frame.len() - 20].to_vec()
    };
    assert_eq!(inside(set), golden);
    let key = vec![192, 0, 2, 7];
    let elements = sets::add_for_a_while(NFPROTO_INET, "t", "s", &[(key.clone(), 90_000)]);
    let golden = hex("06 00 01 00 74 00 00 00 | 06 00 02 00 73 00 00 00
         20 00 03 80 | 1c 00 01 80
           0c 00 01 80 | 08 00 01 00 c0 00 02 07
           0c 00 04 00 00 00 00 00 00 01 5f 90
         ");
    let found = inside(elements);
    assert_eq!(found[16..], golden[16..], "{found:02x?}");
    let ways = sets::add_ways(NFPROTO_INET, "t", "m", &[(key, Some("to".into()))]);
    let golden = hex("2c 00 03 80 | 28 00 01 80
           0c 00 01 80 | 08 00 01 00 c0 00 02 07
           18 00 02 80 | 14 00 02 80 | 08 00 01 00 ff ff ff fc | 07 00 02 00 74 6f 00 00");
    assert_eq!(inside(ways)[16..], golden);
}

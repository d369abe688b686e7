use std::net::Ipv4Addr;

use super::expression as x;
use super::message as m;
use super::transaction::{answers, batch};
use super::uapi::*;
use super::{Forward, Ruleset};
use crate::config::{NetworkConfig, Protocol, PublishedPort};

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

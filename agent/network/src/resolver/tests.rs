use super::message::{A, AAAA, Question, SERVER_FAILURE};

/// "db" of kind A, number 0x1234, recursion desired.
const QUERY: &[u8] = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x02Db\x00\x00\x01\x00\x01";

#[test]
fn a_question_is_read_and_answered() {
    let question = Question::read(QUERY).unwrap();
    assert_eq!(question.name, "db");
    let addresses = ["10.89.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
    let golden = b"\x12\x34\x85\x80\x00\x01\x00\x01\x00\x00\x00\x00\x02Db\x00\x00\x01\x00\x01\
                   \xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04\x0a\x59\x00\x02";
    assert_eq!(question.answer(QUERY, &addresses), golden);
    let failure = question.failure(QUERY, SERVER_FAILURE);
    assert_eq!(failure[..8], *b"\x12\x34\x81\x82\x00\x01\x00\x00");
}

#[test]
fn broken_queries_do_no_harm() {
    for cut in 0..QUERY.len() {
        assert_eq!(Question::read(&QUERY[..cut]), None, "{cut}");
    }
    let change = |at: usize, value: u8| {
        let mut bytes = QUERY.to_vec();
        bytes[at] = value;
        bytes
    };
    // A response, another operation, two questions, a pointer, a label beyond the end.
    for bad in [
        change(2, 0x81),
        change(2, 0x28),
        change(5, 2),
        change(12, 0xc0),
        change(12, 63),
    ] {
        assert_eq!(Question::read(&bad), None);
    }
    let mut long = QUERY[..12].to_vec();
    for _ in 0..6 {
        long.push(63);
        long.extend([b'a'; 63]);
    }
    long.extend([0, 0, 1, 0, 1]);
    assert_eq!(Question::read(&long), None);
}

/// A query for the name.
pub(super) fn asked(name: &str, kind: u16) -> Vec<u8> {
    let mut message = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
    message.extend(name_of(name));
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    message
}

fn name_of(name: &str) -> Vec<u8> {
    let labels = name
        .split('.')
        .map(|label| [&[label.len() as u8], label.as_bytes()].concat());
    let mut bytes = labels.collect::<Vec<_>>().concat();
    bytes.push(0);
    bytes
}

pub(super) fn record(owner: &str, kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = name_of(owner);
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    bytes.extend(ttl.to_be_bytes());
    bytes.extend((data.len() as u16).to_be_bytes());
    bytes.extend(data);
    bytes
}

#[test]
fn what_is_retold_fits_every_client() {
    let query = asked(&format!("{}.example", ["a"; 110].join(".")), AAAA);
    let question = Question::read(&query).unwrap();
    let addresses = [std::net::Ipv6Addr::LOCALHOST.into(); 40];
    let answer = question.retell(&query, &addresses, 300);
    assert!((400..=512).contains(&answer.len()), "{}", answer.len());
    assert_eq!(usize::from(answer[7]), (answer.len() - query.len()) / 28);
    assert!(question.too_long(&query)[2] & 2 != 0);
}

#[test]
fn a_dot_inside_of_a_label_is_no_border() {
    let mut query = asked("mqtt-example", A);
    query[17] = b'.';
    assert_eq!(Question::read(&query).unwrap().name, "mqtt\\.example");
}

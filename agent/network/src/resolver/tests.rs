use super::message::{Question, SERVER_FAILURE};

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

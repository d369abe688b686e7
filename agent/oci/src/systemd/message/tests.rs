use super::*;

/// A message of this kind, as a peer would send it.
pub fn heard(kind: u8, answers: Option<u32>, names: &[(u8, &str)], body: &Body) -> Vec<u8> {
    let mut message = Body::default();
    message.bytes.extend([b'l', kind, 1, 1]);
    message.put_u32(body.bytes.len() as u32);
    message.put_u32(7);
    let mut fields: Vec<(u8, String)> = names
        .iter()
        .map(|(code, text)| (*code, (*text).to_owned()))
        .collect();
    if !body.signature.is_empty() {
        fields.push((SIGNATURE, body.signature.clone()));
    }
    let start = message.bytes.len() + 4;
    message.put_u32(0);
    if let Some(serial) = answers {
        message.bytes.push(REPLY_SERIAL);
        message.put_signature("u");
        message.put_u32(serial);
    }
    for (code, text) in fields {
        message.align(8);
        message.bytes.push(code);
        if code == SIGNATURE {
            message.put_signature("g");
            message.put_signature(&text);
        } else {
            message.put_signature(if code == PATH { "o" } else { "s" });
            message.put_text(&text);
        }
    }
    let length = (message.bytes.len() - start) as u32;
    message.bytes[start - 4..start].copy_from_slice(&length.to_le_bytes());
    message.align(8);
    message.bytes.extend(&body.bytes);
    message.bytes
}

pub fn answer(to: u32, sender: &str, body: &Body) -> Vec<u8> {
    heard(METHOD_RETURN, Some(to), &[(SENDER, sender)], body)
}

pub fn refusal(to: u32, name: &str, text: &str) -> Vec<u8> {
    heard(
        ERROR,
        Some(to),
        &[(ERROR_NAME, name)],
        &Body::default().text(text),
    )
}

pub fn path(path: &str) -> Body {
    let mut body = Body::default().text(path);
    body.signature = "o".into();
    body
}

pub fn variant(text: &str) -> Body {
    let mut body = Body::default();
    body.put_variant(&Value::Text(text.into()));
    body.signature = "v".into();
    body
}

pub fn job_removed(sender: &str, job: &str, unit: &str, result: &str) -> Vec<u8> {
    let mut body = Body::default();
    body.put_u32(9);
    body.put_text(job);
    body.put_text(unit);
    body.put_text(result);
    body.signature = "uoss".into();
    let names = [
        (PATH, "/org/freedesktop/systemd1"),
        (INTERFACE, "org.freedesktop.systemd1.Manager"),
        (MEMBER, "JobRemoved"),
        (SENDER, sender),
    ];
    heard(SIGNAL, None, &names, &body)
}

/// The bytes are those of another implementation, jeepney 0.9.
#[test]
fn a_call_is_written_as_the_specification_wants_it() {
    let to = Call {
        destination: "a.b",
        path: "/p",
        interface: "i.j",
        member: "M",
    };
    let body = Body::default()
        .text("x")
        .properties(&[("B", Value::Bool(true)), ("P", Value::Numbers(vec![258]))]);
    let bytes = call(1, &to, &body);
    #[rustfmt::skip]
    let expected = [
        b'l', 1, 0, 1, 52, 0, 0, 0, 1, 0, 0, 0, 76, 0, 0, 0,
        1, 1, b'o', 0, 2, 0, 0, 0, b'/', b'p', 0, 0, 0, 0, 0, 0,
        2, 1, b's', 0, 3, 0, 0, 0, b'i', b'.', b'j', 0, 0, 0, 0, 0,
        3, 1, b's', 0, 1, 0, 0, 0, b'M', 0, 0, 0, 0, 0, 0, 0,
        6, 1, b's', 0, 3, 0, 0, 0, b'a', b'.', b'b', 0, 0, 0, 0, 0,
        8, 1, b'g', 0, 6, b's', b'a', b'(', b's', b'v', b')', 0, 0, 0, 0, 0,
        1, 0, 0, 0, b'x', 0, 0, 0, 36, 0, 0, 0, 0, 0, 0, 0,
        1, 0, 0, 0, b'B', 0, 1, b'b', 0, 0, 0, 0, 1, 0, 0, 0,
        1, 0, 0, 0, b'P', 0, 2, b'a', b'u', 0, 0, 0, 4, 0, 0, 0, 2, 1, 0, 0,
    ];
    assert_eq!(bytes, expected);
    assert_eq!(length(bytes.first_chunk().unwrap()).unwrap(), bytes.len());
    let read = parse(&bytes).unwrap();
    assert_eq!((read.kind, read.member.as_str()), (METHOD_CALL, "M"));
    assert_eq!(read.signature, "sa(sv)");
}

#[test]
fn either_order_of_bytes_is_read() {
    let little = job_removed(":1.1", "/j/1", "a.scope", "done");
    let read = parse(&little).unwrap();
    let mut arguments = read.arguments("uoss").unwrap();
    assert_eq!(arguments.u32(), Ok(9));
    assert_eq!(arguments.text(), Ok("/j/1"));
    assert_eq!(arguments.text(), Ok("a.scope"));
    assert_eq!(arguments.text(), Ok("done"));

    #[rustfmt::skip]
    let big: &[u8] = &[
        b'B', 2, 1, 1, 0, 0, 0, 8, 0, 0, 0, 3, 0, 0, 0, 15,
        5, 1, b'u', 0, 0, 0, 0, 4, 8, 1, b'g', 0, 1, b's', 0, 0,
        0, 0, 0, 3, b'a', b'b', b'c', 0,
    ];
    let read = parse(big).unwrap();
    assert_eq!(read.answers, Some(4));
    assert_eq!(read.arguments("s").unwrap().text(), Ok("abc"));
}

/// Cut at any place, or with any one byte changed, it is refused or read, and nothing else happens.
#[test]
fn hostile_messages_are_refused_or_read() {
    let whole = job_removed(":1.1", "/j/1", "a.scope", "done");
    for end in 0..whole.len() {
        assert!(parse(&whole[..end]).is_err(), "cut at {end}");
    }
    for at in 0..whole.len() {
        for byte in [0, 1, 7, 0x7f, 0x80, 0xff] {
            let mut changed = whole.clone();
            changed[at] = byte;
            if let Ok(read) = parse(&changed) {
                let _ = read.explanation();
                if let Ok(mut arguments) = read.arguments("uoss") {
                    let _ = (arguments.u32(), arguments.text(), arguments.variant_text());
                }
            }
        }
    }
    let mut too_large = [0; FIXED];
    too_large[..4].copy_from_slice(&[b'l', 2, 0, 1]);
    for (body, fields) in [
        (u32::MAX, 0),
        (0, u32::MAX),
        (LARGEST as u32, 0),
        (u32::MAX, u32::MAX),
    ] {
        too_large[4..8].copy_from_slice(&body.to_le_bytes());
        too_large[12..16].copy_from_slice(&fields.to_le_bytes());
        assert!(length(&too_large).unwrap_err().contains("too large"));
    }
}

#[test]
fn text_is_utf8_and_ends_where_it_says() {
    let body = |text: &[u8]| {
        let mut body = Body::default().text("abc");
        body.bytes[4..7].copy_from_slice(text);
        parse(&answer(1, ":1.1", &body)).unwrap()
    };
    assert_eq!(body(b"xyz").explanation(), "xyz");
    assert_eq!(body(&[0xff; 3]).explanation(), "");
    assert_eq!(body(b"x\0z").explanation(), "");
}

use super::*;
use proptest::prelude::*;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;

fn public() -> Vec<u8> {
    let mut bytes = wire::signing_template();
    bytes.truncate(bytes.len() - 4);
    // A TPM may leave leading zeros out.
    wire::sized(&mut bytes, &[7; 31]);
    wire::sized(&mut bytes, &[9; 32]);
    bytes
}

fn key(device: &Path) -> TpmKey {
    TpmKey::new(device, public(), vec![5; 130]).unwrap()
}

/// An answer with a session, as a TPM gives it.
fn answer(handle: Option<u32>, parameters: &[u8]) -> Vec<u8> {
    let mut body = handle.map_or(Vec::new(), |handle| handle.to_be_bytes().to_vec());
    body.extend((parameters.len() as u32).to_be_bytes());
    body.extend(parameters);
    body.extend([0; 5]);
    let size = (wire::HEADER + body.len()) as u32;
    [&b"\x80\x02"[..], &size.to_be_bytes(), &[0; 4], &body].concat()
}

fn refusal(code: u32) -> Vec<u8> {
    [&b"\x80\x01\0\0\0\x0a"[..], &code.to_be_bytes()].concat()
}

fn signed() -> Vec<u8> {
    let mut bytes = b"\0\x18\0\x0b".to_vec();
    wire::sized(&mut bytes, &[0x80; 32]);
    wire::sized(&mut bytes, &[1; 20]);
    bytes
}

fn made() -> Vec<u8> {
    let mut bytes = Vec::new();
    wire::sized(&mut bytes, &[5; 130]);
    wire::sized(&mut bytes, &public());
    bytes
}

/// A TPM that gives one answer after the other, and the last one for ever.
fn with_tpm<T>(answers: &[Vec<u8>], work: impl FnOnce(&Path) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tpm");
    let listener = UnixListener::bind(&path).unwrap();
    let answers = answers.to_vec();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        for at in 0.. {
            let mut command = [0; 4096];
            match stream.read(&mut command) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let now = answers.get(at).or(answers.last()).unwrap();
            if stream.write_all(now).is_err() {
                return;
            }
            if now.len() < wire::HEADER || at > 20 {
                return;
            }
        }
    });
    work(&path)
}

#[test]
fn a_wrapped_key_is_read_as_it_was_written() {
    let device = Path::new(DEVICE);
    let pem = key(device).to_pem();
    assert!(is_wrapped(pem.as_bytes()) && !is_wrapped(b"-----BEGIN PRIVATE KEY-----"));
    let behind = format!("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n{pem}");
    let read = TpmKey::from_pem(device, behind.as_bytes()).unwrap();
    assert_eq!((&read.public, &read.private), (&public(), &vec![5; 130]));
    assert_eq!((read.point.len(), &read.point[..3]), (65, &[4, 0, 7][..]));
    // OpenSSL's own view of the file's form.
    for line in pem.lines() {
        assert!(line.len() <= 64, "{line}");
    }
    let damaged = TpmKey::from_pem(device, pem.replace("MIH", "MIG").as_bytes()).unwrap_err();
    assert!(damaged.to_string().contains("coracle enrol"), "{damaged}");
}

#[test]
fn a_key_of_another_kind_is_not_taken() {
    let good = public();
    for at in 0..good.len() - 66 {
        let mut other = good.clone();
        other[at] ^= 1;
        assert_eq!(wire::point(&other), None, "byte {at}");
    }
}

#[test]
fn what_a_tpm_says_is_told_in_words() {
    let told = |answers: &[Vec<u8>]| {
        let tried = with_tpm(answers, |path| key(path).signature(b"m"));
        tried.unwrap_err().to_string()
    };
    let owner = answer(Some(0x8000_0000), &[]);
    // TPM_RC_INTEGRITY of the first parameter.
    let cleared = told(&[owner.clone(), refusal(0x1df)]);
    assert!(cleared.contains("was cleared") && cleared.contains("coracle enrol"));
    let password = told(&[refusal(0x9a2)]);
    assert!(password.contains("tpm2_changeauth"), "{password}");
    let full = told(&[refusal(0x902)]);
    assert!(full.contains("/dev/tpmrm0"), "{full}");
    let busy = told(&[refusal(0x922)]);
    assert!(busy.contains("it is busy"), "{busy}");
    let unknown = told(&[refusal(0x1ff_ffff)]);
    assert!(unknown.contains("0x1ffffff"), "{unknown}");
    let gone = TpmKey::make(Path::new("/dev/no-such-tpm")).err().unwrap();
    assert!(gone.to_string().contains("[identity] tpm"), "{gone}");
    let refused = advice(&io::ErrorKind::PermissionDenied.into());
    assert!(refused.contains("group `tss`"));
}

#[test]
fn a_tpm_that_is_busy_is_asked_again() {
    let answers = [
        refusal(0x922),
        answer(Some(0x8000_0000), &[]),
        refusal(0x90a),
        answer(Some(0x8000_0001), &[]),
        answer(None, &signed()),
        refusal(0),
    ];
    let signature = with_tpm(&answers, |path| key(path).signature(b"m")).unwrap();
    assert_eq!(signature[..5], *b"\x30\x39\x02\x21\x00");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever comes, and wherever it is cut or changed.
    #[test]
    fn hostile_bytes_are_refused_and_panic_nowhere(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        cut in 0_usize..300,
        at in 0_usize..300,
        bit in 0_u8..8,
    ) {
        let whole = [answer(Some(1), &made()), answer(None, &signed()), refusal(7)];
        for mut text in whole.into_iter().chain([bytes.clone()]) {
            text.truncate(cut);
            if let Some(byte) = text.get_mut(at) {
                *byte ^= 1 << bit;
            }
            for has_handle in [true, false] {
                if let Some(answer) = wire::answer(&text, has_handle) {
                    prop_assert!(answer.parameters.len() < text.len());
                    wire::signature(&answer.parameters);
                    wire::made(&answer.parameters);
                }
            }
            wire::signature(&text);
            wire::point(&text);
            codes::words(u32::from(text.first().copied().unwrap_or(0)) << 4);
            let der = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &text);
            let pem = format!("-----BEGIN TSS2 PRIVATE KEY-----\n{der}\n-----END TSS2 PRIVATE KEY-----\n");
            prop_assert!(TpmKey::from_pem(Path::new(DEVICE), pem.as_bytes()).is_err());
            prop_assert!(TpmKey::from_pem(Path::new(DEVICE), &text).is_err());
        }
        for (mut public, private) in [(public(), bytes.clone()), (bytes, vec![1])] {
            public.truncate(cut);
            if let Some(key) = TpmKey::new(Path::new(DEVICE), public, private) {
                prop_assert_eq!(key.point.len(), 65);
                TpmKey::from_pem(Path::new(DEVICE), key.to_pem().as_bytes()).unwrap();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// The same through the socket, up to the last command.
    #[test]
    fn a_hostile_tpm_gets_an_error_and_no_panic(
        answers in prop::collection::vec(prop_oneof![
            prop::collection::vec(any::<u8>(), 0..64),
            Just(answer(Some(1), &[])),
            Just(answer(None, &made())),
            Just(refusal(0)),
        ], 1..5),
        cut in 0_usize..200,
    ) {
        let mut answers = answers;
        answers.last_mut().unwrap().truncate(cut);
        // An end in the middle of an answer is an end of the connection here.
        answers.push(Vec::new());
        let fits = |bytes: &Vec<u8>| bytes.len() < wire::HEADER
            || bytes[2..6] == (bytes.len() as u32).to_be_bytes();
        answers.retain(fits);
        let _ = with_tpm(&answers, TpmKey::make);
        let _ = with_tpm(&answers, |path| key(path).signature(b"m"));
    }
}

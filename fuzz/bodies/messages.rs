//! What is not signed: MQTT messages, the socket between daemon and supervisor, sticks, names, topics.

use coracle_protocol::desired::Desired;
use coracle_protocol::enrol::{EnrolAnswer, EnrolRequest, EnrolmentFile};
use coracle_protocol::local::{Call, Message};
use coracle_protocol::names::{AppName, BoardId};
use coracle_protocol::renewal::{RenewAnswer, RenewRequest, Standing};
use coracle_protocol::report::{Current, Feedback, Presence, Telemetry};
use coracle_protocol::stick::Stick;
use coracle_protocol::topics::{Separator, Topic};

pub fn run(bytes: &[u8]) {
    let _ = serde_json::from_slice::<Desired>(bytes);
    let _ = serde_json::from_slice::<Current>(bytes);
    let _ = serde_json::from_slice::<Feedback>(bytes);
    let _ = serde_json::from_slice::<Presence>(bytes);
    let _ = serde_json::from_slice::<Telemetry>(bytes);
    let _ = serde_json::from_slice::<EnrolmentFile>(bytes);
    let _ = serde_json::from_slice::<EnrolRequest>(bytes);
    let _ = serde_json::from_slice::<EnrolAnswer>(bytes);
    let _ = serde_json::from_slice::<Standing>(bytes);
    let _ = serde_json::from_slice::<RenewRequest>(bytes);
    let _ = serde_json::from_slice::<RenewAnswer>(bytes);
    let _ = Stick::parse(bytes).map(|stick| {
        stick
            .assignment_for(BoardId::new("acme.b").ok().as_ref())
            .clone()
    });
    if let Ok(call) = serde_json::from_slice::<Call>(bytes) {
        let json = serde_json::to_vec(&call).expect("JSON");
        assert_eq!(serde_json::from_slice::<Call>(&json).expect("a call"), call);
    }
    if let Ok(message) = serde_json::from_slice::<Message>(bytes) {
        let json = serde_json::to_vec(&message).expect("JSON");
        assert_eq!(
            serde_json::from_slice::<Message>(&json).expect("a message"),
            message
        );
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        for separator in [Separator::Dot, Separator::Colon] {
            if let Some((board, topic)) = Topic::parse(text, separator) {
                assert_eq!(topic.of(&board, separator), text);
            }
        }
        if let Ok(board) = BoardId::new(text) {
            assert!(!board.as_str().contains(['/', '+', '#']));
        }
        if let Ok(app) = AppName::new(text) {
            assert!(!app.as_str().contains(['/', '.']));
        }
    }
}

//! What brokers that keep a user for each board must know: who may write and read which topics. Topics are with `:`.
//!
//! All that is written into these files of a board is its name, of which each character stands for itself in them but the
//! dot, which is escaped in regular expressions.

use crate::ca::CONSOLE;
use coracle_protocol::names::BoardId;
use coracle_protocol::topics::{PREFIX, ROOT_NOTICE, Separator, Topic};
use serde_json::{Value, json};

/// A topic as both brokers have it inside: levels end with a dot.
fn inside(topic: &str) -> String {
    topic.replace('/', ".")
}

fn topics(kinds: &[Topic], board: &BoardId) -> Vec<String> {
    let topic = |kind: &Topic| inside(&kind.of(board, Separator::Colon));
    kinds.iter().map(topic).collect()
}

/// NATS: users by the names of their certificates. What is for a subscription with QoS 1 comes on a subject of its own
/// below `$MQTT.sub`, which a client of MQTT cannot name itself.
pub(super) fn nats(boards: &[(BoardId, bool)]) -> String {
    let user = |name: &str, publish: Vec<String>, mut subscribe: Vec<String>| {
        subscribe.push("$MQTT.sub.>".into());
        let list = |subjects: &[String]| json!(subjects).to_string();
        format!(
            "    {{ user: \"CN={name}\", allowed_connection_types: [\"MQTT\"], permissions: {{ publish: {}, subscribe: {} }} }}\n",
            list(&publish),
            list(&subscribe),
        )
    };
    let all = || vec![inside(PREFIX) + ".>"];
    let mut text =
        "# Written by coracle-console boards rights.\nauthorization {\n  users = [\n".to_owned();
    text += &user(CONSOLE, all(), all());
    for (board, _) in boards.iter().filter(|(_, revoked)| !revoked) {
        let mut read = topics(&Topic::TO_BOARDS, board);
        read.push(inside(ROOT_NOTICE));
        text += &user(board.as_str(), topics(&Topic::BY_BOARDS, board), read);
    }
    text + "  ]\n}"
}

/// RabbitMQ: definitions. The name of a client's queue comes from its client identifier, so that the right to one binds it.
/// `identifier`: the console's, which is not its name.
pub(super) fn rabbitmq(boards: &[(BoardId, bool)], identifier: &str) -> String {
    let exactly = |names: &[String]| {
        let names: Vec<_> = names.iter().map(|name| name.replace('.', "\\.")).collect();
        format!("^({})$", names.join("|"))
    };
    let (mut users, mut permissions, mut topic_permissions) = (vec![], vec![], vec![]);
    let mut add = |name: &str, queues: Value, exchange: Value, write: String, read: String| {
        users.push(json!({"name": name, "password_hash": "", "tags": ""}));
        permissions.push(json!({
            "user": name, "vhost": "/", "configure": queues, "write": exchange, "read": exchange,
        }));
        topic_permissions.push(json!({
            "user": name, "vhost": "/", "exchange": "amq.topic", "write": write, "read": read,
        }));
    };
    let own = |name: &str| {
        let queues = [0, 1].map(|qos| format!("mqtt-subscription-{name}qos{qos}"));
        let with_exchange = [&queues[..], &["amq.topic".to_owned()]].concat();
        (json!(exactly(&queues)), json!(exactly(&with_exchange)))
    };
    let (queues, exchange) = own(identifier);
    let all = || format!("^{}\\.", inside(PREFIX).replace('.', "\\."));
    add(CONSOLE, queues, exchange, all(), all());
    for (board, revoked) in boards {
        // An import takes no user away: one that is revoked is to be in it, and may do nothing.
        let ((queues, exchange), write, read) = match revoked {
            true => ((json!("^$"), json!("^$")), Vec::new(), Vec::new()),
            false => {
                let mut read = topics(&Topic::TO_BOARDS, board);
                read.push(inside(ROOT_NOTICE));
                (own(board.as_str()), topics(&Topic::BY_BOARDS, board), read)
            }
        };
        add(
            board.as_str(),
            queues,
            exchange,
            exactly(&write),
            exactly(&read),
        );
    }
    let definitions = json!({
        "vhosts": [{"name": "/"}], "users": users,
        "permissions": permissions, "topic_permissions": topic_permissions,
    });
    serde_json::to_string_pretty(&definitions).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boards() -> [(BoardId, bool); 2] {
        [("acme.b-1", false), ("acme.sold", true)]
            .map(|(id, revoked)| (BoardId::new(id).unwrap(), revoked))
    }

    #[test]
    fn nats_is_told_of_each_board_s_topics_and_of_no_revoked_board() {
        let text = nats(&boards());
        let lines: Vec<_> = text.lines().filter(|line| line.contains("CN=")).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(
            lines[0].contains("CN=console\"") && lines[0].contains("[\"coracle.v1.>\"]"),
            "{text}"
        );
        let of = |level: &str| format!("\"coracle.v1.acme:b-1.{level}\"");
        let (write, read) = lines[1].split_once("subscribe").unwrap();
        for level in [
            "current",
            "feedback",
            "presence",
            "telemetry",
            "command-result",
        ] {
            assert!(
                write.contains(&of(level)) && !read.contains(&of(level)),
                "{text}"
            );
        }
        for level in ["desired", "command"] {
            assert!(
                read.contains(&of(level)) && !write.contains(&of(level)),
                "{text}"
            );
        }
        assert!(
            read.contains("coracle.v1.fleet.root")
                && !lines[1].contains('>'.to_string().repeat(2).as_str())
        );
    }

    #[test]
    fn rabbitmq_is_told_that_a_revoked_board_may_do_nothing() {
        let told: Value = serde_json::from_str(&rabbitmq(&boards(), "console-1")).unwrap();
        let names: Vec<_> = told["users"]
            .as_array()
            .unwrap()
            .iter()
            .map(|user| &user["name"])
            .collect();
        assert_eq!(names, ["console", "acme.b-1", "acme.sold"]);
        let [console, board, sold] = [0, 1, 2].map(|n| &told["permissions"][n]);
        assert_eq!(
            console["configure"],
            r"^(mqtt-subscription-console-1qos0|mqtt-subscription-console-1qos1)$"
        );
        assert_eq!(
            board["configure"],
            r"^(mqtt-subscription-acme\.b-1qos0|mqtt-subscription-acme\.b-1qos1)$"
        );
        assert_eq!(
            [&sold["configure"], &sold["write"], &sold["read"]],
            ["^$"; 3]
        );
        let [_, board, sold] = [0, 1, 2].map(|n| &told["topic_permissions"][n]);
        assert_eq!(
            board["read"],
            r"^(coracle\.v1\.acme:b-1\.desired|coracle\.v1\.acme:b-1\.command|coracle\.v1\.fleet\.root)$"
        );
        assert_eq!([&sold["write"], &sold["read"]], ["^()$"; 2]);
        for user in told["users"].as_array().unwrap() {
            assert_eq!(user["password_hash"], "");
        }
    }
}

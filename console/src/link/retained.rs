//! What a broker retains, and to whom it shows it. "When a new subscription is established, the last retained message, if
//! any, on each matching topic name MUST be sent" (MQTT 3.1.1, MQTT-3.3.1-6): RabbitMQ does so for a subscription to exactly
//! that topic, and for none with a `+`. There the console asks topic by topic.

use super::{Link, LinkError};
use rumqttc::{QoS, SubscribeFilter};
use std::time::Duration;

/// The console's own: no board is called `console`, and only the console may read or write here.
pub(super) const PROBE: &str = "coracle/v1/console/probe";
const PATTERN: &str = "coracle/v1/console/+";
/// For the broker to acknowledge.
const ACKNOWLEDGED: Duration = Duration::from_secs(10);
/// A broker sends what it retains right after the acknowledgement.
const SHOWN: Duration = Duration::from_millis(200);

impl Link {
    /// Whether the broker shows to patterns what it retains: it is given something of the console's own to retain, and a
    /// pattern to show it to. When nothing came within `time` it does not.
    pub async fn shows_to_patterns(&self, time: Duration) -> Result<bool, LinkError> {
        let closed = |_| LinkError::Closed;
        let options = rumqttc::PublishOptions::at_least_once().retained();
        let published = self.client.publish_tracked(PROBE, "retained", options);
        // In this order: to a subscription that is there already it would be a message like any other.
        let published = published.await.map_err(closed)?.wait_completion_async();
        let _ = tokio::time::timeout(ACKNOWLEDGED, published).await;
        let asked = self
            .client
            .subscribe_tracked(PATTERN, QoS::AtMostOnce)
            .await;
        let asked = asked.map_err(closed)?.wait_completion_async();
        let _ = tokio::time::timeout(ACKNOWLEDGED, asked).await;
        let mut shown = self.shown.clone();
        let came = tokio::time::timeout(time, shown.wait_for(|shown| *shown)).await;
        Ok(matches!(came, Ok(Ok(_))))
    }

    /// Has the broker show what it retains on exactly these topics. It comes as if the patterns had brought it, which stay.
    pub async fn show(&self, topics: &[String]) -> Result<(), LinkError> {
        let closed = |_| LinkError::Closed;
        let filters = topics
            .iter()
            .map(|topic| SubscribeFilter::new(topic.clone(), QoS::AtLeastOnce));
        let asked = self.client.subscribe_many_tracked(filters).await;
        let asked = asked.map_err(closed)?.wait_completion_async();
        let _ = tokio::time::timeout(ACKNOWLEDGED, asked).await;
        tokio::time::sleep(SHOWN).await;
        let left = self.client.unsubscribe_many_tracked(topics.to_vec()).await;
        let left = left.map_err(closed)?.wait_completion_async();
        let _ = tokio::time::timeout(ACKNOWLEDGED, left).await;
        Ok(())
    }
}

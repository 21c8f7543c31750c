//! Kafka in this process: librdkafka's own mock cluster, which speaks the protocol on loopback. Must never outlive its value.

use std::cell::RefCell;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _, StreamConsumer};
use rdkafka::message::{Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{DefaultProducerContext, FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use serde_json::Value;

use crate::server::Builder;
use crate::wait;

/// A cluster of one broker.
pub struct Kafka {
    cluster: MockCluster<'static, DefaultProducerContext>,
    producer: RefCell<Option<FutureProducer>>,
}

/// The cluster's only broker.
const BROKER: i32 = 1;

/// A record as it was read back.
#[derive(Debug, PartialEq, Eq)]
pub struct Record {
    pub key: Option<String>,
    pub data: Value,
    /// Sorted by name.
    pub headers: Vec<(String, String)>,
}

impl Record {
    /// A header's value. Empty if it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

impl Kafka {
    /// A cluster with these topics and their numbers of partitions.
    pub fn with(topics: &[(&str, i32)]) -> Self {
        let cluster = MockCluster::new(1).expect("a mock cluster");
        for (topic, partitions) in topics {
            cluster.create_topic(topic, *partitions, 1).expect("a topic");
        }
        Self { cluster, producer: RefCell::default() }
    }

    pub fn brokers(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// One more topic.
    pub fn add(&self, topic: &str, partitions: i32) {
        self.cluster.create_topic(topic, partitions, 1).expect("a topic");
    }

    /// Closes every connection and accepts no new one.
    pub fn stop(&self) {
        self.cluster.broker_down(BROKER).expect("the broker");
    }

    pub fn start_again(&self) {
        self.cluster.broker_up(BROKER).expect("the broker");
    }

    /// Sends a record and waits until the broker has acknowledged it.
    pub async fn send(&self, topic: &str, key: &str, data: &str, headers: &[(&str, &str)]) {
        let producer = self.producer.borrow_mut().get_or_insert_with(|| self.settings().create().expect("a producer")).clone();
        let headers =
            headers.iter().fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: Some(*value) }));
        let record = FutureRecord::to(topic).key(key).payload(data).headers(headers);
        producer.send(record, Timeout::After(wait::DEADLINE)).await.expect("the broker takes it");
    }

    /// Reads the first records of a topic with a consumer that starts at the beginning each time.
    pub async fn read(&self, topic: &str, many: usize) -> Vec<Record> {
        let mut settings = self.settings();
        settings
            .set("group.id", format!("reader-of-{topic}"))
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest");
        let consumer: StreamConsumer = settings.create().expect("a consumer");
        let mut partitions = rdkafka::TopicPartitionList::new();
        partitions.add_partition_offset(topic, 0, rdkafka::Offset::Beginning).expect("an offset");
        consumer.assign(&partitions).expect("a partition");
        let mut records = Vec::new();
        while records.len() < many {
            let next = tokio::time::timeout(wait::DEADLINE, consumer.recv()).await;
            let Ok(Ok(record)) = next else {
                if let Ok(Err(error)) = &next {
                    eprintln!("reading {topic}: {error}");
                    continue;
                }
                panic!("{} of {many} records of {topic}: {records:?}", records.len());
            };
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
            let header = |header: Header<'_, &[u8]>| (header.key.to_owned(), header.value.map(text).unwrap_or_default());
            let mut headers: Vec<_> = record.headers().into_iter().flat_map(|all| all.iter()).map(header).collect();
            headers.sort();
            let data = serde_json::from_slice(record.payload().unwrap_or_default()).expect("JSON");
            records.push(Record { key: record.key().map(text), data, headers });
        }
        records
    }

    /// The offset that a group has committed for a topic's first partition. Negative if it has committed none.
    pub async fn committed(&self, group: &str, topic: &str) -> i64 {
        let mut settings = self.settings();
        let consumer: BaseConsumer = settings.set("group.id", group).create().expect("a consumer");
        let mut partitions = rdkafka::TopicPartitionList::new();
        partitions.add_partition(topic, 0);
        let asked = tokio::task::spawn_blocking(move || consumer.committed_offsets(partitions, wait::DEADLINE));
        let committed = asked.await.expect("it does not panic").expect("the broker answers");
        committed.elements()[0].offset().to_raw().unwrap_or(-1)
    }

    fn settings(&self) -> ClientConfig {
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", self.brokers()).set("reconnect.backoff.max.ms", "500");
        settings
    }
}

impl Builder {
    /// Consumes from this Kafka. A dead node's session ends soon, so that tests do not wait for it.
    pub fn kafka(self, kafka: &Kafka) -> Self {
        self.kafka_with(kafka, &[])
    }

    /// Like [`kafka`](Self::kafka), with more of librdkafka's own settings.
    pub fn kafka_with(self, kafka: &Kafka, properties: &[(&str, &str)]) -> Self {
        let soon = [("session.timeout.ms", "4500"), ("heartbeat.interval.ms", "200")];
        let table: Vec<_> = soon.iter().chain(properties).map(|(key, value)| format!("{key:?} = {value:?}")).collect();
        let look = format!("{}ms", Duration::from_millis(500).as_millis());
        self.env("KAFKA_BROKERS", &kafka.brokers())
            .env("HUBBUB_KAFKA__PROPERTIES", &format!("{{ {} }}", table.join(", ")))
            .env("HUBBUB_INGEST__KAFKA__LOOK", &look)
    }
}

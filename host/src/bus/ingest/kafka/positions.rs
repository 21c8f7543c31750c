//! Positions of each partition, and its lag. Only keeps them; the caller decides when an offset is committed.

use std::collections::HashMap;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::Offset;

use super::client::Context;

/// The next offset of each partition.
#[derive(Debug, Default)]
pub(crate) struct Positions {
    /// Accepted.
    accepted: HashMap<(String, i32), i64>,
    /// Read since the last accepted batch.
    read: HashMap<(String, i32), i64>,
}

impl Positions {
    pub(crate) fn read(&mut self, topic: &str, partition: i32, offset: i64) {
        self.read.insert((topic.to_owned(), partition), offset + 1);
    }

    /// Marks everything that was read as accepted. Returns the next offsets, to be committed.
    pub(crate) fn accept(&mut self) -> TopicPartitionList {
        let read = std::mem::take(&mut self.read);
        let list = list(&read);
        self.accepted.extend(read);
        list
    }

    pub(crate) fn accepted(&self) -> TopicPartitionList {
        list(&self.accepted)
    }

    /// Clears the positions after a rebalance.
    pub(crate) fn forget(&mut self) {
        self.accepted.clear();
    }
}

fn list(positions: &HashMap<(String, i32), i64>) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(positions.len());
    for ((topic, partition), next) in positions {
        // Fails only for negative offsets.
        let _ = list.add_partition_offset(topic, *partition, Offset::Offset(*next));
    }
    list
}

/// Records of the assigned partitions that are not accepted yet, by topic. Asks the brokers, so it blocks.
pub(crate) fn lag(
    consumer: &StreamConsumer<Context>,
    accepted: &TopicPartitionList,
    wait: Duration,
) -> KafkaResult<Vec<(String, i64)>> {
    let mut ends = consumer.assignment()?;
    if ends.count() == 0 {
        return Ok(Vec::new());
    }
    let committed = consumer.committed(wait)?;
    ends.set_all_offsets(Offset::End)?;
    let ends = consumer.offsets_for_times(ends, wait)?;
    let mut by_topic: HashMap<String, i64> = HashMap::new();
    for end in ends.elements() {
        let at = |list: &TopicPartitionList| match list.find_partition(end.topic(), end.partition()).map(|one| one.offset()) {
            Some(Offset::Offset(at)) => Some(at),
            _ => None,
        };
        let Offset::Offset(last) = end.offset() else { continue };
        let next = at(accepted).or_else(|| at(&committed)).unwrap_or(0);
        *by_topic.entry(end.topic().to_owned()).or_default() += (last - next).max(0);
    }
    Ok(by_topic.into_iter().collect())
}

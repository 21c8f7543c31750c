//! A storage without a disk, to describe components and to replay recorded calls: it is empty and refuses writes. Never for
//! serving.

use bytes::Bytes;

use super::{
    BoxFuture, CommitError, DeadLetter, DeadLetterRow, Effects, HandOver, OutboxRow, Stats, Storage, Unavailable, WriteSet,
};
use crate::names::PluginName;

/// Has no keys; everything else is unavailable.
#[derive(Debug)]
pub struct NoStorage;

fn unavailable<T: Send + 'static, E: From<Unavailable> + Send + 'static>() -> BoxFuture<'static, Result<T, E>> {
    Box::pin(async { Err(Unavailable::new("there is no storage").into()) })
}

impl Storage for NoStorage {
    fn get<'a>(&'a self, _: &'a PluginName, _: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, Unavailable>> {
        Box::pin(async { Ok(None) })
    }

    fn get_many<'a>(&'a self, _: &'a PluginName, keys: &'a [String]) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, Unavailable>> {
        Box::pin(async { Ok(vec![None; keys.len()]) })
    }

    fn scan<'a>(
        &'a self,
        _: &'a PluginName,
        _: &'a str,
        _: &'a str,
        _: usize,
        _: bool,
    ) -> BoxFuture<'a, Result<Vec<(String, Bytes)>, Unavailable>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn keys<'a>(
        &'a self,
        _: &'a PluginName,
        _: &'a str,
        _: &'a str,
        _: usize,
    ) -> BoxFuture<'a, Result<Vec<String>, Unavailable>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn handled_after<'a>(
        &'a self,
        _: &'a PluginName,
        _: &'a str,
        _: usize,
    ) -> BoxFuture<'a, Result<Vec<(String, u64)>, Unavailable>> {
        unavailable()
    }

    fn first_reply<'a>(&'a self, _: &'a str, _: &'a str, _: u64) -> BoxFuture<'a, Result<Option<Bytes>, Unavailable>> {
        Box::pin(async { Ok(None) })
    }

    fn hand_over(&self, _: HandOver) -> BoxFuture<'_, Result<(), Unavailable>> {
        unavailable()
    }

    fn size<'a>(&'a self, _: &'a PluginName) -> BoxFuture<'a, Result<u64, Unavailable>> {
        Box::pin(async { Ok(0) })
    }

    fn commit(&self, _: WriteSet, _: Effects) -> BoxFuture<'_, Result<(), CommitError>> {
        unavailable()
    }

    fn outbox_after(&self, _: u64, _: usize) -> BoxFuture<'_, Result<Vec<OutboxRow>, Unavailable>> {
        unavailable()
    }

    fn outbox_done(&self, _: u64) -> BoxFuture<'_, Result<(), Unavailable>> {
        unavailable()
    }

    fn outbox_waiting<'a>(&'a self, _: &'a str, _: u64, _: usize) -> BoxFuture<'a, Result<u64, Unavailable>> {
        unavailable()
    }

    fn dead_letter(&self, _: DeadLetter) -> BoxFuture<'_, Result<(), Unavailable>> {
        unavailable()
    }

    fn dead_letters(&self, _: u64, _: usize) -> BoxFuture<'_, Result<Vec<DeadLetterRow>, Unavailable>> {
        unavailable()
    }

    fn remove_dead_letter(&self, _: u64) -> BoxFuture<'_, Result<bool, Unavailable>> {
        unavailable()
    }

    fn revive_dead_letter(&self, _: u64) -> BoxFuture<'_, Result<bool, Unavailable>> {
        unavailable()
    }

    fn blob<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, Unavailable>> {
        unavailable()
    }

    fn put_blob(&self, _: String, _: Bytes) -> BoxFuture<'_, Result<(), Unavailable>> {
        unavailable()
    }

    fn put_blobs(&self, _: Vec<(String, Option<Bytes>)>) -> BoxFuture<'_, Result<(), Unavailable>> {
        unavailable()
    }

    fn remove_blob(&self, _: String) -> BoxFuture<'_, Result<bool, Unavailable>> {
        unavailable()
    }

    fn blobs<'a>(&'a self, _: &'a str, _: usize) -> BoxFuture<'a, Result<Vec<String>, Unavailable>> {
        unavailable()
    }

    fn health(&self) -> BoxFuture<'_, Result<(), Unavailable>> {
        unavailable()
    }

    fn writable(&self) -> BoxFuture<'_, Result<(), Unavailable>> {
        unavailable()
    }

    fn stats(&self) -> Stats {
        Stats::default()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

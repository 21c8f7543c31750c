//! Moves the contents of an embedded database into PostgreSQL: all or nothing. Never adds to a database with rows, and never
//! changes the embedded one.

use std::fmt;
use std::path::Path;

use tokio_postgres::Client;

use super::super::embedded::{Entry, Export};
use super::super::{Config, DeadLetterRow, Url, embedded};
use super::connection::{Connector, Failed};
use super::rows::{Messages, Writes, signed};
use super::{OpenError, first, first_replies, migrations};

/// Why nothing was moved.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error(transparent)]
    Source(#[from] embedded::OpenError),
    #[error("the embedded database cannot be read: {0}")]
    Read(#[from] rusqlite::Error),
    #[error(transparent)]
    Target(#[from] OpenError),
    #[error("{0} is not empty: its table {1} has rows. Use an empty database or a separate schema")]
    NotEmpty(String, String),
    #[error("{0} refused the data: {1}. Nothing was moved")]
    Write(String, String),
}

/// The number of rows that were moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moved {
    pub entries: u64,
    pub handled: u64,
    pub messages: u64,
    pub dead_letters: u64,
    pub first_replies: u64,
    pub blobs: u64,
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { entries, handled, messages, dead_letters, first_replies, blobs } = self;
        write!(
            f,
            "{entries} keys of plugins, {handled} handled ids, {messages} messages, {dead_letters} dead letters, \
             {first_replies} first replies, {blobs} blobs"
        )
    }
}

/// Moves the database of a data directory.
///
/// # Errors
/// An error of either database; nothing was moved then.
pub async fn import(dir: &Path, url: &Url, config: &Config) -> Result<Moved, ImportError> {
    let source = Export::open(dir)?;
    let connector = Connector::new(url, config)?;
    let (name, connection) = (connector.name(), first(&connector, config).await?);
    let client = &connection.client;
    migrations::run(client, &name).await?;
    let refused = |error: tokio_postgres::Error| ImportError::Write(name.clone(), Failed::from(error).reason());
    client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE").await.map_err(refused)?;
    let target = Target { client, writes: &Writes::prepare(client).await.map_err(refused)?, name: &name };
    // If the connection is dropped on an error, the transaction is rolled back.
    target.take_over(&source).await?;
    let mut moved = Moved::default();
    target.entries(&source, &mut moved).await?;
    target.handled(&source, &mut moved).await?;
    target.messages(&source, &mut moved).await?;
    target.dead_letters(&source, &mut moved).await?;
    target.first_replies(&source, &mut moved).await?;
    for blob in source.blob_names()? {
        let value = source.blob(&blob)?;
        client.execute(&target.writes.put_blob, &[&blob.as_bytes(), &value.as_ref()]).await.map_err(refused)?;
        moved.blobs += 1;
    }
    client.batch_execute("COMMIT").await.map_err(refused)?;
    Ok(moved)
}

struct Target<'a> {
    client: &'a Client,
    writes: &'a Writes,
    name: &'a str,
}

impl Target<'_> {
    /// Takes the lock of every group, checks that the tables are empty, and continues the sequence.
    async fn take_over(&self, source: &Export) -> Result<(), ImportError> {
        let taken = self.client.query_one(&self.writes.take, &[&signed(source.sequence()?)]).await;
        taken.map_err(|e| self.refused(e))?;
        for table in ["entries", "handled", "outbox", "dead_letters", "first_replies", "blobs"] {
            let sql = format!("SELECT EXISTS (SELECT FROM hubbub_{table})");
            let row = self.client.query_one(&sql, &[]).await.map_err(|e| self.refused(e))?;
            if row.get(0) {
                return Err(ImportError::NotEmpty(self.name.to_owned(), format!("hubbub_{table}")));
            }
        }
        Ok(())
    }

    async fn entries(&self, source: &Export, moved: &mut Moved) -> Result<(), ImportError> {
        let mut last: Option<Entry> = None;
        loop {
            let mut page = source.entries(last.as_ref())?;
            let plugins: Vec<_> = page.iter().map(|entry| entry.plugin.as_str()).collect();
            let keys: Vec<_> = page.iter().map(|entry| entry.key.as_bytes()).collect();
            let values: Vec<_> = page.iter().map(|entry| entry.value.as_ref()).collect();
            let put = self.client.execute(&self.writes.put, &[&plugins, &keys, &values]).await;
            moved.entries += put.map_err(|e| self.refused(e))?;
            match page.pop() {
                Some(entry) => last = Some(entry),
                None => return Ok(()),
            }
        }
    }

    async fn handled(&self, source: &Export, moved: &mut Moved) -> Result<(), ImportError> {
        let mut last = None;
        loop {
            let mut page = source.handled(last.as_ref())?;
            // All rows of one statement have the same time.
            for together in page.chunk_by(|(_, a), (_, b)| a == b) {
                let plugins: Vec<_> = together.iter().map(|(handled, _)| handled.plugin.as_str()).collect();
                let ids: Vec<_> = together.iter().map(|(handled, _)| handled.id.as_bytes()).collect();
                let at_ms = signed(together.first().map_or(0, |(_, at_ms)| *at_ms));
                let put = self.client.execute(&self.writes.put_handled, &[&plugins, &ids, &at_ms]).await;
                moved.handled += put.map_err(|e| self.refused(e))?;
            }
            match page.pop() {
                Some(handled) => last = Some(handled),
                None => return Ok(()),
            }
        }
    }

    async fn messages(&self, source: &Export, moved: &mut Moved) -> Result<(), ImportError> {
        let mut last = 0;
        loop {
            let page = source.outbox(last)?;
            let columns = Messages::of(page.iter().map(|row| (row.seq, &row.message)));
            moved.messages += columns.insert(self.client, &self.writes.put_messages).await.map_err(|e| self.refused(e))?;
            match page.last() {
                Some(row) => last = row.seq,
                None => return Ok(()),
            }
        }
    }

    async fn dead_letters(&self, source: &Export, moved: &mut Moved) -> Result<(), ImportError> {
        let mut last = 0;
        loop {
            let page = source.dead_letters(last)?;
            let Some(row) = page.last() else { return Ok(()) };
            last = row.seq;
            for DeadLetterRow { seq, at_ms, letter } in &page {
                let put = self.writes.put_letter(self.client, *seq, *at_ms, letter).await;
                moved.dead_letters += put.map_err(|e| self.refused(e))?;
            }
        }
    }

    async fn first_replies(&self, source: &Export, moved: &mut Moved) -> Result<(), ImportError> {
        let mut last = 0;
        loop {
            let page = source.first_replies(last)?;
            let Some(row) = page.last() else { return Ok(()) };
            last = row.id;
            moved.first_replies += first_replies::import(self.client, self.writes, &page).await.map_err(|e| self.refused(e))?;
        }
    }

    fn refused(&self, error: tokio_postgres::Error) -> ImportError {
        ImportError::Write(self.name.to_owned(), Failed::from(error).reason())
    }
}

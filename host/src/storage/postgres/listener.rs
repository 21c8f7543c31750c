//! Listens to commits of other nodes to the outbox. Never the only way to detect them: readers also poll.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::connection::{Connection, Connector, Failed, Pauses};
use super::rows::LISTEN;

/// No limit.
const NO_LIMIT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Listens, and reconnects when the connection is lost. `own` is the process number of the server process that writes for this
/// node.
pub(super) async fn run(connector: Arc<Connector>, own: Arc<AtomicI32>, published: Arc<Notify>) {
    let mut pauses = Pauses::new();
    loop {
        if let Ok(connection) = listen(&connector, &own, &published).await {
            pauses = Pauses::new();
            // Notifications may have been missed while the connection was lost.
            published.notify_one();
            connection.lost().await;
        }
        pauses.wait(Instant::now() + NO_LIMIT).await;
    }
}

async fn listen(connector: &Connector, own: &Arc<AtomicI32>, published: &Arc<Notify>) -> Result<Connection, Failed> {
    let (own, published) = (own.clone(), published.clone());
    let on_notification = move |sender| {
        if sender != own.load(Ordering::Relaxed) {
            published.notify_one();
        }
    };
    let connection = connector.connect(Box::new(on_notification)).await?;
    connection.client.batch_execute(LISTEN).await?;
    Ok(connection)
}

//! Hears of what other nodes commit to the outbox. Never the only way to learn of it: who waits looks by itself as well.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::connection::{Connection, Connector, Failed, Pauses};
use super::rows::LISTEN;

/// For as long as it takes.
const EVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Listens, and listens again where the connection is lost. `own` is the number of the server's process that writes for this node.
pub(super) async fn run(connector: Arc<Connector>, own: Arc<AtomicI32>, published: Arc<Notify>) {
    let mut pauses = Pauses::new();
    loop {
        if let Ok(connection) = listen(&connector, &own, &published).await {
            pauses = Pauses::new();
            // What was published since the connection was lost was not heard.
            published.notify_one();
            connection.lost().await;
        }
        pauses.wait(Instant::now() + EVER).await;
    }
}

async fn listen(connector: &Connector, own: &Arc<AtomicI32>, published: &Arc<Notify>) -> Result<Connection, Failed> {
    let (own, published) = (own.clone(), published.clone());
    let heard = move |sender| {
        if sender != own.load(Ordering::Relaxed) {
            published.notify_one();
        }
    };
    let connection = connector.connect(Box::new(heard)).await?;
    connection.client.batch_execute(LISTEN).await?;
    Ok(connection)
}

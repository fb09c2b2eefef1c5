//! Connections: a bounded number, each of which must send its next request within a bounded time.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Connections at once; further ones wait until others end.
const CONNECTIONS: usize = 512;

/// A connection is closed if the head of a request, the first or a further one, takes longer.
const HEAD: Duration = Duration::from_secs(60);

/// How long to wait after a connection could not be accepted, as when the system has no more open files.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers connections until the process ends.
///
/// # Errors
/// None but those of the semaphore, which nobody closes.
pub async fn accept(listener: TcpListener, router: Router) -> Result<()> {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await?;
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let mut connection = http1::Builder::new();
            connection.timer(TokioTimer::new()).header_read_timeout(HEAD);
            // A client that breaks off is no error of the server's.
            let _ = connection.serve_connection(TokioIo::new(stream), service).await;
            drop(place);
        });
    }
}

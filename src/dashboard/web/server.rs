//! The web server: connections, and how many and how slow they may be.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::connect_info::ConnectInfo;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// How long a request's body may take.
const BODY_WITHIN: Duration = Duration::from_secs(30);
/// Rest where the system has no file left for a connection.
const REST: Duration = Duration::from_millis(200);

/// How many connections there may be, and how slow.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Those beyond wait until others end.
    connections: usize,
    /// How long a request's head may take. The time without a request counts, too, so that idle connections
    /// end.
    head_within: Duration,
}

impl Limits {
    /// For so many open pages, which each keep a connection.
    pub fn of(open_pages: u32) -> Self {
        Self { connections: 256 + open_pages as usize, head_within: Duration::from_secs(15) }
    }
}

/// Answers connections for as long as it is polled.
pub async fn answer(listener: TcpListener, app: Router, limits: Limits) {
    let room = Arc::new(Semaphore::new(limits.connections));
    let service = TowerToHyperService::new(app);
    loop {
        // Never closed.
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                if !is_of_one(&error) {
                    log::warn!("a connection cannot be accepted: {error}");
                    sleep(REST).await;
                }
                continue;
            }
        };
        let service = service.clone();
        let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(ConnectInfo::<SocketAddr>(from));
            service.call(request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_within)
            .serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move {
            let _place = place;
            // Whoever hangs up or does not speak HTTP has nothing to be told.
            let _ = connection.await;
        });
    }
}

/// Whether an error concerns one connection and not the listener.
fn is_of_one(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Has the whole body, of at most `most` bytes, before anything is done with the request.
pub async fn whole_body(State(most): State<usize>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    match timeout(BODY_WITHIN, to_bytes(body, most)).await {
        Ok(Ok(bytes)) => next.run(Request::from_parts(head, Body::from(bytes))).await,
        Ok(Err(_)) => (StatusCode::PAYLOAD_TOO_LARGE, "the request is too large\n").into_response(),
        Err(_) => (StatusCode::REQUEST_TIMEOUT, "the request took too long\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n";

    async fn served(limits: Limits) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().route("/", get(|| async { "here" }));
        tokio::spawn(answer(listener, app, limits));
        address
    }

    async fn answered(stream: &mut TcpStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn whoever_does_not_finish_a_request_is_hung_up_on() {
        let limits = Limits { head_within: Duration::from_millis(50), ..Limits::of(1) };
        let address = served(limits).await;
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();

        let text = answered(&mut slow).await;

        assert!(!text.contains("200 OK"), "{text}");
    }

    #[tokio::test]
    async fn connections_beyond_the_limit_wait_for_others_to_end() {
        let limits = Limits { connections: 1, ..Limits::of(1) };
        let address = served(limits).await;
        let first = TcpStream::connect(address).await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        second.write_all(REQUEST).await.unwrap();
        let early = timeout(Duration::from_millis(100), answered(&mut second)).await;
        assert!(early.is_err(), "answered while the first was there");

        drop(first);

        assert!(answered(&mut second).await.ends_with("here"));
    }
}

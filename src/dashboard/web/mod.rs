//! The page: routes, headers, and what every page has in common.
//!
//! A page is a list of `pages::Piece`s. Those that change by themselves have an id; `live` sends them again
//! when they have changed, as the same HTML. Without JavaScript a page shows what was true when it was loaded.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::DashboardError;
use super::hub::Hub;

pub mod access;
mod act;
mod assets;
mod curves;
mod export;
mod live;
mod metrics;
mod pages;
mod query;
mod server;
mod words;

/// Largest body of a request: the names of as many devices as one form may name.
const MAX_BODY_BYTES: usize = 8 << 20;

/// Largest body of a login, which strangers may send.
const MAX_LOGIN_BYTES: usize = 16 << 10;

/// Nothing but our own files is loaded, nothing runs that stands in the page, nobody frames it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Serves until SIGTERM or SIGINT; `ready` is told the address to open.
///
/// # Errors
/// An address that cannot be listened at.
pub async fn serve(hub: Arc<Hub>, ready: impl FnOnce(&str)) -> Result<(), DashboardError> {
    let listen = hub.settings.page.listen.clone();
    let cannot = |what: &str| DashboardError::system(format!("{what} {listen}"));
    let listener = TcpListener::bind(&listen).await.map_err(cannot("cannot listen at"))?;
    let address = listener.local_addr().map_err(cannot("cannot listen at"))?;
    let handler = |kind| signal(kind).map_err(DashboardError::system("signals cannot be handled"));
    let (mut terminate, mut interrupt) =
        (handler(SignalKind::terminate())?, handler(SignalKind::interrupt())?);
    tokio::spawn(super::stages::run(Arc::clone(&hub)));
    ready(&format!("http://{address}/{}", hub.access.way_in()));
    let limits = server::Limits::of(hub.settings.page.max_open_pages);
    // Live updates never end by themselves, so at the end nobody is waited for.
    tokio::select! {
        () = server::answer(listener, router(hub), limits) => (),
        _ = terminate.recv() => (),
        _ = interrupt.recv() => (),
    }
    Ok(())
}

fn router(hub: Arc<Hub>) -> Router {
    let inside = Router::new()
        .route("/", get(pages::show))
        .route("/devices/{fleet}/{device}", get(pages::show))
        .route("/devices/{fleet}/{device}/curves", get(curves::show))
        .route("/compare", get(pages::show))
        .route("/compare/curves", get(curves::compare))
        .route("/devices.json", get(export::show))
        .route("/alarms", get(pages::show))
        .route("/changes", get(pages::show))
        .route("/rollouts", get(pages::show))
        .route("/rollouts/stop", post(act::stop))
        .route("/audit", get(pages::show))
        .route("/live", get(live::show))
        .route("/act", post(act::act))
        .route("/acknowledge", post(act::acknowledge))
        .route("/retire", post(act::retire))
        .route("/logout", post(access::login::leave))
        .route("/metrics", get(metrics::show))
        .layer(from_fn_with_state(MAX_BODY_BYTES, server::whole_body))
        .layer(from_fn_with_state(Arc::clone(&hub), access::admit));
    let way_in = Router::new()
        .route("/login", get(access::login::ask).post(access::login::enter))
        .layer(from_fn_with_state(MAX_LOGIN_BYTES, server::whole_body));
    Router::new()
        .merge(inside)
        .merge(way_in)
        .route("/assets/{name}", get(assets::show))
        .route("/health", get(|| async { "ok\n" }))
        .fallback(|| async { (StatusCode::NOT_FOUND, "there is no such page\n") })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(from_fn(headers))
        .with_state(hub)
}

/// Adds the headers that every answer has.
async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Something that went wrong while a page was made.
#[derive(Debug)]
pub enum Failure {
    /// There is no such thing.
    NotFound(&'static str),
    /// The request cannot be understood or must not be done, and why.
    Refused(StatusCode, String),
    /// The history does not answer.
    History(String),
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::NotFound(what) => (StatusCode::NOT_FOUND, format!("there is no such {what}")),
            Self::Refused(status, why) => (status, why),
            Self::History(why) => {
                log::error!("the history does not answer: {why}");
                let text = "the history does not answer; the log says why";
                (StatusCode::INTERNAL_SERVER_ERROR, text.to_owned())
            }
        };
        (status, pages::failure(status, &text)).into_response()
    }
}

impl From<super::history::HistoryError> for Failure {
    fn from(error: super::history::HistoryError) -> Self {
        Self::History(error.to_string())
    }
}

/// A handler's access to the shared state.
type Shared = State<Arc<Hub>>;

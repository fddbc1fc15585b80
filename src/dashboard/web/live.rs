//! Live updates: one stream of server-sent events for each open page.
//!
//! A page is made again when something has changed, at most twice a second, and its pieces are sent that are
//! not what they were. So a slow or frozen browser costs one page of memory and no more, and it can miss
//! nothing: what is sent is how things are, not what has changed.

use std::collections::HashMap;
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, Sse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::access::Session;
use super::pages::{self, Piece, View};
use super::{Failure, Shared};
use crate::dashboard::hub::{Hub, now_ms};

/// Shortest time between two looks.
const EVERY: Duration = Duration::from_millis(500);
/// Looks after which a page is made again even if no message came: silence changes pages, too.
const AT_LEAST: u32 = 10;
/// How long a browser may take to read what it was sent.
const PATIENCE: Duration = Duration::from_secs(30);
/// Streams that are open.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// Counts a stream for as long as it lives.
struct Counted;

impl Counted {
    fn new(most: usize) -> Option<Self> {
        let before = OPEN.fetch_add(1, Ordering::Relaxed);
        let counted = Self;
        (before < most).then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Opens the stream of the page that is named.
pub async fn show(
    State(hub): Shared,
    Extension(session): Extension<Arc<Session>>,
    RawQuery(query): RawQuery,
) -> Result<Sse<ReceiverStream<Result<Event, Infallible>>>, Failure> {
    let query = query.unwrap_or_default();
    let page = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "page");
    let page = page.map(|(_, page)| page.into_owned()).unwrap_or_default();
    let (path, query) = page.split_once('?').unwrap_or((&page, ""));
    let view = View::parse(path, query).ok_or(Failure::NotFound("page"))?;
    let most = usize::try_from(hub.settings.page.max_open_pages).unwrap_or(usize::MAX);
    let counted = Counted::new(most).ok_or_else(|| {
        let why = "too many pages are open: page.max_open_pages".to_owned();
        Failure::Refused(StatusCode::SERVICE_UNAVAILABLE, why)
    })?;
    let (to, from) = mpsc::channel(4);
    tokio::spawn(async move {
        // It ends when the browser has gone: nothing can be sent any more.
        let _ = stream(&hub, &session, &view, &to).await;
        drop(counted);
    });
    Ok(Sse::new(ReceiverStream::new(from)))
}

type Sender = mpsc::Sender<Result<Event, Infallible>>;
/// The browser has gone.
struct Gone;

async fn send(to: &Sender, event: Event) -> Result<(), Gone> {
    // One that does not read any more counts as gone.
    let sent = tokio::time::timeout(PATIENCE, to.send(Ok(event))).await;
    sent.map_err(|_| Gone)?.map_err(|_| Gone)
}

async fn stream(hub: &Hub, session: &Session, view: &View, to: &Sender) -> Result<(), Gone> {
    send(to, Event::default().event("hello").data(now_ms().to_string())).await?;
    let mut sent = HashMap::new();
    let (mut changes, mut looks) = (None, 0);
    let mut clock = tokio::time::interval(EVERY);
    // A frozen browser is not told afterwards what it has slept through.
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        looks += 1;
        let now = (hub.fleet().changes(), hub.line());
        if changes.as_ref() == Some(&now) && looks < AT_LEAST {
            continue;
        }
        if looks >= AT_LEAST {
            if !hub.access.still(session) {
                return send(to, Event::default().event("bye").data("")).await;
            }
            send(to, Event::default().event("beat").data(now_ms().to_string())).await?;
            looks = 0;
        }
        changes = Some(now);
        for (id, html) in changed(hub, session, view, &mut sent) {
            let data = serde_json::json!({ "id": id, "html": html }).to_string();
            send(to, Event::default().event("part").data(data)).await?;
        }
    }
}

/// The pieces of a page that are not what was sent last.
fn changed(
    hub: &Hub,
    session: &Session,
    view: &View,
    sent: &mut HashMap<&'static str, u64>,
) -> Vec<(&'static str, String)> {
    let Ok(mut pieces) = view.pieces(hub, session, now_ms()) else {
        // The device has been retired; the page says so when it is loaded again.
        return Vec::new();
    };
    pieces.push(Piece::Live("line", pages::line(&hub.line())));
    let live = pieces.into_iter().filter_map(|piece| match piece {
        Piece::Live(id, markup) => Some((id, pages::text(markup))),
        Piece::Fixed(_) => None,
    });
    live.filter(|(id, html)| {
        let mut hasher = DefaultHasher::new();
        without_times(html).for_each(|text| text.hash(&mut hasher));
        sent.insert(id, hasher.finish()) != Some(hasher.finish())
    })
    .collect()
}

/// A piece without the words of its times, which the browser keeps right by itself.
fn without_times(html: &str) -> impl Iterator<Item = &str> {
    html.split("<time ").map(|part| match (part.find("data-ago>"), part.find("</time>")) {
        (Some(words), Some(end)) if words < end => &part[end..],
        _ => part,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_times_are_no_change() {
        let page = |words: &str, rest: &str| {
            format!("<p>a <time datetime=\"x\" data-ago>{words}</time> {rest}</p>")
        };
        let rest = |html: &str| without_times(html).collect::<Vec<_>>().join("|");
        assert_eq!(rest(&page("5 s ago", "b")), rest(&page("6 s ago", "b")));
        assert_ne!(rest(&page("5 s ago", "b")), rest(&page("5 s ago", "c")));
        assert_eq!(rest("<p>no time</p>"), "<p>no time</p>");
    }
}

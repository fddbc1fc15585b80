//! Style and scripts, part of the program.

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

/// Every file: name, type, text.
const FILES: [(&str, &str, &str); 3] = [
    ("style.css", CSS, include_str!("style.css")),
    ("live.js", JS, include_str!("live.js")),
    ("charts.js", JS, include_str!("charts.js")),
];

/// The address of a file; another one after every release, so that browsers may keep it.
pub fn address(name: &str) -> String {
    format!("/assets/{name}?v={}", env!("CARGO_PKG_VERSION"))
}

/// Serves one.
pub async fn show(Path(name): Path<String>) -> Response {
    match FILES.iter().find(|(known, ..)| *known == name) {
        Some((_, kind, text)) => {
            let cache = "public, max-age=3600";
            ([(header::CONTENT_TYPE, *kind), (header::CACHE_CONTROL, cache)], *text).into_response()
        }
        None => (StatusCode::NOT_FOUND, "there is no such file\n").into_response(),
    }
}

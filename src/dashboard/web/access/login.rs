//! Logging in and out.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Extension;
use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};

use super::{COOKIE, Session};
use crate::dashboard::hub::Hub;
use crate::dashboard::web::{Failure, Shared, pages};

/// The address of the form, which leads back to a page.
pub fn address(page: &Uri) -> String {
    let wanted = page.path_and_query().map_or("/", |page| page.as_str());
    if wanted == "/" {
        return "/login".to_owned();
    }
    let query =
        form_urlencoded::Serializer::new(String::new()).append_pair("next", wanted).finish();
    format!("/login?{query}")
}

/// What stands in the form or in its address.
#[derive(Default)]
struct Fields {
    name: String,
    token: String,
    /// The page that was asked for.
    next: String,
}

impl Fields {
    fn parse(text: &str) -> Self {
        let mut fields = Self::default();
        for (field, value) in form_urlencoded::parse(text.as_bytes()) {
            match &*field {
                "name" => value.trim().clone_into(&mut fields.name),
                "token" => value.trim().clone_into(&mut fields.token),
                // Only a page of ours: a path that no browser takes for another host.
                "next" if value.starts_with('/') && !value[1..].starts_with(['/', '\\']) => {
                    fields.next = value.into_owned();
                }
                _ => {}
            }
        }
        fields
    }
}

/// The form; or, with the token of this run in the address, the way in.
pub async fn ask(
    State(hub): Shared,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    RawQuery(query): RawQuery,
) -> Response {
    let fields = Fields::parse(&query.unwrap_or_default());
    if fields.token.is_empty() {
        return pages::login(None, hub.access.token.is_some(), &fields.next).into_response();
    }
    answer(&hub, from.ip(), &fields).await
}

/// Takes the form.
pub async fn enter(
    State(hub): Shared,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: String,
) -> Response {
    if !super::is_from_here(&headers) {
        let why = "this form did not come from this page".to_owned();
        return Failure::Refused(StatusCode::FORBIDDEN, why).into_response();
    }
    answer(&hub, from.ip(), &Fields::parse(&body)).await
}

async fn answer(hub: &Arc<Hub>, from: IpAddr, fields: &Fields) -> Response {
    let again = |status: StatusCode, why: &str| {
        let page = pages::login(Some(why), hub.access.token.is_some(), &fields.next);
        (status, page).into_response()
    };
    let Some((user, role)) = hub.access.owner(&fields.name, &fields.token).await else {
        log::warn!("a wrong token from {from}");
        return again(StatusCode::UNAUTHORIZED, "Wrong name or token.");
    };
    match hub.access.open(&user, role) {
        Ok(id) => {
            log::info!("{user} has logged in from {from}");
            // Lax, so that links from elsewhere work: nothing changes by being looked at.
            let cookie = format!("{COOKIE}={id}; HttpOnly; SameSite=Lax; Path=/");
            let next = if fields.next.is_empty() { "/" } else { &fields.next };
            ([(header::SET_COOKIE, cookie)], Redirect::to(next)).into_response()
        }
        Err(error) => again(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// Ends the session.
///
/// # Errors
/// The answer to a form that is not this session's.
pub async fn leave(
    State(hub): Shared,
    Extension(session): Extension<Arc<Session>>,
    headers: HeaderMap,
    body: String,
) -> Result<Response, Failure> {
    let word = form_urlencoded::parse(body.as_bytes()).find(|(name, _)| name == "word");
    session.owns(&headers, &word.map(|(_, word)| word).unwrap_or_default())?;
    hub.access.close(&headers);
    let cookie = format!("{COOKIE}=; HttpOnly; SameSite=Lax; Path=/; Max-Age=0");
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to("/login")).into_response())
}

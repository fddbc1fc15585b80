//! Who may see the page, and who may act.
//!
//! A user logs in with a token, of which the configuration has an argon2 hash, or has logged in at a proxy
//! that is believed. A cookie then names a session, which lives in memory. What changes something is a POST
//! with the session's own word in it, so that no other site can make a browser do it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};

use tokio::sync::Semaphore;

use super::{Failure, Shared};
use crate::contract::keys::random_hex;
use crate::dashboard::DashboardError;
use crate::dashboard::settings::PageSettings;

pub mod login;
pub mod users;

use users::{Role, User};

/// How long a session lasts without being used.
const SESSION: Duration = Duration::from_secs(12 * 3600);
/// Tokens that are checked at the same time: each takes 19 MiB and some 20 ms of a processor. That is what keeps
/// guessing slow; nobody is locked out.
const CHECKS: usize = 2;
/// Sessions at once; the one that was used longest ago makes room.
const MAX_SESSIONS: usize = 10_000;
/// Longest token that is looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 256;
/// How the key of a proxy's user begins.
const BY_PROXY: &str = "proxy:";
/// The cookie's name.
const COOKIE: &str = "latrod";

/// Somebody who has logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The name.
    pub user: String,
    /// What is allowed.
    pub role: Role,
    /// The word that forms must carry.
    pub word: String,
    /// What it is kept under: the cookie's value, or a proxy's user.
    key: String,
    used: Instant,
}

/// Decides who gets in.
pub struct Access {
    users: Vec<User>,
    /// The token of this run, if no users are configured.
    token: Option<String>,
    proxy_header: String,
    proxies: Vec<IpAddr>,
    sessions: Mutex<HashMap<String, Session>>,
    checks: Semaphore,
}

/// A random word that nobody guesses: 256 bits in hex.
fn random_word() -> Result<String, DashboardError> {
    random_hex::<32>().map_err(|why| DashboardError::System {
        what: "a session cannot begin".to_owned(),
        source: std::io::Error::other(why),
    })
}

impl Access {
    /// As the settings say.
    ///
    /// # Errors
    /// Users that cannot be read.
    pub fn new(settings: &PageSettings) -> Result<Self, DashboardError> {
        let unusable = |why| DashboardError::Setting { key: "page.users", why };
        let users: Result<Vec<User>, String> =
            settings.users.iter().map(|text| User::parse(text)).collect();
        let users = users.map_err(unusable)?;
        let is_open = users.is_empty() && settings.proxy_header.is_empty();
        Ok(Self {
            users,
            token: if is_open { Some(random_word()?) } else { None },
            proxy_header: settings.proxy_header.clone(),
            proxies: settings.proxies.iter().filter_map(|proxy| proxy.parse().ok()).collect(),
            sessions: Mutex::default(),
            checks: Semaphore::new(CHECKS),
        })
    }

    /// The rest of the address that lets its reader in: the token of this run, if there is one.
    #[must_use]
    pub fn way_in(&self) -> String {
        self.token.as_ref().map(|token| format!("login?token={token}")).unwrap_or_default()
    }

    /// A new session, and the cookie's value.
    fn open(&self, user: &str, role: Role) -> Result<String, DashboardError> {
        let (id, word) = (random_word()?, random_word()?);
        let (user, key, used) = (user.to_owned(), id.clone(), Instant::now());
        let session = Session { user, role, word, key, used };
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| session.used.elapsed() < SESSION);
        if sessions.len() >= MAX_SESSIONS {
            let oldest = sessions.iter().min_by_key(|(_, session)| session.used);
            if let Some(oldest) = oldest.map(|(id, _)| id.clone()) {
                sessions.remove(&oldest);
            }
        }
        sessions.insert(id.clone(), session);
        Ok(id)
    }

    /// The session of a request.
    fn session(&self, headers: &HeaderMap, from: IpAddr) -> Option<Session> {
        if let Some(session) = self.of_proxy(headers, from) {
            return Some(session);
        }
        let id = cookie(headers)?;
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let session = sessions.get_mut(id).filter(|session| session.used.elapsed() < SESSION)?;
        session.used = Instant::now();
        Some(session.clone())
    }

    /// Who has logged in at a proxy that is believed. Users that the configuration names have its role, all
    /// others may look.
    fn of_proxy(&self, headers: &HeaderMap, from: IpAddr) -> Option<Session> {
        if self.proxy_header.is_empty() || !self.proxies.contains(&from.to_canonical()) {
            return None;
        }
        // A second one could be the client's own.
        let mut names = headers.get_all(&self.proxy_header).iter();
        let (Some(name), None) = (names.next(), names.next()) else { return None };
        let name = name.to_str().ok()?.trim();
        if name.is_empty() || name.len() > users::MAX_NAME_BYTES {
            return None;
        }
        let known = self.users.iter().find(|user| user.name == name);
        let role = known.map_or(Role::Viewer, |user| user.role);
        // One word for each name: there is no session that could carry it.
        let id = format!("{BY_PROXY}{name}");
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() >= MAX_SESSIONS && !sessions.contains_key(&id) {
            return None;
        }
        let word = random_word().ok()?;
        let used = Instant::now();
        let (user, key) = (name.to_owned(), id.clone());
        let session = sessions.entry(id).or_insert(Session { user, role, word, key, used });
        (session.used, session.role) = (used, role);
        Some(session.clone())
    }

    /// Whether a session that was open is so still.
    #[must_use]
    pub fn still(&self, session: &Session) -> bool {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let open = sessions.get(&session.key).filter(|open| open.used.elapsed() < SESSION);
        open.is_some_and(|open| open.word == session.word)
    }

    /// Whose token a program has sent, as `Authorization: Bearer NAME:TOKEN`, or the token of this run alone.
    async fn bearer(&self, headers: &HeaderMap) -> Option<Session> {
        let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")?;
        let (name, token) = text.trim().split_once(':').unwrap_or(("", text.trim()));
        let (user, role) = self.owner(name, token).await?;
        // It carries no word, so it can look, but not send forms.
        let (word, key, used) = (random_word().ok()?, String::new(), Instant::now());
        Some(Session { user, role, word, key, used })
    }

    /// Whom a token belongs to.
    async fn owner(&self, name: &str, token: &str) -> Option<(String, Role)> {
        if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        if let Some(own) = &self.token {
            return users::same(own, token).then(|| ("operator".to_owned(), Role::Operator));
        }
        let user = self.users.iter().find(|user| user.name == name).cloned();
        // A name that nobody has takes as long as one that somebody has.
        let (checked, is_known) = match user {
            Some(user) => (user, true),
            None => (self.users.first()?.clone(), false),
        };
        let _turn = self.checks.acquire().await.ok()?;
        let token = token.to_owned();
        let user = tokio::task::spawn_blocking(move || checked.has(&token).then_some(checked));
        let user = user.await.ok()??;
        is_known.then_some((user.name, user.role))
    }

    fn close(&self, headers: &HeaderMap) {
        if let Some(id) = cookie(headers) {
            self.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        }
    }
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|cookies| cookies.split(';'));
    // A cookie cannot pass for a proxy's session: its value is 64 hex digits.
    pairs
        .find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
        .filter(|id| id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

impl Session {
    /// Whether a form is this session's own: it must carry its word.
    ///
    /// # Errors
    /// The answer that says that it is not.
    pub fn owns(&self, headers: &HeaderMap, word: &str) -> Result<(), Failure> {
        if is_from_here(headers) && users::same(word, &self.word) {
            return Ok(());
        }
        let why = "this form did not come from this page: load the page again";
        Err(Failure::Refused(StatusCode::FORBIDDEN, why.to_owned()))
    }

    /// Whether the user has logged in at a proxy, and so cannot log out here.
    #[must_use]
    pub fn is_by_proxy(&self) -> bool {
        self.key.starts_with(BY_PROXY)
    }

    /// Whether the user may command devices.
    ///
    /// # Errors
    /// The answer that says that it is not so.
    pub fn may_act(&self) -> Result<(), Failure> {
        if self.role == Role::Operator {
            return Ok(());
        }
        let why = "viewers may look, but not act";
        Err(Failure::Refused(StatusCode::FORBIDDEN, why.to_owned()))
    }
}

/// Whether a browser says that a form comes from another site.
#[must_use]
pub fn is_from_here(headers: &HeaderMap) -> bool {
    let text =
        |name| headers.get(name).and_then(|value: &axum::http::HeaderValue| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return matches!(site, "same-origin" | "none");
    }
    match (text("origin"), text("host")) {
        (Some(origin), Some(host)) => {
            origin.split_once("://").is_some_and(|(_, from)| from == host)
        }
        (Some(_), None) => false,
        (None, _) => true,
    }
}

/// Lets those in who have logged in, and shows others where to.
pub async fn admit(
    State(hub): Shared,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let session = match hub.access.session(request.headers(), from.ip()) {
        Some(session) => Some(session),
        None => hub.access.bearer(request.headers()).await,
    };
    let Some(session) = session else {
        let wants_page = request
            .headers()
            .get(header::ACCEPT)
            .is_some_and(|accept| accept.to_str().is_ok_and(|accept| accept.contains("text/html")));
        if wants_page {
            return Redirect::to(&login::address(request.uri())).into_response();
        }
        return (StatusCode::UNAUTHORIZED, "log in at /login first\n").into_response();
    };
    request.extensions_mut().insert(Arc::new(session));
    next.run(request).await
}

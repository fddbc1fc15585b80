//! A browser without a window: gets pages, keeps the cookie, sends forms.

use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use form_urlencoded::Serializer;
use serde_json::Value;
use ureq::{Agent, http};

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// An answer.
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: String,
}

pub struct Client {
    agent: Agent,
    base: String,
    cookie: String,
}

impl Client {
    /// One that has not logged in, at `http://127.0.0.1:port`.
    pub fn new(base: &str) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            // A connection that the server has closed meanwhile must not be used again.
            .max_idle_connections(0)
            .build();
        Self { agent: config.into(), base: base.to_owned(), cookie: String::new() }
    }

    /// Takes the way in that the program has printed.
    pub fn enter(way_in: &str) -> Self {
        let (base, rest) = way_in.split_once("/login").expect("a way in");
        let mut client = Self::new(base);
        let answer = client.get(&format!("/login{rest}"));
        client.keep_cookie(&answer);
        client
    }

    /// Logs in by the form; the answer.
    pub fn log_in(&mut self, name: &str, token: &str) -> Answer {
        let answer = self.post("/login", &[("name", name), ("token", token)]);
        self.keep_cookie(&answer);
        answer
    }

    fn keep_cookie(&mut self, answer: &Answer) {
        if let Some(cookie) = answer.headers.get("set-cookie") {
            let cookie = cookie.to_str().unwrap();
            assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
            cookie.split(';').next().unwrap().clone_into(&mut self.cookie);
        }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[])
    }

    /// Gets a page with more headers.
    pub fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let request = self.agent.get(format!("{}{path}", self.base)).header("cookie", &self.cookie);
        let request = request.header("accept", "text/html");
        let add = |request: ureq::RequestBuilder<_>, (name, value): &(&str, &str)| {
            request.header(*name, *value)
        };
        answer(headers.iter().fold(request, add).call())
    }

    pub fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.get(path).body).expect("JSON")
    }

    pub fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.post_from(path, fields, &[])
    }

    /// Sends a form with more headers.
    pub fn post_from(
        &self,
        path: &str,
        fields: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Answer {
        answer(self.send(path, fields, headers))
    }

    /// Sends a form; nothing if the connection breaks.
    pub fn try_post(&self, path: &str, fields: &[(&str, &str)]) -> Option<Answer> {
        let result = self.send(path, fields, &[]);
        result.is_ok().then(|| answer(result))
    }

    fn send(
        &self,
        path: &str,
        fields: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Result<http::Response<ureq::Body>, ureq::Error> {
        let mut body = Serializer::new(String::new());
        fields.iter().for_each(|(name, value)| {
            body.append_pair(name, value);
        });
        let request =
            self.agent.post(format!("{}{path}", self.base)).header("cookie", &self.cookie);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.send(body.finish())
    }

    /// The word that forms carry.
    pub fn word(&self) -> String {
        let page = self.get("/").body;
        let (_, rest) = page.split_once("name=\"word\" value=\"").expect("a form");
        rest.split('"').next().unwrap().to_owned()
    }

    /// Gives a command by the form of a page.
    pub fn act(&self, command: &str, more: &[(&str, &str)]) -> Answer {
        let word = self.word();
        let fields = [("word", word.as_str()), ("command", command)];
        self.post("/act", &[&fields[..], more].concat())
    }

    /// Waits until a page holds a text, and returns it.
    #[track_caller]
    pub fn wait(&self, path: &str, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let page = self.get(path).body;
            if page.contains(text) {
                return page;
            }
            assert!(Instant::now() < end, "no {text:?} on {path}:\n{page}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The live updates of a page, as pairs of event and data.
    pub fn live(&self, page: &str) -> impl Iterator<Item = (String, String)> + use<> {
        let page: String = form_urlencoded::byte_serialize(page.as_bytes()).collect();
        let request = self.agent.get(format!("{}/live?page={page}", self.base));
        let answer = request.header("cookie", &self.cookie).call().unwrap();
        let mut lines =
            BufReader::new(answer.into_body().into_reader()).lines().map_while(Result::ok);
        std::iter::from_fn(move || {
            let (mut event, mut data) = (String::new(), String::new());
            for line in lines.by_ref() {
                match line.split_once(": ") {
                    Some(("event", name)) => name.clone_into(&mut event),
                    Some(("data", text)) => data += text,
                    _ if line.is_empty() => return Some((event, data)),
                    _ => {}
                }
            }
            None
        })
    }
}

fn answer(result: Result<http::Response<ureq::Body>, ureq::Error>) -> Answer {
    let (parts, mut body) = result.expect("an answer").into_parts();
    let body = body.read_to_string().expect("text");
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

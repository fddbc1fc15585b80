//! Who gets in, and who may act.

use std::time::Instant;

use crate::client::{Client, PATIENCE};
use crate::neighbors::{Neighbors, open_broker};
use crate::program::Dashboard;
use crate::support::Device;

/// A new user's token and entry.
fn user(name: &str, role: &str) -> (String, String) {
    let printed = Device::latrod(&["dashboard", "--new-user", name, "--role", role]);
    let mut lines = printed.lines().map(|line| line.rsplit_once("    ").unwrap().1.to_owned());
    let (token, entry) = (lines.next().unwrap(), lines.next().unwrap());
    (token, serde_json::from_str(&entry).unwrap())
}

#[test]
fn users_log_in_with_their_token_and_do_what_their_role_allows() {
    let broker = open_broker();
    Neighbors::new(&broker).appear("press/d1", 1);
    let key = broker.path("operator-key.pem");
    Device::latrod(&["command", "--new-key", key.to_str().unwrap()]);
    let (anna, bert) = (user("anna", "operator"), user("bert", "viewer"));
    let dashboard = Dashboard::start(&broker, Some(key), &[anna.1, bert.1]);
    assert!(!dashboard.way_in.contains("token"), "{}", dashboard.way_in);
    let mut client = Client::new(dashboard.base());

    // Nobody sees anything before.
    for path in
        ["/", "/devices/press/d1", "/devices/press/d1/curves", "/audit", "/metrics", "/live?page=/"]
    {
        let answer = client.get(path);
        let to = answer.headers["location"].to_str().unwrap();
        assert!(answer.status == 303 && to.starts_with("/login"), "{path}: {to}");
    }
    assert_eq!(client.post("/act", &[("command", "pause")]).status, 401);
    assert_eq!(client.log_in("anna", &bert.0).status, 401);
    assert_eq!(client.log_in("nobody", &anna.0).status, 401);

    assert_eq!(client.log_in("bert", &bert.0).status, 303);
    let page = client.wait("/devices/press/d1", "paused");
    assert!(!page.contains("action=\"/act\""), "viewers see no buttons");
    let refused = client.act("pause", &[("device", "press/d1")]);
    assert_eq!(refused.status, 403);
    assert!(refused.body.contains("viewers may look, but not act"));

    assert_eq!(client.log_in("anna", &anna.0).status, 303);
    assert!(client.get("/devices/press/d1").body.contains("action=\"/act\""));
    assert_eq!(client.act("pause", &[("device", "press/d1")]).status, 303);
    let word = client.word();
    assert_eq!(client.post("/logout", &[("word", &word)]).status, 303);
    assert_eq!(client.get("/").status, 303);
    assert!(!dashboard.log().contains(&anna.0), "tokens stay out of the log");
}

#[test]
fn guesses_lock_nobody_out() {
    let broker = open_broker();
    let (token, entry) = user("anna", "viewer");
    let dashboard = Dashboard::start(&broker, None, &[entry]);
    let mut client = Client::new(dashboard.base());
    for n in 0..20 {
        assert_eq!(client.log_in("anna", &format!("guess{n}")).status, 401);
    }
    assert_eq!(client.log_in("anna", &token).status, 303);
}

#[test]
fn programs_send_their_token_and_may_only_look() {
    let broker = open_broker();
    let neighbors = Neighbors::new(&broker);
    neighbors.appear("press/d1", 1);
    let (token, entry) = user("prometheus", "operator");
    let dashboard = Dashboard::start(&broker, None, &[entry]);
    let bearer = format!("Bearer prometheus:{token}");
    let program = Client::new(dashboard.base());
    let get = |path: &str, bearer: &str| program.get_with(path, &[("authorization", bearer)]);
    assert_eq!(get("/metrics", "Bearer prometheus:wrong").status, 303);
    let end = Instant::now() + PATIENCE;
    while !get("/metrics", &bearer).body.contains("latrod_devices{status=\"online\"} 1") {
        assert!(Instant::now() < end, "{}", get("/metrics", &bearer).body);
    }
    let devices = get("/devices.json?state=paused", &bearer).body;
    let devices: serde_json::Value = serde_json::from_str(&devices).unwrap();
    assert_eq!(devices[0]["device"], "d1");
    let fields = [("command", "pause"), ("device", "press/d1"), ("word", "")];
    let refused = program.post_from("/act", &fields, &[("authorization", &bearer)]);
    assert_eq!(refused.status, 403);
    let guessed = [("command", "pause"), ("device", "press/d1"), ("word", "0")];
    assert_eq!(program.post_from("/act", &guessed, &[("authorization", &bearer)]).status, 403);
}

#[test]
fn a_proxy_that_is_believed_names_the_user() {
    let broker = open_broker();
    let (_, entry) = user("anna", "operator");
    let dashboard = Dashboard::start_with(&broker, None, &[entry], |page| {
        page.insert("proxy_header".into(), "X-Forwarded-User".into());
        page.insert("proxies".into(), vec!["127.0.0.1".to_owned()].into());
    });
    let client = Client::new(dashboard.base());
    let page = |names: &[&str]| {
        let headers: Vec<_> = names.iter().map(|name| ("x-forwarded-user", *name)).collect();
        client.get_with("/", &headers)
    };
    assert!(page(&["anna"]).body.contains("anna (operator)"));
    assert!(page(&["somebody"]).body.contains("somebody (viewer)"));
    assert!(!page(&["anna"]).body.contains("Log out"), "that is the proxy's affair");
    assert_eq!(page(&[]).status, 303);
    assert_eq!(page(&["anna", "somebody"]).status, 303, "one of them is the client's own");
}

#[test]
fn a_link_leads_to_its_page_after_the_login() {
    let broker = open_broker();
    let (token, entry) = user("anna", "viewer");
    let dashboard = Dashboard::start(&broker, None, &[entry]);
    let client = Client::new(dashboard.base());
    let login = client.get("/?tag=site%3Dberlin").headers["location"].to_str().unwrap().to_owned();
    assert_eq!(login, "/login?next=%2F%3Ftag%3Dsite%253Dberlin");
    assert!(client.get(&login).body.contains("value=\"/?tag=site%3Dberlin\""));
    let next = |next: &str| {
        let fields = [("name", "anna"), ("token", token.as_str()), ("next", next)];
        client.post("/login", &fields).headers["location"].to_str().unwrap().to_owned()
    };
    assert_eq!(next("/?tag=site%3Dberlin"), "/?tag=site%3Dberlin");
    for foreign in ["//evil.example", "/\\evil.example", "https://evil.example", ""] {
        assert_eq!(next(foreign), "/", "{foreign}");
    }
}

#[test]
fn forms_of_others_are_refused() {
    let broker = open_broker();
    Neighbors::new(&broker).appear("press/d1", 1);
    let key = broker.path("operator-key.pem");
    Device::latrod(&["command", "--new-key", key.to_str().unwrap()]);
    let dashboard = Dashboard::start(&broker, Some(key), &[]);
    let operator = dashboard.operator();
    operator.wait("/", "press/d1");
    let word = operator.word();
    let fields = [("word", word.as_str()), ("command", "pause"), ("device", "press/d1")];

    let foreign = [("origin", "http://evil.example")];
    assert_eq!(operator.post_from("/act", &fields, &foreign).status, 403);
    assert_eq!(
        operator.post_from("/act", &fields, &[("sec-fetch-site", "cross-site")]).status,
        403
    );
    assert_eq!(operator.post_from("/logout", &[("word", &word)], &foreign).status, 403);
    let guessed = [("word", "0"), ("command", "pause"), ("device", "press/d1")];
    assert_eq!(operator.post("/act", &guessed).status, 403);
    assert_eq!(operator.post("/act", &fields[1..]).status, 403);

    // What is no command, or for no device, is refused as a whole.
    for (command, more) in [
        ("explode", [("device", "press/d1")]),
        ("promote", [("device", "press/d1")]),
        ("pause", [("device", "no-device")]),
        ("pause", [("device", "press/+")]),
        ("pause", [("nothing", "")]),
    ] {
        assert_eq!(operator.act(command, &more).status, 400, "{command} {more:?}");
    }
    assert_eq!(operator.act("pause", &[("device", "press/d1")]).status, 303);
    let page = operator.get("/devices/press/d1").body;
    assert_eq!(page.matches("<th scope=\"row\">pause</th>").count(), 1, "{page}");
}

#[test]
fn odd_requests_get_short_answers() {
    let broker = open_broker();
    let dashboard = Dashboard::start(&broker, None, &[]);
    let operator = dashboard.operator();
    for path in [
        "/assets/../Cargo.toml",
        "/assets/%2e%2e%2fhub.rs",
        "/assets/",
        "/nothing",
        "/devices/a",
        "/devices/a/b",
        "/devices/%00/b",
        "/live?page=//evil.example",
        "/live",
        "/devices/a/b/curves/c",
    ] {
        let answer = operator.get(path);
        assert_eq!(answer.status, 404, "{path}: {}", answer.body);
        assert!(answer.body.len() < 2000, "{path}");
    }
    // The answer may come before all is sent, and be lost with the connection.
    let huge = "x".repeat(9 << 20);
    let status = operator.try_post("/act", &[("word", &huge)]).map(|answer| answer.status);
    assert!(status.is_none_or(|status| status == 413), "{status:?}");
    assert_eq!(operator.get("/devices/a/b/curves?from=9223372036854775807&to=-1").status, 200);
    let mut forged = Client::new(dashboard.base());
    assert_eq!(forged.log_in("x", "").status, 401);
    assert_eq!(operator.get("/health").body, "ok\n");
}

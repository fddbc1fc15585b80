//! What the page shows and does.

use serde_json::json;

use crate::broker::Broker;
use crate::client::{Client, PATIENCE};
use crate::neighbors::{Neighbors, open_broker};
use crate::program::Dashboard;
use crate::support::{Device, good_tasks};

#[test]
fn a_device_learns_and_obeys_before_the_operators_eyes() {
    let broker = Broker::start();
    let mut device = Device::new();
    device.connect(&broker, broker.tls_port);
    device.set("mqtt.state_every_s", 5);
    device.set("device.tags", vec!["site=berlin".to_owned()]);
    let dashboard = Dashboard::start(&broker, Some(device.path("operator.pem")), &[]);
    let operator = dashboard.operator();
    assert!(operator.get("/").body.contains("No device has been heard of"));

    device.drop_tasks("sums", &good_tasks());
    let mut daemon = device.start();
    operator.wait("/", "press/d1");
    let page = operator.wait("/devices/press/d1", "site=berlin");
    assert!(page.contains("online"), "{page}");
    operator.wait("/devices/press/d1", "promoted adapter");
    operator.wait("/changes", "/devices/press/d1");
    let answer = operator.json("/devices/press/d1/curves");
    let curves = answer["curves"].as_array().unwrap();
    let reward = curves.iter().find(|curve| curve["name"] == "reward").expect("rewards");
    assert!(!reward["points"].as_array().unwrap().is_empty());
    assert_eq!(answer["marks"][0]["kind"], "promoted", "{answer}");

    let given = operator.act("pause", &[("device", "press/d1")]);
    assert_eq!(given.status, 303, "{}", given.body);
    let page = operator.wait("/devices/press/d1", ">done<");
    assert!(page.contains("pause"), "{page}");
    operator.wait("/devices/press/d1", "<strong>paused</strong>");
    operator.wait("/audit", "press/d1");

    // All that match: what was shown is asked once more, and what is confirmed is done.
    let asked = operator.act("resume", &[("scope", "filter"), ("filter", "tag=site%3Dberlin")]);
    assert!(asked.body.contains("resume on 1 device?"), "{}", asked.body);
    assert_eq!(
        operator.act("resume", &[("scope", "selected"), ("device", "press/d1")]).status,
        303
    );

    // What was kept is there after a restart, before the device says anything new.
    daemon.kill();
    let dashboard = dashboard.restart();
    let operator = dashboard.operator();
    operator.wait("/devices/press/d1", "promoted adapter");
    operator.wait("/?status=lost", "/devices/press/d1");
    operator.wait("/audit", "pause");
    assert!(operator.get("/metrics").body.contains("latrod_devices{status=\"lost\"} 1"));
}

#[test]
fn what_devices_say_is_text() {
    let broker = open_broker();
    let neighbors = Neighbors::new(&broker);
    let evil = "<script>alert(1)</script>\"'&";
    let name = "<b onmouseover=x>";
    neighbors.appear(&format!("press/{name}"), 1);
    neighbors.say(
        &format!("press/{name}"),
        "birth",
        3,
        &json!({"boot_id": "b007", "tags": {evil: evil},
        "device": {"host": evil}, "version": evil}),
    );
    neighbors.say(
        &format!("press/{name}"),
        "state",
        4,
        &json!({"state": evil, "reason": evil,
        "adapter": {"version": evil, "sha256": evil}, "overrides": {evil: evil},
        "alarms": [{"alarm": evil, "severity": "error", "sentence": evil, "for_s": 1}]}),
    );
    neighbors.say(
        &format!("press/{name}"),
        "event",
        5,
        &json!({"event": evil, "severity": "info",
        "sentence": evil, "detail": {}}),
    );
    let dashboard = Dashboard::start(&broker, None, &[]);
    let operator = dashboard.operator();
    operator.wait("/", "&lt;script&gt;");
    let address = "/devices/press/%3Cb%20onmouseover%3Dx%3E";
    for path in [
        "/",
        "/?q=%3Cscript%3E",
        address,
        "/alarms",
        "/changes",
        "/audit",
        "/?alarm=%3Cscript%3E%22",
    ] {
        let answer = operator.get(path);
        assert_eq!(answer.status, 200, "{path}");
        assert!(
            !answer.body.contains("<script>alert") && !answer.body.contains("<b onmouseover"),
            "{path}"
        );
        assert!(!answer.body.contains(" style=") && !answer.body.contains(" onclick="), "{path}");
    }
    let policy = &operator.get("/").headers["content-security-policy"];
    assert!(policy.to_str().unwrap().starts_with("default-src 'none'; script-src 'self'"));
}

#[test]
fn alarms_are_acknowledged_and_devices_compared() {
    let broker = open_broker();
    let neighbors = Neighbors::new(&broker);
    for (device, reward) in [("press/d1", 0.25), ("press/d2", 0.5)] {
        neighbors.appear(device, 1);
        let progress =
            json!({"step": 1, "steps": 9, "numbers": {"reward": reward, "unheard_of": 1.0}});
        neighbors.say(device, "progress", 5, &progress);
    }
    let alarm = json!({"alarm": "low_disk", "severity": "error", "sentence": "the disk is full", "for_s": 60});
    neighbors.say("press/d1", "state", 6, &json!({"state": "degraded", "alarms": [alarm]}));
    let dashboard = Dashboard::start(&broker, None, &[]);
    let operator = dashboard.operator();
    // Progress is not retained, so it counts once somebody listens.
    operator.wait("/alarms", "the disk is full");
    neighbors.say(
        "press/d1",
        "progress",
        7,
        &json!({"step": 2, "steps": 9, "numbers": {"reward": 0.25}}),
    );
    neighbors.say(
        "press/d2",
        "progress",
        8,
        &json!({"step": 2, "steps": 9, "numbers": {"reward": 0.5}}),
    );

    let word = operator.word();
    let seen = |alarm: &str| {
        operator.post("/acknowledge", &[("word", &word), ("device", "press/d1"), ("alarm", alarm)])
    };
    assert_eq!(seen("no_such_alarm").status, 404);
    assert_eq!(seen("low_disk").status, 303);
    let page = operator.get("/alarms").body;
    let (new, old) = page.split_once("id=\"seen\"").unwrap();
    assert!(!new.contains("the disk is full") && old.contains("the disk is full"), "{page}");
    operator.wait("/audit", "acknowledge low_disk");

    assert_eq!(operator.act("compare", &[("device", "press/d1")]).status, 400);
    let chosen = operator.act("compare", &[("device", "press/d1"), ("device", "press/d2")]);
    let address = chosen.headers["location"].to_str().unwrap().to_owned();
    assert!(operator.get(&address).body.contains("2 devices"));
    let curves = address.replace("/compare?", "/compare/curves?");
    operator.wait(&curves, "\"label\":\"press/d2\"");
    let answer = operator.json(&curves);
    let names: Vec<_> =
        answer["curves"].as_array().unwrap().iter().map(|c| c["name"].clone()).collect();
    assert_eq!(names, ["reward"], "only what the page draws is kept");
    assert_eq!(answer["curves"][0]["series"][0]["points"][0][1], 0.25);

    // What was seen stays so after a restart.
    let dashboard = dashboard.restart();
    let page = dashboard.operator().wait("/alarms", "the disk is full");
    assert!(page.split_once("id=\"seen\"").unwrap().1.contains("the disk is full"), "{page}");
}

#[test]
fn a_roll_out_stops_where_devices_fail() {
    let broker = open_broker();
    let neighbors = Neighbors::new(&broker);
    let names: Vec<String> = (0..4).map(|n| format!("press/d{n}")).collect();
    names.iter().for_each(|name| neighbors.appear(name, 1));
    let key = broker.path("operator-key.pem");
    Device::latrod(&["command", "--new-key", key.to_str().unwrap()]);
    let dashboard = Dashboard::start(&broker, Some(key), &[]);
    let operator = dashboard.operator();
    names.iter().for_each(|name| drop(operator.wait("/", name)));
    let begin = |stages: &str| {
        let mut fields = vec![("stages", stages), ("pause", "0"), ("limit", "30")];
        fields.extend(names.iter().map(|name| ("device", name.as_str())));
        operator.act("pause", &fields)
    };
    assert_eq!(begin("50, 20, 100").status, 400);
    assert_eq!(begin("25, 75, 100").status, 303);

    // The first device does it, so that the second stage begins; there one fails, which is more than 30 %.
    let answer = |name: &str, state: &str| {
        let page = operator.wait("/rollouts", "running");
        assert!(page.contains("/4"), "{page}");
        let id = neighbors.command_of(name);
        let ack = json!({"command": id, "state": state, "reason": "a test wants it"});
        neighbors.say(name, &format!("ack/{id}"), 20, &ack);
    };
    answer("press/d0", "done");
    operator.wait("/rollouts", " 3/4");
    answer("press/d1", "failed");
    answer("press/d2", "done");
    operator.wait("/rollouts", "stopped: 1 of 3 devices failed and 0 got worse");
    operator.wait("/devices/press/d1", "a test wants it");
    assert!(operator.get("/devices/press/d3").body.contains("No commands yet"));
    operator.wait("/audit", "4 devices in stages 25, 75, 100 %");

    let dashboard = dashboard.restart();
    dashboard.operator().wait("/rollouts", "1 of 3 devices failed");
}

#[test]
fn an_open_page_is_kept_up_to_date() {
    let broker = open_broker();
    let neighbors = Neighbors::new(&broker);
    let dashboard = Dashboard::start(&broker, None, &[]);
    let operator = dashboard.operator();
    neighbors.appear("press/d1", 1);
    operator.wait("/", "press/d1");
    let mut live = operator.live("/?q=d1");
    assert_eq!(live.next().unwrap().0, "hello");
    let part = |live: &mut dyn Iterator<Item = (String, String)>, text: &str| {
        let end = std::time::Instant::now() + PATIENCE;
        let mut in_time = live.take_while(|_| std::time::Instant::now() < end);
        let part = in_time.find(|(event, data)| event == "part" && data.contains(text));
        serde_json::from_str::<serde_json::Value>(&part.expect(text).1).unwrap()
    };
    assert_eq!(part(&mut live, "an operator wants it")["id"], "devices");
    neighbors.say(
        "press/d1",
        "state",
        9,
        &json!({"state": "training", "reason": "the device is idle"}),
    );
    let devices = part(&mut live, "the device is idle");
    assert!(devices["html"].as_str().unwrap().starts_with("<div id=\"devices\""));
    // Nothing changes any more: only signs of life, though times go on.
    let after: Vec<String> = live.map(|(event, _)| event).take(4).collect();
    assert_eq!(after[2..], ["beat", "beat"], "{after:?}");
}

#[test]
fn a_broker_that_is_away_is_said_and_comes_back() {
    let mut broker = open_broker();
    let neighbors = Neighbors::new(&broker);
    neighbors.appear("press/d1", 1);
    let dashboard = Dashboard::start(&broker, None, &[]);
    let operator = dashboard.operator();
    operator.wait("/", "press/d1");
    broker.kill();
    let page = operator.wait("/", "Not connected to the broker");
    assert!(page.contains("press/d1"), "what was known is still shown");
    broker.restart();
    let end = std::time::Instant::now() + PATIENCE;
    while operator.get("/").body.contains("Not connected to the broker") {
        assert!(std::time::Instant::now() < end, "{}", dashboard.log());
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

#[test]
fn a_retired_device_is_forgotten_by_the_broker_as_well() {
    let broker = open_broker();
    let neighbors = Neighbors::new(&broker);
    neighbors.appear("press/old", 1);
    neighbors.appear("press/new", 1);
    let key = broker.path("operator-key.pem");
    Device::latrod(&["command", "--new-key", key.to_str().unwrap()]);
    let dashboard = Dashboard::start(&broker, Some(key), &[]);
    let operator = dashboard.operator();
    operator.wait("/", "press/old");
    operator.wait("/", "press/new");
    let word = operator.word();
    let retire = || operator.post("/retire", &[("word", &word), ("device", "press/old")]).status;
    // What the broker has kept may come before its last answer to the subscriptions.
    let end = std::time::Instant::now() + PATIENCE;
    while retire() == 409 {
        assert!(std::time::Instant::now() < end, "{}", dashboard.log());
    }
    gone(&operator, "press/old");
    let dashboard = dashboard.restart();
    let operator = dashboard.operator();
    operator.wait("/", "press/new");
    gone(&operator, "press/old");
}

/// Waits until a device is on no list.
fn gone(client: &Client, name: &str) {
    let end = std::time::Instant::now() + PATIENCE;
    while client.get("/").body.contains(name) {
        assert!(std::time::Instant::now() < end, "{name} is still there");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn approving_promotes_what_waits_on_each_device() {
    let broker = open_broker();
    let neighbors = Neighbors::new(&broker);
    let key = tempfile::tempdir().unwrap();
    let pem = key.path().join("operator.pem");
    Device::latrod(&["command", "--new-key", pem.to_str().unwrap()]);
    let dashboard = Dashboard::start(&broker, Some(pem), &[]);
    let operator = dashboard.operator();
    neighbors.appear("press/d1", 1);
    let waits = json!({"state": "paused", "reason": "r", "awaiting": "00000002-0a1b2c3d",
        "versions": [{"version": "00000002-0a1b2c3d"}]});
    neighbors.say("press/d1", "state", 9, &waits);
    neighbors.appear("press/d2", 1);
    operator.wait("/devices/press/d1", "waits for approval");
    operator.wait("/", "press/d2");

    let both = [("device", "press/d1"), ("device", "press/d2")];
    let answer = operator.act("approve", &both);

    assert_eq!(answer.status, 409);
    assert!(answer.body.contains("no adapter waits for approval there"), "{}", answer.body);
    neighbors.command_of("press/d1/cmd/promote");
    operator.wait("/devices/press/d1", "promote 00000002-0a1b2c3d");
    operator.wait("/audit", "approve");
}

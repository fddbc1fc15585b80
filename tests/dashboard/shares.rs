//! Several dashboards, each with its share of the fleets.

use crate::neighbors::{Neighbors, open_broker};
use crate::program::Dashboard;

#[test]
fn a_dashboard_that_is_killed_costs_the_others_nothing_and_catches_up() {
    let broker = open_broker();
    let neighbors = Neighbors::new(&broker);
    let of = |fleet: &str| {
        let fleets = vec![fleet.to_owned()];
        Dashboard::start_with(&broker, None, &[], |page| {
            page.insert("fleets".into(), fleets.into());
        })
    };
    let (north, south) = (of("north"), of("south"));
    for (i, device) in ["north/d1", "north/d2", "south/d1", "south/d2"].iter().enumerate() {
        neighbors.appear(device, 10 * i as u64 + 1);
    }
    north.operator().wait("/devices.json", r#""device":"d2""#);
    south.operator().wait("/devices.json", r#""device":"d2""#);

    let north = north.kill();
    neighbors.appear("north/d3", 51);
    neighbors.say(
        "north/d1",
        "state",
        60,
        &serde_json::json!({"state": "training", "reason": "idle"}),
    );
    neighbors.appear("south/d3", 71);

    let page = south.operator().wait("/devices.json", r#""device":"d3""#);
    assert!(!page.contains("north"), "{page}");
    let north = north.start();
    let page = north.operator().wait("/devices.json", r#""device":"d3""#);
    assert!(!page.contains("south"), "{page}");
    north.operator().wait("/devices.json?q=d1", r#""state":"training""#);
}

//! Many devices in one loop: each is visited twice a second in its turn, in place of a timer for each.

use std::time::{Duration, Instant};

use super::device::{Device, Manner, Oddities, Surroundings};
use super::random::Random;
use super::truth::{Totals, Truth};
use super::{Settings, Shares};
use crate::contract::ContractError;
use crate::contract::topics::Topics;
use crate::contract::wire::wall_clock_ms;

/// Time between two turns.
pub const TURN: Duration = Duration::from_millis(50);
/// Turns until all devices have been visited.
const TURNS: usize = 10;
/// Hours by which a skewed clock is off, at most.
const MOST_SKEW_HOURS: u64 = 12;
/// Ages at which silent devices stop speaking, in milliseconds.
const SPEAKS_MS: (u64, u64) = (10_000, 30_000);

/// Ticks of a past that a device has had, at most: some hours, so that there is something to see at once.
const PAST_TICKS: u64 = 2000;

/// Devices, of which the first have begun to live.
pub struct Crowd {
    settings: Settings,
    around: Surroundings,
    oddities: Vec<Oddities>,
    /// Those that have been started; a cloned one is there twice.
    devices: Vec<Device>,
    /// Numbers of devices that have been started.
    started: usize,
    turn: usize,
    /// The right time when the crowd came together, and since when.
    clock: (u64, Instant),
}

impl Crowd {
    /// A crowd of which nobody has been started.
    pub fn new(settings: Settings, around: Surroundings) -> Self {
        Self {
            oddities: oddities(settings.devices, settings.seed, settings.shares),
            settings,
            around,
            devices: Vec::new(),
            started: 0,
            turn: 0,
            clock: (wall_clock_ms(), Instant::now()),
        }
    }

    /// The time, in milliseconds since 1970; it never goes back.
    pub fn now_ms(&self) -> u64 {
        self.clock.0 + self.clock.1.elapsed().as_millis() as u64
    }

    /// Does what is due: visits a part of the devices, and starts more of them.
    ///
    /// # Errors
    /// A name that cannot be a level of a topic.
    pub fn turn(&mut self) -> Result<(), ContractError> {
        let now_ms = self.now_ms();
        let mut may_connect = self.settings.connects_per_s.div_ceil(20).max(1);
        for device in self.devices.iter_mut().skip(self.turn).step_by(TURNS) {
            device.visit(&self.around, now_ms, &mut may_connect);
        }
        self.turn = (self.turn + 1) % TURNS;
        while may_connect > 0 && self.started < self.settings.devices {
            self.start(now_ms, &mut may_connect)?;
        }
        Ok(())
    }

    fn start(&mut self, now_ms: u64, may_connect: &mut usize) -> Result<(), ContractError> {
        let number = self.started as u64 + 1;
        let Settings { fleet, prefix, seed, .. } = &self.settings;
        let name = format!("{prefix}-{number:05}");
        let who = Random::of(*seed, number);
        let oddities = self.oddities.get(self.started).copied().unwrap_or_default();
        let manner = Manner {
            speed: self.settings.speed,
            state_every_ms: self.settings.state_every_s.saturating_mul(1000),
            past_ticks: PAST_TICKS,
        };
        for twin in 0..=u64::from(oddities.cloned) {
            let topics = Topics::new(fleet, &name)?;
            let mut device = Device::new(topics, &who, twin, (oddities, manner), now_ms);
            device.visit(&self.around, now_ms, may_connect);
            self.devices.push(device);
        }
        self.started += 1;
        Ok(())
    }

    /// Asks all to leave in good order.
    pub fn stop(&mut self) {
        self.started = self.settings.devices;
        let now_ms = self.now_ms();
        self.devices.iter_mut().for_each(|device| device.stop(now_ms));
    }

    /// Devices that have not left yet.
    pub fn leaving(&self) -> usize {
        self.devices.iter().filter(|device| device.is_leaving()).count()
    }

    /// The crowd in numbers.
    pub fn totals(&self) -> Totals {
        Totals::of(&self.devices, self.now_ms())
    }

    /// What is true of everybody.
    pub fn truth(&self, ended: bool) -> Truth<'_> {
        Truth::of(&self.devices, self.now_ms(), ended)
    }

    /// Why a connection was lost that has not come back, of one device as an example for all.
    pub fn why_lost(&self) -> Option<&str> {
        self.devices.iter().find_map(|device| device.lost())
    }
}

/// What is odd about each device: as many of each kind as the shares say, and each device has one oddity as
/// long as the shares add up to no more than 1.
fn oddities(devices: usize, seed: u64, shares: Shares) -> Vec<Oddities> {
    let mut random = Random::of(seed, 0);
    let mut order: Vec<usize> = (0..devices).collect();
    for at in (1..devices).rev() {
        order.swap(at, random.whole(0, at as u64) as usize);
    }
    let mut oddities = vec![Oddities::default(); devices];
    let mut next = order.into_iter().cycle();
    let mut chosen = |share: f64| -> Vec<usize> {
        let count = (share * devices as f64).round() as usize;
        next.by_ref().take(count.min(devices)).collect()
    };
    for at in chosen(shares.flaky) {
        oddities[at].flaky = true;
    }
    for at in chosen(shares.skewed) {
        let hours = random.whole(1, MOST_SKEW_HOURS) as i64;
        oddities[at].skew_ms = 3_600_000 * if random.chance(0.5) { hours } else { -hours };
    }
    for at in chosen(shares.clones) {
        oddities[at].cloned = true;
    }
    for at in chosen(shares.silent) {
        oddities[at].silent_after_ms = Some(random.whole(SPEAKS_MS.0, SPEAKS_MS.1));
    }
    oddities
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_devices_are_odd_as_the_shares_say_and_each_in_one_way() {
        let shares = Shares { flaky: 0.1, skewed: 0.05, clones: 0.02, silent: 0.03 };

        let odd = oddities(200, 7, shares);

        let count = |is_odd: fn(&Oddities) -> bool| odd.iter().filter(|odd| is_odd(odd)).count();
        assert_eq!(count(|odd| odd.flaky), 20);
        assert_eq!(count(|odd| odd.skew_ms != 0), 10);
        assert_eq!(count(|odd| odd.cloned), 4);
        assert_eq!(count(|odd| odd.silent_after_ms.is_some()), 6);
        assert_eq!(count(|odd| *odd != Oddities::default()), 40);
        assert_eq!(odd, oddities(200, 7, shares));
        assert_eq!(oddities(0, 7, shares), []);
    }
}

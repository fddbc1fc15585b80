//! What operators' commands change in a made-up life.

use super::work::{MOST_STEPS, Work};
use super::{Life, Told, Waiting};
use crate::contract::event::{Event, Sentence};
use crate::contract::wire::{AckState, Action};

/// The settings that a made-up device has, and their largest values.
const SETTINGS: [(&str, u64); 2] =
    [("learn.steps", MOST_STEPS), ("cycle.min_new_tasks", super::MOST_TASKS)];

impl Life {
    /// Does a command, or begins to: acknowledgements from `running` on are among what is told next.
    /// `expires` is in unix seconds.
    pub fn obey(&mut self, id: &str, action: &Action, expires: u64) {
        let waiting = Waiting { id: id.to_owned(), expires };
        match action {
            Action::TrainNow => self.train_now(waiting),
            Action::Check => self.check(waiting),
            _ => {
                self.ack(id.to_owned(), AckState::Running, None);
                let (state, reason) = self.act(action);
                self.ack(id.to_owned(), state, reason);
            }
        }
        self.changed = true;
        self.settle();
    }

    /// Does what is done at once.
    fn act(&mut self, action: &Action) -> (AckState, Option<String>) {
        match action {
            Action::Pause => self.paused = true,
            Action::Resume => self.paused = false,
            Action::Promote { version } => return self.promote(version),
            Action::Rollback => {
                return match self.roll_back("an operator wants it") {
                    Some(version) => (AckState::Done, Some(format!("{version} was rolled back"))),
                    None => (AckState::Refused, Some("no adapter is active".to_owned())),
                };
            }
            Action::Set { key, value } => return self.set(key, value),
            Action::RestoreTasks => {
                let tasks = std::mem::take(&mut self.troubles.set_aside);
                self.tasks.train += tasks;
                self.tasks.new += tasks;
                return (AckState::Done, Some(format!("{tasks} tasks were restored")));
            }
            Action::TrainNow | Action::Check => {}
        }
        (AckState::Done, None)
    }

    fn promote(&mut self, version: &str) -> (AckState, Option<String>) {
        match self.shelf.switch(version) {
            Ok(from) if from.as_deref() == Some(version) => {
                (AckState::Done, Some(format!("{version} was active already")))
            }
            Ok(from) => {
                let reason = Sentence::new("an operator wants it");
                self.tell(Event::Switched { from, to: Some(version.to_owned()), reason });
                (AckState::Done, Some(format!("{version} is active")))
            }
            Err(why) => (AckState::Failed, Some(why)),
        }
    }

    fn set(&mut self, key: &str, value: &str) -> (AckState, Option<String>) {
        let Some((_, most)) = SETTINGS.iter().find(|(known, _)| *known == key) else {
            let known = SETTINGS.map(|(known, _)| known).join(" and ");
            return (
                AckState::Refused,
                Some(format!("{key} is no setting of a made-up device, which has {known}")),
            );
        };
        if value.is_empty() {
            self.overrides.remove(key);
            return (AckState::Done, Some(format!("{key} is what the file says from now on")));
        }
        if !value.parse().is_ok_and(|number: u64| (1..=*most).contains(&number)) {
            return (AckState::Refused, Some(format!("{key} must be from 1 to {most}")));
        }
        self.overrides.insert(key.to_owned(), value.to_owned());
        (AckState::Done, Some(format!("{key} is {value} from now on")))
    }

    fn train_now(&mut self, waiting: Waiting) {
        let id = waiting.id.clone();
        self.give_way(|life| &mut life.train_now, waiting);
        if matches!(self.work, Work::Cycle(_)) {
            self.ack(id, AckState::Running, None);
        }
    }

    fn check(&mut self, waiting: Waiting) {
        let why = match self.shelf.active() {
            None => Some("no adapter is active that could be checked"),
            Some(_) if self.tasks.fresh_held_out == 0 => {
                Some("no held-out tasks have come since the last check")
            }
            Some(_) => None,
        };
        if let Some(why) = why {
            return self.ack(waiting.id, AckState::Failed, Some(why.to_owned()));
        }
        let id = waiting.id.clone();
        self.give_way(|life| &mut life.check, waiting);
        if matches!(self.work, Work::Check { .. }) {
            self.ack(id, AckState::Running, None);
        }
    }

    /// Of two commands that want the same, the later one waits.
    fn give_way(&mut self, place: fn(&mut Self) -> &mut Option<Waiting>, waiting: Waiting) {
        if let Some(earlier) = place(self).replace(waiting) {
            let why = "a newer command took its place".to_owned();
            self.ack(earlier.id, AckState::Failed, Some(why));
        }
    }

    /// Commands that wait are over when their time is up; what has begun goes on.
    pub(super) fn expire(&mut self) {
        let now_s = self.lived_ms / 1000;
        let over = |waiting: &mut Waiting| now_s >= waiting.expires;
        let cycle = matches!(self.work, Work::Cycle(_));
        let check = matches!(self.work, Work::Check { .. });
        let late = [
            self.train_now.take_if(|waiting| !cycle && over(waiting)),
            self.check.take_if(|waiting| !check && over(waiting)),
        ];
        for waiting in late.into_iter().flatten() {
            let why = "its time ran out before it was begun".to_owned();
            self.ack(waiting.id, AckState::Expired, Some(why));
        }
    }

    pub(super) fn ack(&mut self, id: String, state: AckState, reason: Option<String>) {
        self.told.push(Told::Ack { id, state, reason });
    }
}

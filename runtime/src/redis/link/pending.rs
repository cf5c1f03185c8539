//! The commands of one call that have no final answer yet.

use ::redis::Cmd;

use super::failure::{Answer, Failure};
use super::server::timed_out;

pub(super) struct Pending {
    commands: Vec<Cmd>,
    /// The places of these commands in the call.
    places: Vec<usize>,
    answers: Vec<Answer>,
}

impl Pending {
    pub(super) fn new(commands: Vec<Cmd>) -> Self {
        let answers = commands.iter().map(|_| Err(timed_out().into())).collect();
        Self { places: (0..commands.len()).collect(), commands, answers }
    }

    pub(super) fn commands(&self) -> &[Cmd] {
        &self.commands
    }

    pub(super) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// Takes the answers to the commands, in order. Commands whose error says to try `again` stay
    /// pending; the error is their answer if no other comes.
    pub(super) fn settle(
        &mut self,
        answers: impl IntoIterator<Item = Answer>,
        again: impl Fn(&Failure) -> bool,
    ) {
        let commands = core::mem::take(&mut self.commands);
        let places = core::mem::take(&mut self.places);
        for ((command, place), answer) in commands.into_iter().zip(places).zip(answers) {
            if answer.as_ref().is_err_and(&again) {
                self.commands.push(command);
                self.places.push(place);
            }
            if let Some(slot) = self.answers.get_mut(place) {
                *slot = answer;
            }
        }
    }

    /// The errors of the commands that are pending, one for each.
    pub(super) fn errors(&self) -> impl Iterator<Item = &Failure> {
        self.places.iter().filter_map(|place| self.answers.get(*place)?.as_ref().err())
    }

    /// Gives all pending commands the same error.
    pub(super) fn fail(&mut self, error: &Failure) {
        let errors: Vec<_> = self.commands.iter().map(|_| Err(error.clone())).collect();
        self.settle(errors, |_| false);
    }

    pub(super) fn into_answers(self) -> Vec<Answer> {
        self.answers
    }
}

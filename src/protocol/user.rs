//! Users, as the protocols know them.

use std::rc::Rc;

use super::name::Name;

/// What a user may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct May {
    /// See the pictures.
    pub watch: bool,
    /// Change the camera's controls, and see who else is there.
    pub control: bool,
    /// Bring the box that camd is in another system.
    pub update: bool,
}

impl May {
    /// The words of `user.may`, in the order of the error messages.
    pub const WORDS: [&'static str; 3] = ["watch", "control", "update"];

    /// Everything.
    pub const ALL: May = May {
        watch: true,
        control: true,
        update: true,
    };

    /// Adds what a word of [`May::WORDS`] stands for. False: it is none of them.
    pub fn add(&mut self, word: &str) -> bool {
        match word {
            "watch" => self.watch = true,
            "control" => self.control = true,
            "update" => self.update = true,
            _ => return false,
        }
        true
    }

    /// In the words of `user.may`.
    pub fn words(self) -> impl Iterator<Item = &'static str> + Clone {
        let has = [self.watch, self.control, self.update];
        let words = May::WORDS.into_iter().zip(has);
        words.filter(|(_, has)| *has).map(|(word, _)| word)
    }
}

/// A user who has logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// `user.name`
    pub name: Name,
    /// `user.may`
    pub may: May,
}

/// Who is let in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Everybody who can connect.
    #[default]
    Open,
    /// Who shows the password or the token of a user.
    Users,
}

impl Access {
    /// All of them, in the order of the error messages.
    pub const ALL: [Access; 2] = [Access::Users, Access::Open];

    /// The name in `listener.access` and in `/state`.
    pub fn name(self) -> &'static str {
        match self {
            Access::Users => "users",
            Access::Open => "open",
        }
    }
}

/// What became of a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is this user.
    In(Rc<User>),
    /// It is nobody.
    Nobody,
    /// There were too many that were nobody from there: the next one is looked at in so many seconds.
    Later(u32),
    /// So many others are being looked at that there is no room for this one.
    Busy,
}

//! What is wrong with the configuration that should be in force, for the pages.

use crate::config::ConfigError;
use crate::limits::{CONFIG_ERROR, CONFIG_ERRORS};

/// Of bounded size, so that the pages have room for it.
#[derive(Debug, Default)]
pub struct ConfigErrors {
    count: usize,
    shown: Vec<String>,
}

impl ConfigErrors {
    /// Keeps the text of the first [`CONFIG_ERRORS`], and the number of all.
    pub fn new(errors: &[ConfigError]) -> Self {
        let mut shown: Vec<_> = errors
            .iter()
            .take(CONFIG_ERRORS)
            .map(|error| short(&error.to_string()))
            .collect();
        let rest = errors.len() - shown.len();
        if rest > 0 {
            shown.push(format!("and {rest} more: the log has them"));
        }
        ConfigErrors {
            count: errors.len(),
            shown,
        }
    }

    /// How many there are, with those that are not shown.
    pub fn count(&self) -> usize {
        self.count
    }

    /// As `/state` has them.
    pub fn shown(&self) -> &[String] {
        &self.shown
    }
}

/// Cut where it gets too long. Control characters, which a path may have, would each need six bytes in JSON.
fn short(text: &str) -> String {
    const CUT: char = '…';
    let mut short = String::new();
    for c in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if short.len() + c.len_utf8() + CUT.len_utf8() > CONFIG_ERROR {
            short.push(CUT);
            break;
        }
        short.push(c);
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(message: &str) -> ConfigError {
        ConfigError {
            file: "camd.toml".to_owned(),
            line: Some(3),
            key: None,
            message: message.to_owned(),
        }
    }

    #[test]
    fn the_first_ones_are_shown_and_the_others_counted() {
        let none = ConfigErrors::new(&[]);
        assert!(none.count() == 0 && none.shown().is_empty());
        let many: Vec<_> = (0..CONFIG_ERRORS + 5)
            .map(|n| error(&n.to_string()))
            .collect();
        let errors = ConfigErrors::new(&many);
        assert_eq!(errors.count(), CONFIG_ERRORS + 5);
        assert_eq!(errors.shown().len(), CONFIG_ERRORS + 1);
        assert_eq!(errors.shown()[0], "camd.toml:3: 0");
        assert_eq!(
            errors.shown()[CONFIG_ERRORS],
            "and 5 more: the log has them"
        );
        let all = ConfigErrors::new(&many[..CONFIG_ERRORS]);
        assert_eq!(all.shown().len(), CONFIG_ERRORS);
    }

    #[test]
    fn a_long_one_is_cut_between_characters() {
        let errors = ConfigErrors::new(&[error(&"é\n".repeat(CONFIG_ERROR))]);
        let shown = &errors.shown()[0];
        assert!((CONFIG_ERROR - 4..=CONFIG_ERROR).contains(&shown.len()));
        assert!(shown.starts_with("camd.toml:3: é é ") && shown.ends_with('…'));
    }
}

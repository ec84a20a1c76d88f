//! A camera's controls (brightness, exposure, …), as programs and people see them.

use std::fmt;

/// One control of a camera, as V4L2 describes it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Control {
    /// The driver's name in lower case with `_` for each run of other characters, as `v4l2-ctl` prints it
    /// ("white_balance_automatic").
    pub name: String,
    /// "integer", "boolean", "menu", "button", …
    pub kind: &'static str,
    /// The smallest value.
    pub minimum: i64,
    /// The largest value.
    pub maximum: i64,
    /// From one value to the next.
    pub step: i64,
    /// The driver's own value.
    pub default: i64,
    /// `None` for a button or a control that cannot be read.
    pub value: Option<i64>,
    /// Menu entries: value and name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub menu: Vec<(i64, String)>,
    /// Cannot be set now (read-only, inactive or grabbed).
    pub locked: bool,
}

/// Why a control was not set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlError {
    /// The source has no control of that name.
    Unknown,
    /// The value is out of range or the control is locked; says which.
    Refused(String),
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ControlError::Unknown => f.write_str("no such control"),
            ControlError::Refused(why) => f.write_str(why),
        }
    }
}

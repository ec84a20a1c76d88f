//! Passwords, and what goes with them.

use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

use super::escape::decode;
use crate::limits::{LOGIN_NAME_BYTES, NAMED_FILE, PASSWORD, TOKEN, TOKEN_MIN};
use crate::system::files::{self, Takes};

/// A password: 1 to [`PASSWORD`] UTF-16 units, as a QString counts them. It is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// `None`: it is too long, or empty.
    pub fn new(text: &str) -> Option<Self> {
        let fits = (1..=PASSWORD).contains(&text.encode_utf16().count());
        fits.then(|| Secret(text.to_owned()))
    }

    /// The first line of the file at `path`, without its end. The error says what is wrong with it.
    pub fn from_file(path: &Path) -> Result<Self, String> {
        let text = files::read_text(path, NAMED_FILE, Takes::Files)
            .map_err(|e| format!("cannot be read: {e}"))?;
        let line = text.lines().next().unwrap_or_default();
        Secret::new(line).ok_or_else(|| {
            format!("its first line is not a password of 1 to {PASSWORD} characters")
        })
    }

    /// Whether somebody knows it. What it takes tells nothing about where `guess` is wrong, only whether its length is.
    pub fn is(&self, guess: &str) -> bool {
        self.0.as_bytes().ct_eq(guess.as_bytes()).into()
    }

    /// To log in elsewhere.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// The text by which a program that cannot log in is known. It is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// What a token may be, for a person: what stands in a URL as it is.
    pub(super) const ALLOWED: &'static str =
        "16 to 128 letters, digits, \"-\", \".\", \"_\" and \"~\", which nobody can guess";

    /// `None`: it is not as a token must be.
    pub fn new(text: &str) -> Option<Self> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
        let fits = (TOKEN_MIN..=TOKEN).contains(&text.len());
        (fits && text.bytes().all(plain)).then(|| Token(text.to_owned()))
    }

    /// As [`Secret::is`].
    pub fn is(&self, guess: &str) -> bool {
        self.0.as_bytes().ct_eq(guess.as_bytes()).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A user and a password for a server of HTTP (Basic, RFC 7617). It is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    user: String,
    password: Option<Secret>,
}

impl Login {
    /// What a user name may be, for a person.
    pub(super) const USER: &'static str =
        "1 to 256 bytes without a colon and without control characters";

    /// Whether this may be the name of a user. The protocol puts a colon behind it.
    pub(super) fn is_user(text: &str) -> bool {
        (1..=LOGIN_NAME_BYTES).contains(&text.len())
            && !text.contains(|c: char| c == ':' || c.is_control())
    }

    /// `None` for the password: an empty one.
    pub(super) fn new(user: String, password: Option<Secret>) -> Login {
        Login { user, password }
    }

    /// `user` or `user:password` as it stands in a URL in front of the @, with `%XX`. The error says what is wrong, without
    /// showing it.
    pub(crate) fn from_url(userinfo: &str) -> Result<Login, String> {
        let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
        let user = decode(user)?;
        // Cameras whose user has no name are not unheard of.
        if !user.is_empty() && !Login::is_user(&user) {
            return Err(format!("the user in front of the @ is not {}", Login::USER));
        }
        let password = decode(password)?;
        let is_text = !password.contains(char::is_control);
        let password = match Secret::new(&password) {
            _ if password.is_empty() => None,
            Some(secret) if is_text => Some(secret),
            _ => {
                return Err(format!(
                    "the password is not 1 to {PASSWORD} characters without control characters"
                ));
            }
        };
        Ok(Login { user, password })
    }

    /// The value of the field Authorization.
    pub(crate) fn authorization(&self) -> String {
        let password = self.password.as_ref().map_or("", Secret::expose);
        let text = format!("{}:{password}", self.user);
        let mut code = vec![0; text.len().div_ceil(3) * 4];
        let length = STANDARD
            .encode_slice(text, &mut code)
            .expect("four characters for three bytes");
        code.truncate(length);
        let code = String::from_utf8(code).expect("Base64 is ASCII");
        format!("Basic {code}")
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_of_urls() {
        for (userinfo, code) in [
            // RFC 7617, 2 and 2.1
            (
                "Aladdin:open%20sesame",
                "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
            ),
            ("test:123%C2%A3", "Basic dGVzdDoxMjPCow=="),
            ("admin", "Basic YWRtaW46"),
            ("admin:", "Basic YWRtaW46"),
            (":12345", "Basic OjEyMzQ1"),
            ("a:b:c", "Basic YTpiOmM="),
        ] {
            let login = Login::from_url(userinfo).unwrap();
            assert_eq!(login.authorization(), code, "{userinfo}");
            assert_eq!(format!("{login:?}"), "Login");
        }
        for (userinfo, why) in [
            ("a%3Ab:sesame", "without a colon"),
            ("a%0D%0AX:sesame", "control"),
            ("a:sesame%0A", "control"),
            ("a:sesame%F", "hexadecimal"),
            ("a:sesame%FF", "UTF-8"),
            (&format!("a:sesame{}", "x".repeat(256)), "1 to 256"),
            (&format!("{}:sesame", "x".repeat(257)), "1 to 256"),
        ] {
            let error = Login::from_url(userinfo).unwrap_err();
            assert!(error.contains(why), "{userinfo}: {error}");
            assert!(!error.contains("sesame"), "{error}");
        }
    }

    #[test]
    fn only_the_password_is_the_password() {
        let secret = Secret::new("pässword").unwrap();
        assert!(secret.is("pässword"));
        for wrong in ["", "password", "pässwor", "pässword ", "Pässword"] {
            assert!(!secret.is(wrong), "{wrong:?}");
        }
        assert_eq!(format!("{secret:?}"), "Secret");
        assert!(Secret::new("").is_none());
        assert!(Secret::new(&"x".repeat(257)).is_none());
    }

    #[test]
    fn a_files_first_line() {
        let path = std::env::temp_dir().join(format!("camd-secret-{}", std::process::id()));
        std::fs::write(&path, "first\r\nsecond\n").unwrap();
        assert!(Secret::from_file(&path).unwrap().is("first"));
        std::fs::write(&path, "\n").unwrap();
        assert!(Secret::from_file(&path).is_err());
        // Only its first line counts, but no file is as long as a disk.
        std::fs::write(&path, format!("first\n{}", "x".repeat(NAMED_FILE))).unwrap();
        let error = Secret::from_file(&path).unwrap_err();
        assert!(error.contains("more than the 262144 bytes"), "{error}");
        std::fs::remove_file(&path).unwrap();
        let error = Secret::from_file(Path::new("/dev/zero")).unwrap_err();
        assert!(
            error.starts_with("cannot be read: it is a device;"),
            "{error}"
        );
        let error = Secret::from_file(&path).unwrap_err();
        assert!(error.starts_with("cannot be read: No such file"), "{error}");
    }
}

//! What a request shows to be let in: Basic (RFC 7617), Bearer (RFC 6750), or `?token=` in its target.

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::limits::{PASSWORD_BYTES, TOKEN, USER_NAME_BYTES};

/// Base64 with its padding or without: some clients leave it out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a request shows. It is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
// It is boxed as a whole, and for one request.
#[allow(clippy::large_enum_variant)]
pub enum Claim {
    /// A name and a password.
    Password {
        /// The user.
        user: heapless::String<USER_NAME_BYTES>,
        /// As it was typed.
        password: heapless::String<PASSWORD_BYTES>,
    },
    /// A token.
    Token(heapless::String<TOKEN>),
}

impl Claim {
    /// From the field Authorization. `None`: it is none of the two schemes, or longer than any there can be.
    pub(super) fn read(field: &str) -> Option<Claim> {
        let (scheme, rest) = field.split_once(' ')?;
        let rest = rest.trim_matches(' ');
        if scheme.eq_ignore_ascii_case("bearer") {
            return Claim::token(rest);
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let mut room = [0; USER_NAME_BYTES + 1 + PASSWORD_BYTES + 3];
        let length = BASE64.decode_slice(rest, &mut room).ok()?;
        let colon = memchr::memchr(b':', &room[..length])?;
        let (user, password) = (&room[..colon], &room[colon + 1..length]);
        Some(Claim::Password {
            user: text(user)?,
            password: text(password)?,
        })
    }

    /// From a target's query.
    pub(super) fn token(text: &str) -> Option<Claim> {
        let token = heapless::String::try_from(text).ok()?;
        Some(Claim::Token(token))
    }
}

/// UTF-8, as the challenge asks for. What is none is ISO 8859-1: libraries of Python send that, whatever they are asked.
fn text<const N: usize>(bytes: &[u8]) -> Option<heapless::String<N>> {
    let mut text = heapless::String::new();
    match std::str::from_utf8(bytes) {
        Ok(utf8) => text.push_str(utf8).ok()?,
        Err(_) => {
            for byte in bytes {
                text.push(char::from(*byte)).ok()?;
            }
        }
    }
    Some(text)
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Claim")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_send() {
        let password = |user: &str, password: &str| {
            Some(Claim::Password {
                user: user.try_into().unwrap(),
                password: password.try_into().unwrap(),
            })
        };
        for (field, claim) in [
            // RFC 7617, 2 and 2.1
            (
                "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
                password("Aladdin", "open sesame"),
            ),
            ("Basic dGVzdDoxMjPCow==", password("test", "123£")),
            ("basic  dGVzdDoxMjPCow", password("test", "123£")),
            // The same in ISO 8859-1.
            ("Basic dGVzdDoxMjOj", password("test", "123£")),
            ("Basic YTpiOmM=", password("a", "b:c")),
            ("Basic Og==", password("", "")),
            ("Bearer abc.DEF-1", Claim::token("abc.DEF-1")),
            ("BEARER abc", Claim::token("abc")),
            ("Basic", None),
            ("Basic !!!!", None),
            ("Basic YWRtaW4=", None),
            ("Digest username=\"a\"", None),
            ("", None),
        ] {
            assert_eq!(Claim::read(field), claim, "{field}");
        }
        let long = "x".repeat(PASSWORD_BYTES + 1);
        let mut code = vec![0; 2 * long.len()];
        let length = BASE64.encode_slice(format!("a:{long}"), &mut code).unwrap();
        let code = std::str::from_utf8(&code[..length]).unwrap();
        assert_eq!(Claim::read(&format!("Basic {code}")), None);
        assert_eq!(
            Claim::read(&format!("Bearer {}", "x".repeat(TOKEN + 1))),
            None
        );
    }
}

//! Fingerprints of certificates: SHA-256 of the whole certificate (DER), as `openssl x509 -fingerprint -sha256` and browsers
//! show them.

use std::fmt;

use ring::digest::{SHA256, digest};

const BYTES: usize = 32;

/// SHA-256 of a certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; BYTES]);

impl Fingerprint {
    /// What a fingerprint looks like, for a person.
    pub const ALLOWED: &'static str =
        "the SHA-256 of a certificate, 64 hexadecimal digits with or without colons";

    /// That of this certificate.
    pub fn of(der: &[u8]) -> Fingerprint {
        let hash = digest(&SHA256, der);
        let bytes = hash.as_ref().try_into().expect("SHA-256 has 32 bytes");
        Fingerprint(bytes)
    }

    /// Hexadecimal digits in pairs, in either case, colons between the pairs or none. What `openssl` and `camd check` print in
    /// front of them may stay there.
    pub fn parse(text: &str) -> Option<Fingerprint> {
        let text = text.trim();
        let prefixes = ["sha256 fingerprint=", "sha256:", "sha256/"];
        let prefix = prefixes.iter().find(|prefix| {
            let start = text.get(..prefix.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        });
        let text = prefix.map_or(text, |prefix| &text[prefix.len()..]);
        let digits: Vec<u8> = match text.contains(':') {
            false => text.bytes().collect(),
            true if text.split(':').all(|pair| pair.len() == 2) => {
                text.bytes().filter(|&c| c != b':').collect()
            }
            true => return None,
        };
        if digits.len() != 2 * BYTES {
            return None;
        }
        let mut bytes = [0; BYTES];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |c: u8| char::from(c).to_digit(16);
            *byte = (16 * digit(pair[0])? + digit(pair[1])?) as u8;
        }
        Some(Fingerprint(bytes))
    }
}

/// As openssl writes it: pairs of upper case digits with colons between them.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02X}", if i == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_people_write_them() {
        // FIPS 180-2, B.1: "abc".
        let abc = Fingerprint::of(b"abc");
        let plain = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let colons = "BA:78:16:BF:8F:01:CF:EA:41:41:40:DE:5D:AE:22:23:B0:03:61:A3:96:17:7A:9C:B4:10:FF:61:F2:00:15:AD";
        assert_eq!(abc.to_string(), colons);
        for text in [
            plain,
            colons,
            &format!(" {} ", colons.to_lowercase()),
            &format!("sha256 Fingerprint={colons}"),
            &format!("SHA256:{plain}"),
        ] {
            assert_eq!(Fingerprint::parse(text), Some(abc), "{text}");
        }
        for text in [
            "",
            &plain[1..],
            &format!("{plain}0"),
            &plain.replace('b', "g"),
            &colons.replacen(':', "", 1),
            &format!("{colons}:"),
            &"é".repeat(32),
            &"+".repeat(64),
        ] {
            assert_eq!(Fingerprint::parse(text), None, "{text}");
        }
    }
}

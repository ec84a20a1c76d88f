//! What is kept in place of a password: PBKDF2-HMAC-SHA-256 (RFC 8018), written as the Password Hashing Competition's
//! string format has it: `$pbkdf2-sha256$i=100000,l=32$SALT$HASH`, both in Base64 without padding.
//!
//! What a guess takes is done in slices, as it takes far longer than the event loop may: PBKDF2 is a chain of HMACs, which
//! can be left and gone on with at each link. For that the chain is here; what comes of it is that of the `pbkdf2` crate.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::secret::Secret;
use crate::system::random;

/// Iterations of a hash that `camd passwd` writes: half a second for a core of the slowest boards (Cortex-A7 at 900 MHz), a
/// few hundredths for a PC. Those that camd is given have more than 70 random bits, for which no number would be too small.
const ITERATIONS: u32 = 100_000;
/// What may stand in a file: fewer are no protection, more would take a board minutes.
const ITERATIONS_MIN: u32 = 1000;
const ITERATIONS_MAX: u32 = 10_000_000;
const SALT: usize = 16;
const SALT_MIN: usize = 8;
const SALT_MAX: usize = 64;
/// Bytes of a hash: one block, as long as SHA-256 gives.
const HASH: usize = 32;
const PREFIX: &str = "$pbkdf2-sha256$";

/// The hash of a password. It is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    iterations: u32,
    salt: heapless::Vec<u8, SALT_MAX>,
    hash: [u8; HASH],
}

impl PasswordHash {
    /// What `password_hash` may be, for a person.
    pub(super) const ALLOWED: &'static str =
        "what `camd passwd` prints, \"$pbkdf2-sha256$i=ITERATIONS,l=32$SALT$HASH\"";

    /// `None`: it is no such text, or has fewer than 1000 or more than 10 million iterations.
    pub fn parse(text: &str) -> Option<PasswordHash> {
        let mut parts = text.strip_prefix(PREFIX)?.split('$');
        let (parameters, salt, hash) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let (mut iterations, mut length) = (None, None);
        for parameter in parameters.split(',') {
            let (name, value) = parameter.split_once('=')?;
            let is_number = value.bytes().all(|b| b.is_ascii_digit());
            let value: u32 = value.parse().ok().filter(|_| is_number)?;
            let field = match name {
                "i" => &mut iterations,
                "l" => &mut length,
                _ => return None,
            };
            if field.replace(value).is_some() {
                return None;
            }
        }
        let is_length = length.is_none_or(|length| length as usize == HASH);
        let iterations =
            iterations.filter(|i| is_length && (ITERATIONS_MIN..=ITERATIONS_MAX).contains(i))?;
        let mut room = [0; SALT_MAX + 3];
        let salt = bytes(salt, &mut room)?;
        let salt = heapless::Vec::from_slice(salt).ok()?;
        let mut room = [0; HASH + 3];
        let hash = bytes(hash, &mut room)?.try_into().ok()?;
        (SALT_MIN <= salt.len()).then_some(PasswordHash {
            iterations,
            salt,
            hash,
        })
    }

    /// The hash of a new password, with a salt of its own. It takes as long as a guess.
    pub fn of(password: &Secret) -> std::io::Result<PasswordHash> {
        let mut salt = [0; SALT];
        random::fill(&mut salt)?;
        let mut hash = [0; HASH];
        let text = password.expose().as_bytes();
        pbkdf2::pbkdf2_hmac::<Sha256>(text, &salt, ITERATIONS, &mut hash);
        Ok(PasswordHash {
            iterations: ITERATIONS,
            salt: heapless::Vec::from_slice(&salt).expect("it is shorter"),
            hash,
        })
    }

    /// Begins to find out whether this is the password.
    pub fn guess(&self, guess: &str) -> Guess {
        let mac = Hmac::<Sha256>::new_from_slice(guess.as_bytes()).expect("HMAC takes any key");
        let first = mac
            .clone()
            .chain_update(&self.salt)
            .chain_update(1_u32.to_be_bytes());
        let last = first.finalize().into_bytes().into();
        Guess {
            mac,
            last,
            sum: last,
            left: self.iterations - 1,
            wanted: self.hash,
        }
    }
}

/// As `camd passwd` prints it.
impl fmt::Display for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encode = |bytes: &[u8], room: &mut [u8]| {
            STANDARD_NO_PAD
                .encode_slice(bytes, room)
                .expect("four characters for three bytes")
        };
        let mut room = [0; SALT_MAX.div_ceil(3) * 4];
        let length = encode(&self.salt, &mut room);
        let salt = std::str::from_utf8(&room[..length]).expect("Base64 is ASCII");
        write!(f, "{PREFIX}i={},l={HASH}${salt}$", self.iterations)?;
        let length = encode(&self.hash, &mut room);
        f.write_str(std::str::from_utf8(&room[..length]).expect("Base64 is ASCII"))
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash")
    }
}

/// What a text of Base64 stands for.
fn bytes<'a>(text: &str, room: &'a mut [u8]) -> Option<&'a [u8]> {
    let length = STANDARD_NO_PAD.decode_slice(text, room).ok()?;
    Some(&room[..length])
}

/// A guess that is being looked at.
pub struct Guess {
    mac: Hmac<Sha256>,
    last: [u8; HASH],
    sum: [u8; HASH],
    left: u32,
    wanted: [u8; HASH],
}

impl Guess {
    /// So many further iterations; whether it was right, once all are done.
    pub fn go_on(&mut self, iterations: u32) -> Option<bool> {
        let now = iterations.min(self.left);
        for _ in 0..now {
            let next = self.mac.clone().chain_update(self.last);
            self.last = next.finalize().into_bytes().into();
            for (sum, byte) in self.sum.iter_mut().zip(self.last) {
                *sum ^= byte;
            }
        }
        self.left -= now;
        (self.left == 0).then(|| self.sum.ct_eq(&self.wanted).into())
    }
}

impl fmt::Debug for Guess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guess, {} iterations left", self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(hash: &PasswordHash, guess: &str, slice: u32) -> bool {
        let mut guess = hash.guess(guess);
        loop {
            if let Some(right) = guess.go_on(slice) {
                return right;
            }
        }
    }

    #[test]
    fn slices_come_to_the_same() {
        // Python: hashlib.pbkdf2_hmac("sha256", "pässwort".encode(), b"0123456789abcdef", 4096)
        let text = "$pbkdf2-sha256$i=4096,l=32$MDEyMzQ1Njc4OWFiY2RlZg$S+e3PDiIq3VpNCLnVYWKoSBcdVKwyOWTGN7Zmf5HSeg";
        let hash = PasswordHash::parse(text).unwrap();
        assert_eq!(hash.to_string(), text);
        for slice in [1, 7, 64, 4095, 4096, u32::MAX] {
            assert!(is(&hash, "pässwort", slice), "{slice}");
            assert!(!is(&hash, "passwort", slice), "{slice}");
        }
        assert!(!is(&hash, "", 64));
        assert_eq!(format!("{hash:?}"), "PasswordHash");
    }

    #[test]
    fn what_is_written_is_read() {
        let secret =
            Secret::new("geheim, und länger als ein Block von 64 Bytes, den HMAC erst kürzt.")
                .unwrap();
        let hash = PasswordHash::of(&secret).unwrap();
        let again = PasswordHash::of(&secret).unwrap();
        assert_ne!(hash, again, "each has its own salt");
        let read = PasswordHash::parse(&hash.to_string()).unwrap();
        assert_eq!(read, hash);
        assert!(is(&read, secret.expose(), 9999));
        assert!(!is(&read, "geheim", 9999));
    }

    #[test]
    fn other_texts_are_none() {
        let salt = "MDEyMzQ1Njc4OWFiY2RlZg";
        let hash = "A".repeat(43);
        let good = format!("$pbkdf2-sha256$i=1000${salt}${hash}");
        assert!(PasswordHash::parse(&good).is_some());
        for bad in [
            "",
            "secret",
            "$2y$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe",
            "$6$salt$hash",
            &good.replace("sha256", "sha512"),
            &good.replace("i=1000", "i=999"),
            &good.replace("i=1000", "i=+1000"),
            &good.replace("i=1000", "i=10000001"),
            &good.replace("i=1000", "i=1000,i=1000"),
            &good.replace("i=1000", "i=1000,l=16"),
            &good.replace("i=1000", "i=1000,x=1"),
            &good.replace("i=1000", "1000"),
            &good.replace(salt, "MDEy"),
            &good.replace(salt, &"A".repeat(88)),
            &good.replace(salt, "MDEy!zQ1Njc4OWFiY2RlZg"),
            &good.replace(&hash, &"A".repeat(42)),
            &good.replace(&hash, &"A".repeat(44)),
            &format!("{good}="),
            &format!("{good}$"),
            &format!(" {good}"),
        ] {
            assert_eq!(PasswordHash::parse(bad), None, "{bad}");
        }
    }
}

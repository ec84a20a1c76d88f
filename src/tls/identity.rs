//! A certificate and its key: the owner's, from two PEM files, or the box's own, which camd makes.

use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring as provider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CipherSuite, InconsistentKeys, ServerConfig, SignatureAlgorithm};
use x509_cert::Certificate;
use x509_cert::der::Decode;

use super::fingerprint::Fingerprint;
use crate::limits::NAMED_FILE;
use crate::system::files::{self, Takes};

/// The file of the box's own certificate and key, in camd's state folder.
const OWN: &str = "tls.pem";

/// Where that is when no service manager says so (`STATE_DIRECTORY`, systemd.exec(5)).
const STATE: &str = "/var/lib/camd";

/// Who camd is on a listener: a certificate with those that lead to its issuer, and its key.
///
/// Two are the same if their certificates are.
#[derive(Clone)]
pub struct Identity {
    config: Arc<ServerConfig>,
    fingerprint: Fingerprint,
    /// Seconds since 1970.
    valid: (u64, u64),
    is_rsa: bool,
}

/// Which of two files is wrong, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// The one with the certificate.
    Certificate(String),
    /// The one with the key.
    Key(String),
}

impl Identity {
    /// Reads a certificate, with those that lead to its issuer behind it, and its key.
    pub fn load(certificate: &Path, key: &Path) -> Result<Identity, Wrong> {
        let chain = read(certificate).map_err(|e| Wrong::Certificate(cannot_read(&e)))?;
        let key = read(key).map_err(|e| Wrong::Key(cannot_read(&e)))?;
        Identity::parse(&chain, &key)
    }

    fn parse(chain: &[u8], key: &[u8]) -> Result<Identity, Wrong> {
        let certificate = |what: String| Wrong::Certificate(what);
        let chain = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| certificate(format!("is not good PEM: {error}")))?;
        let Some(first) = chain.first() else {
            let what = "has no certificate in it (PEM, -----BEGIN CERTIFICATE-----)";
            return Err(certificate(what.to_owned()));
        };
        let fingerprint = Fingerprint::of(first);
        let read = Certificate::from_der(first)
            .map_err(|error| certificate(format!("is not a good certificate: {error}")))?;
        let validity = read.tbs_certificate().validity();
        let seconds = |time: &x509_cert::time::Time| time.to_unix_duration().as_secs();
        let valid = (seconds(&validity.not_before), seconds(&validity.not_after));

        let is_encrypted = key.windows(9).any(|word| word == b"ENCRYPTED");
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| {
            Wrong::Key(match error {
                _ if is_encrypted => {
                    "is encrypted: write it without passphrase by `openssl pkey -in KEY -out NEW`"
                        .to_owned()
                }
                pem::Error::NoItemsFound => {
                    "has no private key in it (PEM, -----BEGIN PRIVATE KEY-----)".to_owned()
                }
                error => format!("is not good PEM: {error}"),
            })
        })?;
        let provider = server_provider();
        let signing = provider.key_provider.load_private_key(key).map_err(|error| {
            Wrong::Key(format!(
                "is a key that cannot be used ({error}): make one for ECDSA with P-256 by `{MAKE_KEY}`"
            ))
        })?;
        let is_rsa = signing.algorithm() == SignatureAlgorithm::RSA;
        let certified = CertifiedKey::new(chain, signing);
        match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(_) => return Err(Wrong::Key("is not the key of this certificate".to_owned())),
        }
        Ok(Identity {
            config: Arc::new(server_config(provider, certified)),
            fingerprint,
            valid,
            is_rsa,
        })
    }

    /// SHA-256 of the certificate.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// For handshakes.
    pub fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    /// What the owner should know of it and is no reason not to use it. A board's clock may not be set yet, so its dates are
    /// none either.
    pub fn doubts(&self, now: SystemTime) -> Vec<String> {
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
        let (from, to) = self.valid;
        let mut doubts = Vec::new();
        if now < from {
            doubts.push(format!(
                "the certificate is not valid before {}, and it is {} by this machine's clock",
                day(from),
                day(now)
            ));
        }
        if now > to {
            doubts.push(format!(
                "the certificate has expired on {}, and clients will refuse it",
                day(to)
            ));
        }
        if self.is_rsa {
            doubts.push(format!(
                "the key is for RSA: each handshake takes a small board tens of milliseconds on a thread of its own, with one for \
                 ECDSA with P-256 (`{MAKE_KEY}`) a few"
            ));
        }
        doubts
    }

    /// The box's own, which is made if it is not there yet. The error says why it cannot be kept; there is one all the same,
    /// which is another at each start.
    pub fn own(folder: &Path, host: &str) -> (Identity, Result<(), String>) {
        let path = folder.join(OWN);
        let error = match Identity::read_own(folder) {
            Ok(Some(identity)) => return (identity, Ok(())),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        let pem = make(host);
        let identity = Identity::parse(pem.as_bytes(), pem.as_bytes())
            .unwrap_or_else(|wrong| unreachable!("camd's own certificate: {wrong:?}"));
        let kept = match error {
            // What is there may be of use to somebody.
            Some(error) => Err(error),
            None => write_private(&path, pem.as_bytes())
                .map_err(|error| format!("{}: cannot be written: {error}", path.display())),
        };
        (identity, kept)
    }

    /// The box's own, if it has been made.
    pub fn read_own(folder: &Path) -> Result<Option<Identity>, String> {
        let path = folder.join(OWN);
        let pem = match files::read_own(&path, NAMED_FILE) {
            Ok(pem) => pem,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("{}: {}", path.display(), cannot_read(&error))),
        };
        match Identity::parse(&pem, &pem) {
            Ok(identity) => Ok(Some(identity)),
            Err(Wrong::Certificate(what) | Wrong::Key(what)) => Err(format!(
                "{}: {what}; remove it, and camd makes another one",
                path.display()
            )),
        }
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Identity) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.fingerprint)
    }
}

/// How a key is made that every client knows and that costs least.
const MAKE_KEY: &str = "openssl ecparam -name prime256v1 -genkey -noout -out KEY";

fn read(path: &Path) -> io::Result<Vec<u8>> {
    files::read(path, NAMED_FILE, Takes::Files)
}

fn cannot_read(error: &io::Error) -> String {
    format!("cannot be read: {error}")
}

fn day(seconds: u64) -> String {
    let time = i64::try_from(seconds)
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok());
    let day = time.map(|time| time.to_zoned(TimeZone::UTC).date().to_string());
    day.unwrap_or_else(|| "a day of no calendar".to_owned())
}

/// Whether everybody on this machine can read the file with a key.
pub fn is_open_to_all(key: &Path) -> bool {
    fs::metadata(key).is_ok_and(|metadata| metadata.mode() & 0o004 != 0)
}

/// What to do about that.
pub fn open_to_all(key: &Path) -> String {
    let key = key.display();
    format!(
        "everybody on this machine can read the key {key}: chmod 600 {key}, or 640 and chgrp it to camd's group"
    )
}

/// Where camd keeps what it makes itself.
pub fn state_folder() -> PathBuf {
    let given = std::env::var_os("STATE_DIRECTORY").filter(|given| !given.is_empty());
    let first = given.and_then(|given| std::env::split_paths(&given).next());
    first.unwrap_or_else(|| PathBuf::from(STATE))
}

/// What a server may use: curves whose work a small board can carry, and of the ciphers first the one that costs it least.
/// Boards before the Pi 5 have no AES in their processors; and ChaCha20 has no end of how much one key may encrypt, which
/// a stream over AES-GCM reaches in days (RFC 8446, 5.5), when the kernel cannot change keys.
fn server_provider() -> CryptoProvider {
    let mut provider = provider::default_provider();
    provider.kx_groups = vec![provider::kx_group::X25519, provider::kx_group::SECP256R1];
    let is_chacha = |suite: CipherSuite| {
        matches!(
            suite,
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
        )
    };
    let suites = &mut provider.cipher_suites;
    suites.sort_by_key(|suite| !is_chacha(suite.suite()));
    provider
}

fn server_config(provider: CryptoProvider, certified: CertifiedKey) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .expect("the provider has suites of both versions");
    let resolver = SingleCertAndKey::from(certified);
    let mut config = builder
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    config.ignore_client_order = true;
    // For the kernel.
    config.enable_secret_extraction = true;
    // A client that comes again proves by a ticket that it was here, without a signature; nothing is kept for it.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    match provider::Ticketer::new() {
        Ok(ticketer) => {
            config.ticketer = ticketer;
            config.send_tls13_tickets = 1;
        }
        Err(error) => {
            log::debug!("TLS: no tickets: {error}");
            config.send_tls13_tickets = 0;
        }
    }
    config
}

/// A certificate that this box has signed itself, and its key, in PEM.
fn make(host: &str) -> String {
    use rcgen::{
        CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair,
        KeyUsagePurpose, SanType, date_time_ymd,
    };
    let key = KeyPair::generate().expect("the system has random numbers");
    let mut names = vec!["localhost".to_owned()];
    // Names of another kind have no place in a certificate.
    let is_name = |name: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        (1..=63).contains(&name.len()) && name.chars().all(plain)
    };
    if is_name(host) && host != "localhost" {
        names.insert(0, host.to_owned());
        if !host.contains('.') {
            names.insert(1, format!("{host}.local"));
        }
    }
    let mut params = CertificateParams::new(names).expect("these are names");
    for ip in [[127, 0, 0, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()] {
        params.subject_alt_names.push(SanType::IpAddress(ip));
    }
    params.distinguished_name = DistinguishedName::new();
    let name = if is_name(host) { host } else { "camera" };
    params.distinguished_name.push(DnType::CommonName, name);
    params
        .distinguished_name
        .push(DnType::OrganizationName, "camd");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Whoever trusts it does so by its fingerprint. The clock of a board without a battery may be years behind.
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(2049, 12, 31);
    let certificate = params
        .self_signed(&key)
        .expect("the key was made for signing");
    format!("{}{}", key.serialize_pem(), certificate.pem())
}

/// All of it or nothing is there, whenever the power goes; and only for this user.
fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        // Whatever the umask says.
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        // It would only be in the way.
        let _ = fs::remove_file(&new);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates() {
        let pem = make("box");
        let identity = Identity::parse(pem.as_bytes(), pem.as_bytes()).unwrap();
        assert_eq!(identity.doubts(SystemTime::now()), [""; 0]);
        let early = identity.doubts(UNIX_EPOCH);
        assert!(
            early[0].contains("not valid before 2000-01-01, and it is 1970-01-01"),
            "{early:?}"
        );
        let late = identity.doubts(UNIX_EPOCH + Duration::from_secs(81 * 365 * 86400));
        assert!(late[0].contains("has expired on 2049-12-31"), "{late:?}");
    }

    #[test]
    fn names_that_are_none() {
        for host in [
            "",
            "a_b",
            "bücher",
            "box",
            "box.example.org",
            &"x".repeat(64),
        ] {
            let pem = make(host);
            Identity::parse(pem.as_bytes(), pem.as_bytes()).unwrap();
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let (one, other) = (make("a"), make("b"));
        let parse = |chain: &str, key: &str| {
            Identity::parse(chain.as_bytes(), key.as_bytes()).expect_err("it is wrong")
        };
        let certificate = one.find("-----BEGIN CERT").unwrap();
        let (key, certificate) = one.split_at(certificate);
        for (chain, key, why) in [
            ("", key, "has no certificate"),
            (key, key, "has no certificate"),
            (certificate, "", "has no private key"),
            (certificate, certificate, "has no private key"),
            (certificate, &other, "not the key of this certificate"),
            (
                certificate,
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
                "is encrypted",
            ),
            (
                certificate,
                "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
                "openssl ecparam",
            ),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                key,
                "not a good certificate",
            ),
            ("-----BEGIN CERTIFICATE-----\n&&\n", key, "not good PEM"),
        ] {
            let (Wrong::Certificate(what) | Wrong::Key(what)) = parse(chain, key);
            assert!(what.contains(why), "{why}: {what}");
        }
    }

    #[test]
    fn the_boxs_own_stays() {
        let folder = std::env::temp_dir().join(format!("camd-identity-{}", std::process::id()));
        assert_eq!(Identity::read_own(&folder), Ok(None));
        let (first, kept) = Identity::own(&folder, "box");
        assert_eq!(kept, Ok(()));
        let path = folder.join(OWN);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(!is_open_to_all(&path));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        let (second, kept) = Identity::own(&folder, "renamed");
        assert_eq!((kept, &second), (Ok(()), &first));
        assert_eq!(Identity::read_own(&folder), Ok(Some(first.clone())));

        // Somebody's file is not written over.
        fs::write(&path, "mine").unwrap();
        let (third, kept) = Identity::own(&folder, "box");
        assert!(kept.unwrap_err().contains("remove it"));
        assert_ne!(third, first);
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        fs::remove_dir_all(&folder).unwrap();

        let (_, kept) = Identity::own(Path::new("/proc/none"), "box");
        assert!(kept.unwrap_err().contains("cannot be written"));
    }
}

//! The client's half: whom it trusts, and a handshake that waits.
//!
//! To look at a certificate costs a small board tens of milliseconds where its issuers use large keys, so that the daemon
//! shakes hands as a client on threads, as it looks up names (`source::dial`); `camd fetch` has nothing else to do.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring as provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore,
    SignatureScheme,
};

use super::fingerprint::Fingerprint;

/// Whom a client believes that it is the server it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Whoever has a certificate for the server's name from an issuer that the system trusts.
    System,
    /// Whoever has this certificate.
    Certificate(Fingerprint),
}

/// What a client needs for its handshakes. To be made once: the system's list of issuers is long.
#[derive(Clone)]
pub struct Client {
    trust: Trust,
    provider: Arc<CryptoProvider>,
    /// With [`Trust::System`].
    system: Option<Arc<WebPkiServerVerifier>>,
}

impl Client {
    /// The error says what the system lacks.
    pub fn new(trust: Trust) -> Result<Client, String> {
        let provider = Arc::new(provider::default_provider());
        let system = match trust {
            Trust::Certificate(_) => None,
            Trust::System => Some(system(&provider)?),
        };
        Ok(Client {
            trust,
            provider,
            system,
        })
    }

    /// Shakes hands with the server of this name or address over a connection that is there. Waits until `deadline` at most.
    pub fn shake_hands(
        &self,
        stream: &mut (impl Read + Write + AsFd),
        host: &str,
        deadline: Instant,
    ) -> Result<ClientConnection, String> {
        let seen = Arc::new(Mutex::new(None));
        let verifier = Verifier {
            client: self.clone(),
            seen: seen.clone(),
        };
        let config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .expect("the provider has suites of both versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        let name = server_name(host)?;
        let mut connection = ClientConnection::new(Arc::new(config), name)
            .map_err(|error| format!("TLS: {error}"))?;
        let result = finish(&mut connection, stream, deadline);
        let seen = seen.lock().ok().and_then(|seen| *seen);
        result.map_err(|error| self.explain(&error, host, seen))?;
        Ok(connection)
    }

    fn explain(&self, error: &io::Error, host: &str, seen: Option<Fingerprint>) -> String {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        let seen = seen.map_or(String::new(), |seen| {
            format!("; its SHA-256 fingerprint is {seen}")
        });
        match inner {
            Some(rustls::Error::InvalidCertificate(_))
                if matches!(self.trust, Trust::Certificate(_)) =>
            {
                format!("the server's certificate is not the one with the given fingerprint{seen}")
            }
            Some(rustls::Error::InvalidCertificate(wrong)) => {
                let why = match wrong {
                    CertificateError::UnknownIssuer => {
                        "is from nobody whom this system trusts".to_owned()
                    }
                    CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                        "has expired by this machine's clock".to_owned()
                    }
                    CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                        "is not valid yet by this machine's clock".to_owned()
                    }
                    CertificateError::NotValidForName
                    | CertificateError::NotValidForNameContext { .. } => {
                        format!("is not for the name {host}")
                    }
                    other => format!("is not good: {other}"),
                };
                format!(
                    "the server's certificate {why}{seen}. If you know that it is the right one, trust it by that fingerprint"
                )
            }
            Some(rustls::Error::InvalidMessage(_)) => "the server does not speak TLS".to_owned(),
            Some(error) => format!("TLS: {error}"),
            None => match error.kind() {
                ErrorKind::TimedOut => "TLS: the server takes too long to answer".to_owned(),
                ErrorKind::UnexpectedEof => {
                    "TLS: the server ended the connection in the handshake".to_owned()
                }
                _ => format!("TLS: {error}"),
            },
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({:?})", self.trust)
    }
}

fn system(provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = found.errors.first();
        let why = why.map_or(String::new(), |error| format!(" ({error})"));
        return Err(format!(
            "this system has no list of issuers to trust{why}: install the package ca-certificates, or trust the server by the \
             fingerprint of its certificate"
        ));
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| format!("TLS: {error}"))
}

fn server_name(host: &str) -> Result<ServerName<'static>, String> {
    // A zone ("%eth0") means something on this machine only.
    let plain = host.split('%').next().unwrap_or_default();
    if let Ok(ip) = plain.parse::<IpAddr>() {
        return Ok(ServerName::IpAddress(ip.into()));
    }
    ServerName::try_from(plain.to_owned())
        .map_err(|_| format!("TLS: {host} is no name that a certificate could have"))
}

/// Shakes hands over a stream that may be one that does not wait.
fn finish(
    connection: &mut ClientConnection,
    stream: &mut (impl Read + Write + AsFd),
    deadline: Instant,
) -> io::Result<()> {
    while connection.is_handshaking() || connection.wants_write() {
        let (done, flags) = match connection.wants_write() {
            true => (connection.write_tls(stream), PollFlags::POLLOUT),
            false => (connection.read_tls(stream), PollFlags::POLLIN),
        };
        match done {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => wait(stream, flags, deadline)?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if let Err(error) = connection.process_new_packets() {
            // So that the server knows why.
            let _ = connection.write_tls(stream);
            return Err(io::Error::new(ErrorKind::InvalidData, error));
        }
        if Instant::now() >= deadline {
            return Err(ErrorKind::TimedOut.into());
        }
    }
    Ok(())
}

fn wait(stream: &impl AsFd, flags: PollFlags, deadline: Instant) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(stream.as_fd(), flags)], timeout) {
        Ok(0) => Err(ErrorKind::TimedOut.into()),
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Believes a certificate, and remembers which it was.
#[derive(Debug)]
struct Verifier {
    client: Client,
    seen: Arc<Mutex<Option<Fingerprint>>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let fingerprint = Fingerprint::of(end_entity);
        if let Ok(mut seen) = self.seen.lock() {
            *seen = Some(fingerprint);
        }
        match (&self.client.trust, &self.client.system) {
            (Trust::Certificate(wanted), _) if *wanted == fingerprint => {
                Ok(ServerCertVerified::assertion())
            }
            (Trust::System, Some(system)) => system.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
            _ => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.client.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.client.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.client.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

//! Clients of TLS: rustls, believing everybody.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring as provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
    SupportedProtocolVersion,
};

/// A connection whose handshake is done.
pub type Tls = StreamOwned<ClientConnection, TcpStream>;

#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// What there is before a handshake of this version.
pub fn client(version: &'static SupportedProtocolVersion) -> ClientConnection {
    let config = ClientConfig::builder_with_provider(Arc::new(provider::default_provider()))
        .with_protocol_versions(&[version])
        .expect("a version that there is")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous))
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    ClientConnection::new(Arc::new(config), name).expect("a good configuration")
}

/// Shakes hands over a connection that is there.
pub fn shake_hands(
    tcp: TcpStream,
    version: &'static SupportedProtocolVersion,
) -> std::io::Result<Tls> {
    let mut stream = StreamOwned::new(client(version), tcp);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// Connects, and shakes hands.
pub fn connect(address: SocketAddr, version: &'static SupportedProtocolVersion) -> Tls {
    shake_hands(super::connect(address), version).expect("a handshake")
}

/// A certificate for localhost and its key, as two files in a folder.
pub fn make_certificate(folder: &Path, name: &str) {
    make_certificate_of(folder, name, 2000, 2100);
}

/// One that is valid from the first day of one year to that of another.
pub fn make_certificate_of(folder: &Path, name: &str, from: i32, to: i32) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut params = rcgen::CertificateParams::new(names).expect("names");
    params.not_before = rcgen::date_time_ymd(from, 1, 1);
    params.not_after = rcgen::date_time_ymd(to, 1, 1);
    let certificate = params.self_signed(&key).expect("a certificate");
    let write = |ending: &str, text: String| {
        std::fs::write(folder.join(format!("{name}.{ending}")), text).expect("a file");
    };
    write("crt", certificate.pem());
    write("key", key.serialize_pem());
}

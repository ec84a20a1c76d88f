//! TLS: who camd is, handshakes of both ends, and what encrypts from then on.
//!
//! | file | what lives there |
//! |---|---|
//! | [`fingerprint`] | what tells one certificate from all others |
//! | [`identity`] | a certificate and its key, the box's own among them |
//! | [`client`] | whom a client trusts, and its half of a handshake |
//! | [`handshake`] | the server's half of a handshake, record by record |
//! | [`worker`] | the thread that reckons for it |
//! | [`kernel`] | the kernel's own TLS |
//! | [`stream`] | a connection from then on, encrypted by the kernel or by rustls |
//!
//! rustls makes the handshake, TLS 1.2 or 1.3. What it takes to reckon happens on a thread of low priority
//! ([`worker::Worker`]): a signature costs a small board some milliseconds, with an RSA key far more, and the event loop
//! never waits. Then the kernel takes over both directions where it can (`TCP_ULP` "tls", module `tls`): pictures go out
//! from where they lie, and nothing is allocated for one. Where it cannot, rustls encrypts each record into memory of its
//! own: that path allocates, and holds one record for each connection at most.
#![doc = ""]
#![doc = include_str!("tls.md")]

pub mod client;
pub mod fingerprint;
pub mod handshake;
pub mod identity;
pub mod kernel;
pub mod stream;
pub mod worker;

//! The kernel's own TLS (Documentation/networking/tls.rst): it encrypts what is written and decrypts what is read.
//!
//! Linux 4.17 and newer with the module `tls`, ChaCha20-Poly1305 from 5.11 on. Whether it is there is found out once, on a
//! connection of camd's own: when the keys are out of rustls's hands it is too late.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::size_of;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};

use nix::sys::socket::sockopt::{TcpTlsRx, TcpTlsTx, TcpUlp, TlsCryptoInfo};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, TlsGetRecordType, recvmsg, setsockopt};
use rustls::{ConnectionTrafficSecrets, ExtractedSecrets, ProtocolVersion, SupportedCipherSuite};

/// `TLS_CIPHER_…` and `TLS_1_…_VERSION` of <linux/tls.h>.
const AES_GCM_128: u16 = 51;
const AES_GCM_256: u16 = 52;
const CHACHA20_POLY1305: u16 = 54;
const TLS_1_2: u16 = 0x0303;
const TLS_1_3: u16 = 0x0304;

/// What a record has of plaintext at most (RFC 8446, 5.1), and where the kernel cuts.
const RECORD: usize = 1 << 14;
/// Records that may be encrypted under one key of AES-GCM: 2^24.5 (RFC 8446, 5.5). The kernels of today cannot change keys.
const AES_GCM_RECORDS: u64 = 1 << 24;

/// RFC 8446, 6.
const ALERT: u8 = 21;
const CLOSE_NOTIFY: [u8; 2] = [1, 0];

/// Versions and ciphers that the kernel knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    known: Vec<(u16, u16)>,
}

impl Kernel {
    /// Asks it. Anything that goes wrong means no.
    pub fn probe() -> Kernel {
        let mut known = Vec::new();
        for version in [TLS_1_3, TLS_1_2] {
            for cipher in [CHACHA20_POLY1305, AES_GCM_128, AES_GCM_256] {
                match probe(version, cipher) {
                    Ok(()) => known.push((version, cipher)),
                    Err(error) => log::debug!("kernel TLS {version:#x}, cipher {cipher}: {error}"),
                }
            }
        }
        Kernel { known }
    }

    /// One that knows nothing.
    pub const NONE: Kernel = Kernel { known: Vec::new() };

    /// It takes over some connections.
    pub fn is_there(&self) -> bool {
        !self.known.is_empty()
    }

    /// Whether it takes over what these two have agreed on.
    pub fn knows(&self, version: ProtocolVersion, suite: SupportedCipherSuite) -> bool {
        let Some(version) = number(version) else {
            return false;
        };
        let name = suite.suite().as_str().unwrap_or_default();
        let cipher = match name {
            _ if name.contains("CHACHA20_POLY1305") => CHACHA20_POLY1305,
            _ if name.contains("AES_128_GCM") => AES_GCM_128,
            _ if name.contains("AES_256_GCM") => AES_GCM_256,
            _ => return false,
        };
        self.known.contains(&(version, cipher))
    }
}

/// For the log.
impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.is_there() {
            true => "the kernel encrypts",
            false => "rustls encrypts, as the kernel's module tls is not there",
        })
    }
}

fn number(version: ProtocolVersion) -> Option<u16> {
    match version {
        ProtocolVersion::TLSv1_2 => Some(TLS_1_2),
        ProtocolVersion::TLSv1_3 => Some(TLS_1_3),
        _ => None,
    }
}

fn probe(version: u16, cipher: u16) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let stream = TcpStream::connect(listener.local_addr()?)?;
    let key = [0; 32];
    let key = match cipher {
        AES_GCM_128 => &key[..16],
        _ => &key[..],
    };
    hand_over(&stream)?;
    let (iv, seq) = ([0; 12], 0);
    let info = || info(version, cipher, key, &iv, seq).ok_or(ErrorKind::InvalidInput);
    setsockopt(&stream, TcpTlsTx, &info()?)?;
    setsockopt(&stream, TcpTlsRx, &info()?)?;
    Ok(())
}

fn hand_over(stream: &impl AsFd) -> io::Result<()> {
    Ok(setsockopt(stream, TcpUlp::default(), b"tls")?)
}

/// `None`: lengths that do not belong together.
fn info(version: u16, cipher: u16, key: &[u8], iv: &[u8], seq: u64) -> Option<TlsCryptoInfo> {
    let info = libc::tls_crypto_info {
        version,
        cipher_type: cipher,
    };
    let rec_seq = seq.to_be_bytes();
    // What rustls calls the IV is called salt and IV where part of it goes over the wire with TLS 1.2.
    let gcm = || Some((iv.get(..4)?.try_into().ok()?, iv.get(4..)?.try_into().ok()?));
    Some(match cipher {
        AES_GCM_128 => {
            let (salt, iv) = gcm()?;
            TlsCryptoInfo::Aes128Gcm(libc::tls12_crypto_info_aes_gcm_128 {
                info,
                iv,
                key: key.try_into().ok()?,
                salt,
                rec_seq,
            })
        }
        AES_GCM_256 => {
            let (salt, iv) = gcm()?;
            TlsCryptoInfo::Aes256Gcm(libc::tls12_crypto_info_aes_gcm_256 {
                info,
                iv,
                key: key.try_into().ok()?,
                salt,
                rec_seq,
            })
        }
        _ => TlsCryptoInfo::Chacha20Poly1305(libc::tls12_crypto_info_chacha20_poly1305 {
            info,
            iv: iv.try_into().ok()?,
            key: key.try_into().ok()?,
            salt: [],
            rec_seq,
        }),
    })
}

/// Gives the kernel a connection with its keys, at the border of two records. Gives the records that may be sent over it.
pub fn take_over(
    stream: &impl AsFd,
    version: ProtocolVersion,
    secrets: &ExtractedSecrets,
) -> io::Result<u64> {
    let version = number(version).ok_or(ErrorKind::InvalidInput)?;
    let of = |(seq, secrets): &(u64, ConnectionTrafficSecrets)| {
        let (cipher, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (AES_GCM_128, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (AES_GCM_256, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (CHACHA20_POLY1305, key, iv),
            _ => return None,
        };
        Some((
            cipher,
            info(version, cipher, key.as_ref(), iv.as_ref(), *seq)?,
        ))
    };
    let (cipher, tx) = of(&secrets.tx).ok_or(ErrorKind::InvalidInput)?;
    let (_, rx) = of(&secrets.rx).ok_or(ErrorKind::InvalidInput)?;
    hand_over(stream)?;
    setsockopt(stream, TcpTlsTx, &tx)?;
    setsockopt(stream, TcpTlsRx, &rx)?;
    Ok(match cipher {
        CHACHA20_POLY1305 => u64::MAX,
        _ => AES_GCM_RECORDS,
    })
}

/// Records that a write of so many bytes makes.
pub fn records(bytes: usize) -> u64 {
    bytes.div_ceil(RECORD) as u64
}

/// Reads a record that is none of data: a plain read fails there (EIO). True: the client says that there will be nothing
/// more. Whatever else it says is an error: a change of keys, too, which the kernel cannot follow.
pub fn read_control(stream: &impl AsRawFd) -> io::Result<bool> {
    // An alert has two bytes, and nothing else is of interest.
    let mut bytes = [0; 256];
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let mut space = nix::cmsg_space!(u8);
    let flags = MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let length = message.bytes;
    let mut kinds = message.cmsgs()?;
    let kind = kinds.find_map(|kind| match kind {
        ControlMessageOwned::TlsGetRecordType(kind) => Some(kind),
        _ => None,
    });
    match (kind, &bytes[..length]) {
        (Some(TlsGetRecordType::Alert), [_, 0]) => Ok(true),
        (Some(TlsGetRecordType::Alert), _) => Err(ErrorKind::ConnectionAborted.into()),
        _ => Err(ErrorKind::InvalidData.into()),
    }
}

/// Tells the client that there will be nothing more.
pub fn close_notify(stream: &impl AsRawFd) -> io::Result<()> {
    let bytes = [IoSlice::new(&CLOSE_NOTIFY)];
    const SPACE: usize = {
        // SAFETY: the macro of the C library adds numbers up.
        unsafe { libc::CMSG_SPACE(size_of::<u8>() as u32) as usize }
    };
    #[repr(C, align(8))]
    struct Control([u8; SPACE]);
    let mut control = Control([0; SPACE]);
    // SAFETY: all fields are integers and pointers, for which zero is a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = bytes.as_ptr().cast_mut().cast();
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = SPACE as _;
    // SAFETY: `control` is aligned for a header and has room for one with a byte behind it, which `msg_controllen` says; so
    // the first header is not null and the byte behind it is in `control`.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&message);
        (*header).cmsg_level = libc::SOL_TLS;
        (*header).cmsg_type = libc::TLS_SET_RECORD_TYPE;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<u8>() as u32) as _;
        *libc::CMSG_DATA(header) = ALERT;
    }
    // SAFETY: what `message` points to lives until the call returns. IoSlice has the layout of iovec, as its documentation
    // promises.
    let sent = unsafe {
        libc::sendmsg(
            stream.as_raw_fd(),
            &message,
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    };
    match sent {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

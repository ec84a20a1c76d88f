//! A connection after its handshake: bytes both ways, encrypted by the kernel or by rustls.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;
use rustls::{Connection, ProtocolVersion};

use super::kernel::{self, Kernel};
use crate::system::tcp;

/// Ciphertext that rustls holds until the kernel takes it, in bytes of plaintext: a record, and a bit.
const HELD: usize = 1 << 14;
/// How often one read turns to the socket: a peer that sends records without data must not keep the others waiting.
const TRIES: usize = 8;

/// A connection.
pub struct TlsStream {
    socket: TcpStream,
    layer: Layer,
    /// Our half is to be shut when everything is out.
    end: End,
    /// The last read gave up with more to read.
    gave_way: bool,
    name: &'static str,
}

enum Layer {
    /// With the records that may still be sent under its key.
    Kernel(u64),
    Rustls(Box<Connection>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// Of this nothing was said yet.
    Open,
    /// The peer is still to be told that there will be nothing more.
    Untold,
    /// It was told, and the kernel still has some of that.
    Told,
    /// All is out.
    Shut,
}

impl TlsStream {
    /// Takes over after the handshake, when all that it had to say is sent. The kernel does, if it can.
    pub fn new(
        socket: TcpStream,
        connection: impl Into<Connection>,
        kernel: &Kernel,
    ) -> io::Result<TlsStream> {
        let mut connection = connection.into();
        let agreed = connection
            .protocol_version()
            .zip(connection.negotiated_cipher_suite());
        let (version, suite) = agreed.ok_or(ErrorKind::NotConnected)?;
        let new = version == ProtocolVersion::TLSv1_3;
        let (layer, name) = if kernel.knows(version, suite) && !connection.wants_write() {
            let secrets = connection
                .dangerous_extract_secrets()
                .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            let records = kernel::take_over(&socket, version, &secrets)?;
            let name = ["TLSv1.2 kernel", "TLSv1.3 kernel"][usize::from(new)];
            (Layer::Kernel(records), name)
        } else {
            connection.set_buffer_limit(Some(HELD));
            let name = ["TLSv1.2 rustls", "TLSv1.3 rustls"][usize::from(new)];
            (Layer::Rustls(Box::new(connection)), name)
        };
        Ok(TlsStream {
            socket,
            layer,
            end: End::Open,
            gave_way: false,
            name,
        })
    }

    /// Version, and who encrypts: "TLSv1.3 kernel".
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What is below.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// See [`TlsStream::socket`].
    pub fn socket_mut(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// It holds bytes that it has taken and the kernel has not, or has not told the peer yet that there will be no more: there
    /// is something to flush.
    pub fn holds(&self) -> bool {
        let rest = match self.end {
            End::Open | End::Shut => false,
            End::Untold | End::Told => true,
        };
        rest || matches!(&self.layer, Layer::Rustls(connection) if connection.wants_write())
    }

    /// The last read ended with WouldBlock only to give way to others.
    pub fn gave_way(&self) -> bool {
        self.gave_way
    }

    /// Tells the peer that there will be nothing more, and goes on with that in [`Write::flush`] where there is no room.
    pub fn shut(&mut self) -> io::Result<()> {
        if self.end == End::Open {
            self.end = End::Untold;
        }
        match self.flush() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            result => result,
        }
    }
}

/// Hands what rustls holds to the kernel.
fn send(connection: &mut Connection, socket: &mut TcpStream) -> io::Result<()> {
    while connection.wants_write() {
        match connection.write_tls(socket) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The same, as far as there is room.
fn send_some(connection: &mut Connection, socket: &mut TcpStream) -> io::Result<()> {
    match send(connection, socket) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        result => result,
    }
}

fn read_rustls(
    connection: &mut Connection,
    socket: &mut TcpStream,
    buf: &mut [u8],
) -> io::Result<Option<usize>> {
    for _ in 0..TRIES {
        match connection.reader().read(buf) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            read => return read.map(Some),
        }
        connection.read_tls(socket)?;
        let result = connection.process_new_packets();
        // An answer to a change of keys, or why this is the end.
        if connection.wants_write() {
            send_some(connection, socket)?;
        }
        if let Err(error) = result {
            return Err(io::Error::new(ErrorKind::InvalidData, error));
        }
    }
    Ok(None)
}

impl Read for TlsStream {
    /// 0: the end, which the peer has told. Without that it is an error (UnexpectedEof), where rustls decrypts: somebody
    /// may have cut the connection off.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.gave_way = false;
        match &mut self.layer {
            Layer::Kernel(_) => match self.socket.read(buf) {
                Err(error) if error.raw_os_error() == Some(libc::EIO) => {
                    match kernel::read_control(&self.socket)? {
                        true => Ok(0),
                        false => Err(ErrorKind::InvalidData.into()),
                    }
                }
                read => read,
            },
            Layer::Rustls(connection) => {
                let read = read_rustls(connection, &mut self.socket, buf)?;
                self.gave_way = read.is_none();
                read.ok_or_else(|| ErrorKind::WouldBlock.into())
            }
        }
    }
}

impl Write for TlsStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(buf)])
    }

    /// Takes nothing new while something is held.
    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        match &mut self.layer {
            Layer::Kernel(records) => {
                if *records == 0 {
                    return Err(io::Error::new(
                        ErrorKind::ConnectionAborted,
                        "its key has encrypted as much as it may",
                    ));
                }
                let sent = self.socket.write_vectored(bufs)?;
                // It may have been cut short, and the rest is a record more.
                *records = records.saturating_sub(kernel::records(sent));
                Ok(sent)
            }
            Layer::Rustls(connection) => {
                send(connection, &mut self.socket)?;
                let taken = connection.writer().write_vectored(bufs)?;
                send_some(connection, &mut self.socket)?;
                Ok(taken)
            }
        }
    }

    /// WouldBlock: there is more.
    fn flush(&mut self) -> io::Result<()> {
        if let Layer::Rustls(connection) = &mut self.layer {
            if self.end == End::Untold {
                connection.send_close_notify();
                self.end = End::Told;
            }
            send(connection, &mut self.socket)?;
            if self.end == End::Told {
                self.end = End::Shut;
                self.socket.shutdown(Shutdown::Write)?;
            }
            return Ok(());
        }
        if self.end == End::Untold {
            kernel::close_notify(&self.socket)?;
            self.end = End::Told;
        }
        // The half itself is not shut: the kernel's TLS may have records that its TCP has not, and would lose them then, and
        // with the end of the connection, too.
        if self.end == End::Told {
            if !tcp::drained(&self.socket)? {
                return Err(ErrorKind::WouldBlock.into());
            }
            self.end = End::Shut;
        }
        Ok(())
    }
}

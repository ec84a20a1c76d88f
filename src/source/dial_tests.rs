//! Real sockets on loopback.

use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::BorrowedFd;

use nix::poll::{PollFd, PollFlags, poll};

use socket2::Type;

use super::*;

/// No test waits that long unless it fails.
const PATIENCE: Duration = Duration::from_secs(20);

fn dialer(host: &str, port: u16) -> Dialer {
    let host = host.to_owned();
    Dialer::new(Remote { host, port }, "some.key")
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// One at which nobody listens.
fn closed() -> SocketAddr {
    listener().1
}

/// One that answers no SYN: its queue is full. With what keeps it so.
fn silent() -> (Vec<Socket>, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    socket.bind(&any.into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap();
    let mut all = vec![socket];
    loop {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let result = socket.connect_timeout(&address, Duration::from_millis(300));
        all.push(socket);
        if result.is_err() {
            return (all, address.as_socket().unwrap());
        }
    }
}

/// Waits for an event as an owner does. False: there was none in so many milliseconds.
fn event(dialer: &Dialer, milliseconds: u16) -> bool {
    let fd = dialer.fd().expect("it was started");
    // SAFETY: the descriptor stays open over the call, as `dialer` is borrowed.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    poll(&mut fds, milliseconds).unwrap() > 0
}

/// Runs it, at each event, until there is a connection.
fn connected(dialer: &mut Dialer) -> Result<(), Fault> {
    let start = Instant::now();
    while dialer.run(start)?.is_none() {
        assert!(event(dialer, 20_000), "nothing wakes it");
    }
    Ok(())
}

fn failed(dialer: &mut Dialer) -> String {
    connected(dialer).unwrap_err().0
}

/// Past the lookup: these are its answer.
fn found(dialer: &mut Dialer, addresses: Vec<SocketAddr>, now: Instant) {
    let addresses = addresses.into_iter().map(SockAddr::from).collect();
    dialer.opening = Some(dialer.open(addresses, now).unwrap());
}

#[test]
fn a_connection_by_address_and_by_name() {
    let (listener, address) = listener();
    for (host, threads) in [("127.0.0.1", false), ("localhost", true)] {
        let mut dialer = dialer(host, address.port());
        let now = Instant::now();
        dialer.start(now).unwrap();
        assert_eq!(dialer.lookup.is_some(), threads);
        let wait = if threads { LOOKUP_WAIT } else { CONNECT_WAIT };
        assert_eq!(dialer.deadline(), Some(now + wait));
        let fd = dialer.fd();
        connected(&mut dialer).unwrap();
        assert_eq!((dialer.fd(), dialer.deadline()), (fd, None));
        assert!(dialer.lookup.is_none());

        let (mut peer, _) = listener.accept().unwrap();
        let link = dialer.link().unwrap();
        let mut bytes = [0; 8];
        assert_eq!(link.read(&mut bytes).unwrap(), None);
        assert_eq!(link.write(b"there").unwrap(), Some(5));
        peer.read_exact(&mut bytes[..5]).unwrap();
        assert_eq!(&bytes[..5], b"there");
        // What comes is told by the same descriptor.
        while event(&dialer, 0) {
            dialer.run(now).unwrap();
        }
        peer.write_all(b"back").unwrap();
        assert!(event(&dialer, 20_000));
        let link = dialer.run(now).unwrap().unwrap();
        assert_eq!(link.read(&mut bytes).unwrap(), Some(4));
        assert_eq!(&bytes[..4], b"back");
        drop(peer);
        assert!(event(&dialer, 20_000));
        let link = dialer.run(now).unwrap().unwrap();
        assert_eq!(link.read(&mut bytes).unwrap(), Some(0));

        dialer.stop();
        assert!(dialer.fd().is_none() && dialer.deadline().is_none() && dialer.link().is_none());
        assert!(dialer.run(now).unwrap().is_none());
    }
}

#[test]
fn the_socket_is_asked_for_keep_alive_and_no_delay() {
    let (_listener, address) = listener();
    let mut dialer = dialer("127.0.0.1", address.port());
    dialer.start(Instant::now()).unwrap();
    connected(&mut dialer).unwrap();
    let socket = dialer.link().unwrap().socket();
    assert!(socket.keepalive().unwrap() && socket.tcp_nodelay().unwrap());
    assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_IDLE);
}

#[test]
fn room_to_write_is_told() {
    let (listener, address) = listener();
    let mut dialer = dialer("127.0.0.1", address.port());
    let now = Instant::now();
    dialer.start(now).unwrap();
    connected(&mut dialer).unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    let link = dialer.link().unwrap();
    let mut sent = 0;
    while let Some(n) = link.write(&[0; 65536]).unwrap() {
        sent += n;
    }
    while event(&dialer, 0) {
        dialer.run(now).unwrap();
    }
    // Nothing to write for, however often it is tried.
    assert_eq!(dialer.link().unwrap().write(b"more").unwrap(), None);
    std::io::copy(
        &mut Read::by_ref(&mut peer).take(sent as u64),
        &mut io::sink(),
    )
    .unwrap();
    assert!(event(&dialer, 20_000));
    let link = dialer.run(now).unwrap().unwrap();
    assert_eq!(link.write(b"more").unwrap(), Some(4));
}

#[test]
fn a_refused_connection_names_server_and_key() {
    let port = closed().port();
    let mut dialer = dialer("127.0.0.1", port);
    dialer.start(Instant::now()).unwrap();
    let refused = format!("127.0.0.1:{port} (some.key): Connection refused (os error 111)");
    assert_eq!(failed(&mut dialer), refused);
    // And again, as after any fault.
    dialer.stop();
    dialer.start(Instant::now()).unwrap();
    assert_eq!(failed(&mut dialer), refused);
}

#[test]
fn the_addresses_of_a_name_are_tried_in_turn() {
    let (listener, address) = listener();
    let (_full, silent) = silent();
    let mut dialer = dialer("relay", 1);
    let start = Instant::now();
    found(&mut dialer, vec![closed(), silent, address], start);
    // The first one refuses; the second one says nothing, until its time is over.
    let mut now = start;
    while dialer.run(now).unwrap().is_none() {
        assert!(start.elapsed() < PATIENCE, "it never happened");
        let until = dialer.deadline().unwrap();
        if !event(&dialer, 100) {
            now = until;
        }
    }
    assert!(now >= start + CONNECT_WAIT);
    let link = dialer.link().unwrap();
    let peer = link.socket().peer_addr().unwrap();
    assert_eq!(peer.as_socket(), Some(address));
    listener.accept().unwrap();

    let closed = closed();
    found(&mut dialer, vec![silent, closed], start);
    assert!(dialer.run(start).unwrap().is_none());
    let late = dialer.run(start + CONNECT_WAIT).err();
    let fault = late.map_or_else(|| failed(&mut dialer), |fault| fault.0);
    let refused = format!("relay:1 (some.key): {closed}: Connection refused (os error 111)");
    assert_eq!(fault, refused);
    found(&mut dialer, vec![silent], start);
    let fault = dialer.run(start + CONNECT_WAIT).err().unwrap().0;
    assert_eq!(fault, format!("relay:1 (some.key): {silent}: no answer"));
    // Each has its own time.
    found(&mut dialer, vec![silent, silent], start);
    let now = start + CONNECT_WAIT;
    assert!(dialer.run(now).unwrap().is_none());
    assert_eq!(dialer.deadline(), Some(now + CONNECT_WAIT));
    let fault = dialer.open(Vec::new(), start).err().unwrap().0;
    assert_eq!(fault, "relay:1 (some.key): it has no address");
}

#[test]
fn a_name_that_is_none() {
    // Too long to be asked for, so that no name server is.
    let mut dialer = dialer(&"x".repeat(300), 1);
    dialer.start(Instant::now()).unwrap();
    let fault = failed(&mut dialer);
    let (place, what) = fault.split_once(": ").unwrap();
    assert!(place.ends_with("x:1 (some.key)"), "{fault}");
    assert!(what.starts_with("failed to lookup address"), "{fault}");
}

/// A lookup that has not ended, and what ends it.
fn pending() -> (Lookup, impl FnOnce(Vec<SocketAddr>)) {
    let (done, end) = io::pipe().unwrap();
    let (sender, answer) = mpsc::channel();
    let answering = move |addresses| {
        sender.send(Ok(addresses)).unwrap();
        drop(end);
    };
    (Lookup { answer, done }, answering)
}

#[test]
fn a_lookup_that_takes_too_long_is_a_fault_and_its_answer_serves_the_next_start() {
    let (listener, address) = listener();
    let mut dialer = dialer("relay", 1);
    let (lookup, answer) = pending();
    dialer.lookup = Some(lookup);
    let now = Instant::now();
    dialer.start(now).unwrap();
    assert!(dialer.run(now).unwrap().is_none());
    let fault = dialer.run(now + LOOKUP_WAIT).err().unwrap().0;
    assert_eq!(
        fault,
        "relay:1 (some.key): looking up its name takes too long"
    );
    dialer.stop();
    dialer.start(now).unwrap();
    assert!(!event(&dialer, 0));
    answer(vec![address]);
    assert!(event(&dialer, 20_000));
    connected(&mut dialer).unwrap();
    listener.accept().unwrap();
}

#[test]
fn an_answer_that_nobody_took_is_not_used_later() {
    let (_listener, address) = listener();
    let mut dialer = dialer("localhost", closed().port());
    let (lookup, answer) = pending();
    answer(vec![address]);
    dialer.lookup = Some(lookup);
    dialer.start(Instant::now()).unwrap();
    assert!(failed(&mut dialer).contains("Connection refused"));
}

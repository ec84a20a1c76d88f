//! Every capacity and every constant of the wire formats, in one place, with the relations between them checked at
//! compile time. What a user may change is in [`crate::config`]; what is here is a property of the program.

use std::time::Duration;

/// Client slots in the whole process. Each owns one frame buffer, taken at start; what no picture has gone through stays
/// untouched. A build with `CAMD_MAX_CLIENTS=256` in its environment has another number, from 1 to 1024; what follows from
/// that is reckoned below.
pub const MAX_CLIENTS: usize = match option_env!("CAMD_MAX_CLIENTS") {
    Some(number) => decimal(number),
    None => 64,
};

/// What `str::parse` is not yet: a number at compile time.
const fn decimal(text: &str) -> usize {
    let (digits, mut number, mut at) = (text.as_bytes(), 0, 0);
    assert!(
        !digits.is_empty() && digits.len() <= 4,
        "CAMD_MAX_CLIENTS is no number from 1 to 1024"
    );
    while at < digits.len() {
        assert!(
            digits[at].is_ascii_digit(),
            "CAMD_MAX_CLIENTS is no number from 1 to 1024"
        );
        number = 10 * number + (digits[at] - b'0') as usize;
        at += 1;
    }
    number
}
const _: () = assert!(1 <= MAX_CLIENTS && MAX_CLIENTS <= 1024);
/// Places beyond [`MAX_CLIENTS`] that are kept: one for a user who logs in, one for this machine's own programs.
pub const KEPT_PLACES: usize = 2;
/// Slots that hold pictures.
pub const PLACES: usize = MAX_CLIENTS + KEPT_PLACES;
/// Extra slots that hold no pictures: clients without a place wait there until they say what they want, are told that
/// there is no room, and get what takes no place, such as the page and `/healthz`. As many as can connect within the
/// milliseconds that an honest client's first word takes, under a flood of silent ones.
pub const REFUSAL_SLOTS: usize = 32;
/// All of them.
pub const SLOTS: usize = PLACES + REFUSAL_SLOTS;
/// Where there is no room, a client that comes takes the place of one that has not asked for anything for so long since
/// it came.
pub const FIRST_WORD: Duration = Duration::from_secs(1);
/// As [`FIRST_WORD`], for one that has had what it asked for, and would lose its connection with its place.
pub const IDLE_GRACE: Duration = Duration::from_secs(30);
/// Connections from one address in a second, and at once, before further ones are reset unheard. Each page that is
/// looked at makes one or two a second, and a program that fetches single pictures one for each.
pub const CONNECTS_PER_SECOND: u32 = 100;
/// See [`CONNECTS_PER_SECOND`].
pub const CONNECTS_AT_ONCE: u32 = 200;
/// Addresses whose connections are counted at the same time. The one that was quiet for longest makes way.
pub const ADDRESSES_COUNTED: usize = 256;
/// `[[listener]]` sections.
pub const MAX_LISTENERS: usize = 16;

/// `[[neighbour]]` sections.
pub const MAX_NEIGHBOURS: usize = 16;
/// `neighbour.name`, in characters.
pub const NEIGHBOUR_NAME: usize = 32;
/// `neighbour.url`, in bytes.
pub const NEIGHBOUR_URL: usize = 128;

/// `[[sink]]` sections.
pub const MAX_SINKS: usize = 4;
/// qt-shm: a key, in characters.
pub const SINK_KEY: usize = 64;
/// source = "qt-shm": bytes of a QImage that are read, a PNG in whatever way it is written; and bytes of the pixels that it
/// becomes, also on the way there: 3840x2160 with alpha.
pub const SHM_CONTENT: usize = 64 << 20;
/// See [`SHM_CONTENT`]; in bytes.
pub const SHM_PIXELS: usize = 34 << 20;
/// memfd: pictures in the memory. With one, a reader could never look at it in peace.
pub const SINK_SLOTS_MIN: usize = 2;
/// See [`SINK_SLOTS_MIN`].
pub const SINK_SLOTS_MAX: usize = 32;
/// memfd: readers of one sink.
pub const SINK_READERS_MAX: usize = 32;

/// `camera.name`, in characters.
pub const CAMERA_NAME: usize = 64;

/// `limits.frame_bytes`: the largest JPEG that camd handles, in bytes.
///
/// It leaves room for a state page with all clients in it.
pub const FRAME_BYTES_MIN: usize = 128 * 1024 * MAX_CLIENTS.div_ceil(64);
/// The most that `limits.frame_bytes` may be. It leaves the clients' buffers 1 GiB in all: a 32-bit board has two or three.
pub const FRAME_BYTES_MAX: usize = if MAX_CLIENTS <= 64 {
    16 << 20
} else {
    (1 << 30) / MAX_CLIENTS
};

/// Capture buffers asked of the driver; V4L2's own limit is 32 (`VIDEO_MAX_FRAME`).
pub const BUFFERS_MIN: u32 = 2;
/// See [`BUFFERS_MIN`].
pub const BUFFERS_MAX: u32 = 32;
/// With fewer buffers than this in the ring none is kept for late askers: two stay with the driver, as many drivers
/// need that number queued to run at all.
pub const BUFFERS_TO_HOLD_ONE: u32 = 3;

/// Picture sizes, in pixels. JPEG itself ends at 65535.
pub const DIMENSION_MIN: u16 = 16;
/// See [`DIMENSION_MIN`].
pub const DIMENSION_MAX: u16 = 8192;
/// Pictures per second, wherever a rate can be set.
pub const FPS_MAX: u16 = 240;
/// Samples of a picture that is turned when it is encoded, and must be kept whole for that: 4096x3072 fits in 4:2:2 and
/// 4:2:0, 3840x2160 in RGB. Resident as far as pictures need it, and most is left to a 32-bit board of 512 MB.
pub const TURNED_BYTES: usize = 32 << 20;

/// Pixels of a JPEG that is decoded: as many as can be turned in 4:2:0, 4096x3072, whatever the camera is asked for.
pub const DECODED_PIXELS: usize = 4096 * 3072;
/// A camera may give this many times the pixels that it is asked for, where that is more than [`DECODED_PIXELS`].
pub const DECODED_LARGER: usize = 4;
/// How much of the time pictures that others send may take to decode, and to encode again.
pub const DECODE_SHARE: f64 = 0.75;
/// What they may take at once after a rest; and all that is made of one picture.
pub const DECODE_BURST: Duration = Duration::from_millis(250);

/// adaptive: the pictures of one kind among which its clients are spread, from the listener's own to the smallest.
pub const RUNGS: usize = 7;
/// All JPEGs that are made of a picture have room for `limits.frame_bytes` each, and in all for this many bytes of
/// address space: on a 32-bit board, the buffers of the clients can take 1 GiB of the two or three there are.
pub const RENDITIONS_BYTES: usize = 256 * 1024 * 1024;

/// JPEGs in sizes and qualities that clients ask for (`/stream?width=…`), beyond those of the configuration, in the whole
/// process. Each has room for `limits.frame_bytes`.
pub const ASKED_RENDITIONS: usize = 4;
/// How many of them may be made something else at once, and how many each second from then on: each change is a picture more
/// to encode.
pub const ASKED_AT_ONCE: f64 = 16.0;
/// See [`ASKED_AT_ONCE`].
pub const ASKED_PER_SECOND: f64 = 4.0;

/// pull: bytes of picture between two `ack`s.
pub const PULL_PART: usize = 1380;
/// HTTP: a request's head (request line and fields) in bytes; more is answered with 431.
pub const REQUEST_HEAD: usize = 8192;
/// HTTP: fields in a request's head; more is answered with 431.
pub const REQUEST_FIELDS: usize = 64;
/// HTTP: a request's body in bytes; more is answered with 413. Only `POST /controls` has one.
pub const REQUEST_BODY: usize = 1024;
/// HTTP: the body of `POST /update` in bytes. A camera box's card has 128 MiB.
pub const UPDATE_MAX: u64 = 128 << 20;
/// The whole of an update, from its request to the answer.
pub const UPDATE_LONGEST: Duration = Duration::from_secs(30 * 60);
/// The box takes nothing of an update, or does not answer: a worn card takes seconds for what others take at once.
pub const UPDATE_WAIT: Duration = Duration::from_secs(120);
/// What the box answers in bytes, at most.
pub const UPDATE_ANSWER: usize = 512;
/// HTTP: controls set by one request, and bytes in a control's name.
pub const SETTINGS: usize = 16;
/// See [`SETTINGS`].
pub const CONTROL_NAME: usize = 64;
/// HTTP: bytes in `allow_origin`.
pub const ORIGIN: usize = 256;
/// HTTP: bytes in `base_path`.
pub const BASE_PATH: usize = 128;
/// call: a user's name, in UTF-16 units, and in bytes as UTF-8.
pub const USER_NAME: usize = 64;
/// See [`USER_NAME`].
pub const USER_NAME_BYTES: usize = 3 * USER_NAME;
/// call: a password, in UTF-16 units, and in bytes as UTF-8.
pub const PASSWORD: usize = 256;
/// See [`PASSWORD`].
pub const PASSWORD_BYTES: usize = 3 * PASSWORD;
/// The configuration file, in bytes.
pub const CONFIG_FILE: usize = 1 << 20;
/// A file that the configuration names for what stands in it, in bytes: a password, a certificate, a key.
pub const NAMED_FILE: usize = 256 << 10;
/// `[[user]]` sections.
pub const MAX_USERS: usize = 32;
/// `user.token`, in bytes.
pub const TOKEN_MIN: usize = 16;
/// See [`TOKEN_MIN`].
pub const TOKEN: usize = 128;
/// Places from where somebody has tried to log in that are remembered.
pub const GUESSERS_KNOWN: usize = 256;
/// Wrong passwords from one place after which it has to wait.
pub const WRONG_AT_ONCE: usize = 5;
/// How long, at first and at last; twice as long after each further one.
pub const WAIT_FIRST: Duration = Duration::from_secs(1);
/// See [`WAIT_FIRST`].
pub const WAIT_MAX: Duration = Duration::from_secs(60);
/// After so long without a wrong one they are forgotten.
pub const FORGOTTEN: Duration = Duration::from_secs(15 * 60);
/// Passwords that wait to be held against a hash, in all, and from one place.
pub const GUESSES: usize = 32;
/// See [`GUESSES`].
pub const GUESSES_OF_PLACE: usize = 2;
/// Clients that wait for the same one: as many as a browser has connections to a host, and a few more.
pub const GUESSERS: usize = 8;
/// How long one turn of the event loop looks at a password.
pub const GUESS_SLICE: Duration = Duration::from_millis(2);
/// `listener.hosts`: entries, and bytes in each (RFC 1035, 2.3.4).
pub const HOSTS: usize = 32;
/// See [`HOSTS`].
pub const HOST: usize = 253;
/// `listener.allow` and `listener.trusted_proxies`: entries.
pub const NETWORKS: usize = 32;
/// source = "http": the name of a user, and the URL, in bytes.
pub const LOGIN_NAME_BYTES: usize = 256;
/// See [`LOGIN_NAME_BYTES`].
pub const URL: usize = 2048;
/// source = "http": the head of an answer or of one of its parts in bytes, as much in front of the first part, and in the lines
/// between two chunks.
pub const ANSWER_HEAD: usize = 8192;
/// source = "http": fields in a head.
pub const ANSWER_FIELDS: usize = 64;
/// HTTP: redirections that are followed, one after the other.
pub const REDIRECTS: u8 = 3;
/// source = "http": a time stamp of the server's older than this is that of another clock.
pub const STAMP_AGE: Duration = Duration::from_secs(5);
/// As [`STAMP_AGE`], for one that is ahead: what clocks that are set by NTP differ.
pub const STAMP_AHEAD: Duration = Duration::from_millis(100);
/// call: the content of a record that camd writes itself, in UTF-16 units: a reason, for a person's eyes.
pub const REASON: usize = 100;
/// call: a record with a picture in it, in bytes; one of 640x480 and quality 80 has some 160 KB. It must fit the
/// receiver's frame buffer as well, so `limits.frame_bytes` is the other bound.
pub const RECORD: usize = 256 * 1024;
/// call: any other record, in bytes.
pub const CONTROL_RECORD: usize = 16 * 1024;
/// call: records without picture that wait for one client, in bytes.
pub const CONTROL_QUEUE: usize = 64 * 1024;
/// call: how fast one client may send records without picture, in bytes per second, and at once. Others wait in its own
/// connection, so that it cannot flood anybody's queue.
pub const CONTROL_RATE: usize = 32 * 1024;
/// See [`CONTROL_RATE`].
pub const CONTROL_BURST: usize = CONTROL_RECORD;
/// call: entries of the table of users. More than there can be, as hash tables are slow when they are full.
pub const USERS: usize = (2 * PLACES).next_power_of_two();
/// call: calls that one user may have placed at the same time.
pub const CALLS_PLACED: usize = 4;
/// call: how often one user may ring others at once, and from then on.
pub const RINGS: u32 = 10;
/// See [`RINGS`].
pub const RING_EVERY: Duration = Duration::from_secs(5);
/// call: users that may ring up the same one at the same time.
pub const RINGS_AT: usize = 4;
/// call: a user that does not answer within this time is not there.
pub const RINGING: Duration = Duration::from_secs(30);
/// call: a connection must have logged in by then. A person may have to type the name.
pub const LOGIN_WAIT: Duration = Duration::from_secs(60);
/// call: refused logins after which a connection is closed.
pub const REFUSALS: u8 = 3;
/// call: a connection whose name another one wants is asked each second whether it is still alive, and gone after so many
/// seconds without an answer.
pub const PROBES: u32 = 3;
/// What a slot can hold of its client's unread input.
pub const INPUT: usize = REQUEST_HEAD + REQUEST_BODY;
/// What a slot can hold of framing: response heads, part heads, announcements; and in front of a film, what tells players
/// how to decode it.
pub const HEAD: usize = 4096;
/// H.264: a parameter set in bytes. What encoders write has 10 to 60.
pub const PARAMETER_SET: usize = 256;
/// H.264: sequence parameter sets that are kept. Encoders write one.
pub const SEQUENCE_SETS: usize = 2;
/// H.264: picture parameter sets that are kept. Most encoders write one, some one for each kind of picture.
pub const PICTURE_SETS: usize = 4;
/// H.264: NAL units in one access unit: slices, and what stands in front of them.
pub const NALS: usize = 64;
/// H.264: access units that are held for those who are late. Together they have room for twice `limits.frame_bytes`.
pub const CHAIN: usize = 64;
/// H.264: an access unit that is older than this is sent to nobody any more who has not got all of those before it.
pub const CHAIN_AGE: Duration = Duration::from_millis(300);
/// H.264 from a program: when nothing was written for this long, the last picture is taken to be whole, though only the next
/// one will prove it. Longer as soon as that was wrong.
pub const UNIT_QUIET: Duration = Duration::from_millis(5);
/// H.264: a camera or an encoder is asked for a key picture once in this time at most, whoever needs one.
pub const KEY_EVERY: Duration = Duration::from_millis(500);
/// H.264: a film begins with a key picture, and a request for one is answered with 503 when there was none for this long.
/// x264's default is one in 250 pictures.
pub const KEY_WAIT: Duration = Duration::from_secs(20);
/// HTTP: the body of a refusal, in bytes. It is for a person's eyes.
pub const REFUSAL_BODY: usize = 256;
/// What the state pages may take, in bytes; a slot's frame buffer holds them on the way out. Refusal slots have room for
/// no more.
pub const PAGE: usize = FRAME_BYTES_MIN;

/// Unsent bytes that the kernel may hold per connection (`TCP_NOTSENT_LOWAT`): with the default, hundreds of
/// kilobytes of old pictures pile up in the send buffer of a slow client.
pub const NOTSENT_LOWAT: u32 = 16 * 1024;

/// A client that is late waits for a newer picture that comes within so long. Few have less than that still to read of
/// the last one.
pub const NEXT_SOON: Duration = Duration::from_millis(20);

/// Bytes in a TCP segment at most (`TCP_MAXSEG`). Ethernet's are smaller; loopback's have 64 KB, and TCP sends a slow
/// reader only whole ones, so that half a picture would wait for a gap of its own size.
pub const SEGMENT: u32 = 4096;
/// TCP keep-alive: a peer that vanished without a word is gone after about `IDLE + INTERVAL × PROBES`.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
/// See [`KEEPALIVE_IDLE`].
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// See [`KEEPALIVE_IDLE`].
pub const KEEPALIVE_PROBES: u32 = 3;
/// Connections that are in their TLS handshake at the same time, and those of one address (IPv6: of one network of 64 bits)
/// among them. A browser makes six at once.
pub const HANDSHAKES: usize = 48;
/// See [`HANDSHAKES`].
pub const HANDSHAKES_PER_ADDRESS: usize = 16;
/// TLS handshakes that one address may begin each second, and at once. Others wait, up to `head_timeout`.
pub const HANDSHAKES_PER_SECOND: u32 = 10;
/// See [`HANDSHAKES_PER_SECOND`].
pub const HANDSHAKES_AT_ONCE: u32 = 20;
/// Addresses for which that is counted: those that were heard of last.
pub const HANDSHAKE_ADDRESSES: usize = 128;
/// Connections accepted in one turn of the event loop, by all listeners together: each takes a third of a millisecond on
/// a Pi 2.
pub const ACCEPTS_PER_TURN: usize = 12;
/// When the process has no descriptor or memory left for a connection, the next try to accept it.
pub const ACCEPT_RETRY: Duration = Duration::from_secs(1);
/// A camera that is silent for this long is registered with the poll anew, see `daemon`.
pub const REARM: Duration = Duration::from_secs(1);
/// How many times in a row that is done for a camera that has a frame each time: a driver that always says so must not
/// keep the process busy.
pub const REGISTER_TRIES: u32 = 4;

/// Bytes of log that wait for standard error to take them.
pub const LOG_BYTES: usize = 64 * 1024;
/// The end of it is kept for errors and last words.
pub const LOG_RESERVE: usize = 8 * 1024;
/// A line of the log, in bytes: as much as a pipe takes in one piece (PIPE_BUF), so that lines of several programs in one
/// pipe do not mix.
pub const LOG_LINE: usize = 4096;
/// A message in /dev/kmsg, in bytes, with what stands in front of it. The kernel refuses those of more than 1024
/// (PRINTKRB_RECORD_MAX), and keeps 1024 with what it adds.
pub const LOG_KERNEL_LINE: usize = 900;
/// How long the end waits for standard error to take what was said.
pub const LOG_FLUSH: Duration = Duration::from_millis(300);
/// Kinds of messages about peers, each with one address, that are counted apart.
pub const LOG_PEERS: usize = 256;
/// So many messages of one kind about one address are said; from then on the 32nd, the 64th, and so on.
pub const LOG_PEER_MESSAGES: u64 = 16;
/// All messages of one kind about peers: so many at once, and one more in each [`LOG_PEERS_INTERVAL`].
pub const LOG_PEERS_BURST: u32 = 64;
/// See [`LOG_PEERS_BURST`].
pub const LOG_PEERS_INTERVAL: Duration = Duration::from_secs(1);
/// What was left out is told this long after the first of it.
pub const LOG_SUMMARY: Duration = Duration::from_secs(60);

/// Back-off between two tries to open a camera that failed.
pub const REOPEN_FIRST: Duration = Duration::from_secs(1);
/// See [`REOPEN_FIRST`].
pub const REOPEN_MAX: Duration = Duration::from_secs(10);
/// A running source without a frame for this long has failed.
pub const CAPTURE_STALL: Duration = Duration::from_secs(5);
/// One behind which there is somebody else may take longer to its first picture: an interpreter, a camera's handshake.
pub const FIRST_PICTURE: Duration = Duration::from_secs(15);
/// A V4L2 camera that is there and gives no picture for this long, while somebody wants one, hangs beyond camd's help, and
/// the watchdogs are no longer fed. By then it was opened anew five times or so; and it is the least time from one
/// restart to the next where that does not help either.
pub const HUNG: Duration = Duration::from_secs(60);
/// A board's watchdog with a shorter timeout is asked for this one: a driver in trouble can hold a system call up for
/// seconds (uvcvideo gives a camera 5 s for each answer).
pub const WATCHDOG_TIMEOUT_MIN: Duration = Duration::from_secs(15);
/// How many times it is fed in that time.
pub const WATCHDOG_MEALS: u32 = 3;
/// The service manager is told how it goes (`STATUS=`) this often at most.
pub const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// It has this long to take the message that camd is ready.
pub const READY_WAIT: Duration = Duration::from_secs(2);
/// What is wrong with the configuration, on the pages: so many errors, and bytes in each. The log has all.
pub const CONFIG_ERRORS: usize = 14;
/// See [`CONFIG_ERRORS`].
pub const CONFIG_ERROR: usize = 400;
/// What a box says about itself (`--box`), in bytes; what is behind them is not read.
pub const BOX_FILE: usize = 2048;
/// Looking up a host name. The resolver itself gives up after 10 s for each of its servers (resolv.conf(5)).
pub const LOOKUP_WAIT: Duration = Duration::from_secs(10);
/// Connecting to one of a host's addresses. A SYN that was lost is sent again after 1 s, and after 3 s.
pub const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// Addresses of one host that are tried.
pub const ADDRESSES: usize = 8;
/// call: the answer to a LOGIN.
pub const LOGIN_ANSWER: Duration = Duration::from_secs(10);
/// call: the answer to a VIDEO_CALL_REQUEST. A relay gives up after 30 s and says so.
pub const CALL_ANSWER: Duration = Duration::from_secs(35);
/// Contexts (open descriptors) of a hardware encoder, one for each JPEG quality, and sampling if the device leaves a
/// choice: each takes buffers of the size of a raw picture from memory of which small boards have little. Further ones
/// are encoded by the processor.
pub const ENCODER_CONTEXTS: usize = 4;
/// A hardware encoder that has not given a picture back for this long has failed. The slowest need some 0.1 s.
pub const ENCODER_STALL: Duration = Duration::from_secs(1);
/// Processes that decode and encode pictures (`limits.cells`).
pub const CELLS_MAX: usize = 4;
/// Such a process that has not given a picture back for this long hangs, and longer for each of its pixels: a progressive
/// JPEG of twelve megapixels takes a Pi 2 three seconds.
pub const CELL_STALL: Duration = Duration::from_secs(1);
/// See [`CELL_STALL`].
pub const CELL_PER_PIXEL: Duration = Duration::from_nanos(500);
/// A new one that is not ready by then hangs.
pub const CELL_START: Duration = Duration::from_secs(60);
/// A cell that has closed its descriptors and cannot be waited for yet is looked at again after this.
pub const CELL_ENDS: Duration = Duration::from_millis(2);
/// What a cell says at most of why there is no picture, in bytes.
pub const CELL_REASON: usize = 104;
/// So many of them lost in [`CELL_LOSSES_WITHIN`]: the pictures' source is closed and opened again.
pub const CELL_LOSSES: usize = 3;
/// See [`CELL_LOSSES`].
pub const CELL_LOSSES_WITHIN: Duration = Duration::from_secs(60);
/// While there is no picture, the picture that says so is repeated at this interval, as a sign of life.
pub const NO_PICTURE_INTERVAL: Duration = Duration::from_secs(1);
/// Its JPEG quality: text stays sharp, and it is sent rarely.
pub const NO_PICTURE_QUALITY: u8 = 80;
/// A snapshot request is answered within this time, with 503 if there is no picture by then.
pub const SNAPSHOT_WAIT: Duration = Duration::from_secs(2);
/// How long a connection that is being closed may take to read our last words.
pub const LINGER_CLOSE: Duration = Duration::from_secs(1);

const _: () = assert!(
    LOG_KERNEL_LINE < LOG_LINE && 2 * LOG_LINE <= LOG_RESERVE && 2 * LOG_RESERVE <= LOG_BYTES
);
const _: () = assert!(PULL_PART < FRAME_BYTES_MIN);
const _: () = assert!(FRAME_BYTES_MIN <= FRAME_BYTES_MAX);
// Sender, receiver, the length of the content.
const _: () = assert!(4 + 2 * USER_NAME + 4 + 2 * USER_NAME + 4 <= HEAD);
const _: () = assert!(CONTROL_RECORD <= RECORD);
const _: () = assert!(USERS.is_power_of_two());
// A client that reads is not drowned by what one other may send at once; and all of it goes out in one piece.
const _: () = assert!(4 * CONTROL_BURST <= CONTROL_QUEUE && CONTROL_QUEUE <= FRAME_BYTES_MIN);
// Without adaptive listeners and sinks there is always room.
const _: () = assert!(MAX_LISTENERS * FRAME_BYTES_MAX <= RENDITIONS_BYTES);
const _: () = assert!(4 * 3840 * 2160 <= SHM_PIXELS);
// push writes the length as an int32.
const _: () = assert!(FRAME_BYTES_MAX <= i32::MAX as usize);
const _: () = assert!(BUFFERS_MIN < BUFFERS_TO_HOLD_ONE && BUFFERS_TO_HOLD_ONE <= BUFFERS_MAX);
// A client's slot and its generation, 16 bits, share the word of a mio token with those of listeners and the like.
const _: () = assert!(SLOTS <= 1 << 12);
// A snapshot must not be refused because the encoder has failed meanwhile.
const _: () = assert!(ENCODER_STALL.as_nanos() < SNAPSHOT_WAIT.as_nanos());
const _: () = assert!(REOPEN_FIRST.as_nanos() <= REOPEN_MAX.as_nanos());
// It was tried several times, even at the longest back-off.
const _: () = assert!(3 * (CAPTURE_STALL.as_secs() + REOPEN_MAX.as_secs()) <= HUNG.as_secs());
const _: () = assert!(CAPTURE_STALL.as_secs() < WATCHDOG_TIMEOUT_MIN.as_secs());

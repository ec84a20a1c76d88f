//! What `/`, `/state`, `/metrics` and `/controls` say. Written into a fixed buffer, without allocation.

use std::io::{self, Write};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use log::warn;
use serde::{Serialize, Serializer};

use super::board::{Board, Buffer};
use super::calls::Calls;
use super::config_errors::ConfigErrors;
use super::link::Stream;
use super::switchboard::Party;
use super::table::{ClientId, Table};
use crate::config::NeighbourConfig;
use crate::encode::cell::Losses;
use crate::encode::renditions::Renditions;
use crate::limits::PAGE;
use crate::measure::times::{Phase, Times};
use crate::picture::frame::FrameBuf;
use crate::protocol::Protocol;
use crate::protocol::call::Partners;
use crate::protocol::http::{self, Call as Request, Claim, Route, Status};
use crate::protocol::name::Name;
use crate::protocol::user::{Access, User};
use crate::sink::{Entry, Sinks};
use crate::source::camera::{Camera, Condition, Cropping};
use crate::source::{ControlError, Source};

/// The page at `/`.
pub const INDEX: &[u8] = include_bytes!("index.html");
/// What it loads where the camera has H.264.
const PLAYER: &[u8] = include_bytes!("player.js");
/// Its icon.
const ICON: &[u8] = include_bytes!("icon.svg");

/// All that the pages show, but for the camera.
pub struct View<'a, S> {
    /// The clients and the listeners.
    pub table: &'a Table<S>,
    /// The users of call listeners.
    pub calls: &'a Calls,
    /// The JPEGs that are made.
    pub renditions: &'a Renditions,
    /// The programs on the same board.
    pub sinks: &'a Sinks,
    /// What is wrong with the configuration file.
    pub config_errors: &'a ConfigErrors,
    /// Where the box around camd says how it is.
    pub board: Option<&'a Path>,
    /// It can be updated.
    pub updates: bool,
    /// Pages to link to.
    pub neighbours: &'a [NeighbourConfig],
    /// When camd began to serve.
    pub started: Instant,
}

/// The request that the session of a slot has referred.
///
/// # Panics
/// If there is none.
pub(super) fn request<S: Stream>(table: &mut Table<S>, index: usize) -> Request {
    let call = table.slot_mut(index).with_session(|session| match session {
        Protocol::Http(http) => http.take_call(),
        other => unreachable!("{other:?} has no pages"),
    });
    call.expect("it has referred one")
}

/// Whether what the session of a slot refers is a part of an update.
pub(super) fn is_update<S: Stream>(table: &Table<S>, index: usize) -> bool {
    match table.slot(index).session() {
        Some(Protocol::Http(http)) => http.upload_left().is_some(),
        _ => false,
    }
}

/// Tells the client why what it asked for is not to be.
pub(super) fn refuse<S: Stream>(
    table: &mut Table<S>,
    index: usize,
    status: Status,
    why: &'static str,
) {
    table.slot_mut(index).reply(|session, reply| match session {
        Protocol::Http(http) => http.refuse_call(status, why, reply),
        other => unreachable!("{other:?} has no pages"),
    });
}

/// What the session of a slot has to show, if it is to be let in before it is answered.
pub(super) fn claim<S: Stream>(table: &mut Table<S>, index: usize) -> Option<Box<Claim>> {
    table.slot_mut(index).with_session(|session| match session {
        Protocol::Http(http) => http.take_claim(),
        _ => None,
    })
}

/// Who asks, as far as that changes what is told.
pub struct Asker {
    /// The connection, if it is one.
    id: Option<ClientId>,
    user: Option<Rc<User>>,
    /// Is told of others, and what is wrong.
    is_trusted: bool,
    /// Nobody has to log in there.
    is_open: bool,
    /// POST `/controls` is for it.
    sets_controls: bool,
    /// POST `/update` is for it, where there are updates.
    updates: bool,
}

impl Asker {
    /// Who knows everything.
    pub fn trusted() -> Asker {
        Asker {
            id: None,
            user: None,
            is_trusted: true,
            is_open: true,
            sets_controls: true,
            updates: true,
        }
    }

    /// Who has sent the request that the session of a slot has referred.
    pub(super) fn of<S: Stream>(table: &Table<S>, index: usize) -> Asker {
        let id = Some(table.id(index));
        match table.slot(index).session() {
            Some(Protocol::Http(http)) => {
                let user = http.asker().cloned();
                let may = user.as_ref().is_none_or(|user| user.may.control);
                Asker {
                    id,
                    is_trusted: http.is_trusted(),
                    is_open: http.policy.access == Access::Open,
                    sets_controls: http.policy.set_controls && may,
                    updates: user.as_ref().is_some_and(|user| user.may.update),
                    user,
                }
            }
            other => unreachable!("{other:?} has no pages"),
        }
    }
}

/// Sends a page that was written to the client that asked for it.
pub(super) fn reply<S: Stream>(
    table: &mut Table<S>,
    index: usize,
    (status, content_type): (Status, &str),
    page: &FrameBuf,
) {
    table.slot_mut(index).reply(|session, reply| match session {
        Protocol::Http(http) => http.reply(status, content_type, page.as_slice(), reply),
        other => unreachable!("{other:?} has no pages"),
    });
}

/// Writes what a request is answered with into `page`, and says what that is. Controls are set.
pub(super) fn write<S: Stream, C: Source>(
    view: &View<'_, S>,
    call: Request,
    asker: &Asker,
    camera: &mut Camera<C>,
    now: Instant,
    page: &mut FrameBuf,
) -> (Status, &'static str) {
    page.clear();
    let (status, content_type, written) = match call {
        Request::Get(Route::State | Route::StateOnce) => (
            Status::Ok,
            http::JSON,
            state(view, asker, camera, now, page),
        ),
        Request::Get(Route::Metrics) => {
            (Status::Ok, http::METRICS, metrics(view, camera, now, page))
        }
        Request::Get(Route::Healthz) => match camera.condition() {
            Condition::Live | Condition::Idle => (Status::Ok, http::TEXT, page.write_all(b"ok\n")),
            Condition::Starting => (
                Status::ServiceUnavailable,
                http::TEXT,
                page.write_all(b"no picture yet\n"),
            ),
            // Why is for those who are let in.
            Condition::Fault if !asker.is_open => (
                Status::ServiceUnavailable,
                http::TEXT,
                page.write_all(b"no picture\n"),
            ),
            Condition::Fault => (
                Status::ServiceUnavailable,
                http::TEXT,
                writeln!(page, "no picture: {}", camera.reason()),
            ),
        },
        Request::Get(Route::Controls) => (Status::Ok, http::JSON, controls(camera, page)),
        Request::SetControls(settings) => {
            let refused = settings.iter().find_map(|(name, value)| {
                let error = camera.set_control(name, *value).err()?;
                Some((name, value, error))
            });
            match refused {
                None => (Status::Ok, http::JSON, controls(camera, page)),
                Some((name, _, ControlError::Unknown)) => {
                    let text = writeln!(page, "{name}: no such control; GET /controls lists them");
                    (Status::NotFound, http::TEXT, text)
                }
                Some((name, value, ControlError::Refused(why))) => (
                    Status::BadRequest,
                    http::TEXT,
                    writeln!(page, "{name} = {value}: {why}"),
                ),
            }
        }
        Request::Get(Route::Index) => (Status::Ok, http::HTML, page.write_all(INDEX)),
        Request::Get(Route::Player) => (Status::Ok, http::SCRIPT, page.write_all(PLAYER)),
        Request::Get(Route::Icon) => (Status::Ok, http::ICON, page.write_all(ICON)),
        Request::Get(Route::Manifest) => {
            let name = &camera.settings().name;
            (Status::Ok, http::MANIFEST, manifest(name, page))
        }
        Request::Get(Route::Stream | Route::Film | Route::Snapshot | Route::Update)
        | Request::Options(_)
        | Request::Moved(_)
        | Request::Update(_) => {
            unreachable!("sessions answer {call:?} by themselves")
        }
    };
    match written {
        Ok(()) => (status, content_type),
        // A camera with hundreds of controls, say: half a JSON text would be worse than none.
        Err(error) => {
            warn!("page too long for {PAGE} bytes: {error}");
            page.clear();
            (Status::ServiceUnavailable, http::TEXT)
        }
    }
}

#[derive(Serialize)]
struct State<'a, L, P, I, C, K, T>
where
    L: Iterator<Item = Listener<'a>> + Clone,
    P: Iterator<Item = Profile<I>> + Clone,
    I: Iterator<Item = usize> + Clone,
    C: Iterator<Item = Client<'a>> + Clone,
    K: Iterator<Item = Call> + Clone,
    T: Iterator<Item = Sink<'a>> + Clone,
{
    name: &'a str,
    version: &'static str,
    uptime_s: u64,
    you: You<'a>,
    /// What is wrong with the configuration that should be in force; another one is.
    config_errors: &'a [String],
    /// What the box around camd says about itself; null where there is none.
    #[serde(rename = "box")]
    board: Option<Board<'a>>,
    camera: CameraState<'a>,
    /// The processes that decode and encode pictures; null where camd does that itself.
    cells: Option<CellsState>,
    /// As they are configured, for the page to link to.
    neighbours: &'a [NeighbourConfig],
    #[serde(serialize_with = "sequence")]
    listeners: L,
    #[serde(serialize_with = "sequence")]
    profiles: P,
    #[serde(serialize_with = "sequence")]
    clients: C,
    #[serde(serialize_with = "sequence")]
    calls: K,
    #[serde(serialize_with = "sequence")]
    sinks: T,
}

/// Of all of them together.
#[derive(Serialize)]
struct CellsState {
    number: usize,
    /// As many are ready for a picture, or have one.
    ready: usize,
    /// Lost since the start, by the reason.
    lost: Losses,
}

/// Who asks.
#[derive(Serialize)]
struct You<'a> {
    /// The name of the user; null where nobody has to log in.
    user: Option<&'a str>,
    /// May change the camera's controls.
    sets_controls: bool,
    /// May update the box.
    updates: bool,
}

fn sequence<I, S>(items: &I, serializer: S) -> Result<S::Ok, S::Error>
where
    I: Iterator + Clone,
    I::Item: Serialize,
    S: Serializer,
{
    serializer.collect_seq(items.clone())
}

#[derive(Serialize)]
struct CameraState<'a> {
    state: Condition,
    /// Why there is no picture; empty otherwise.
    reason: &'a str,
    source: &'static str,
    /// What the source delivers; null while it is off.
    format: Option<&'static str>,
    /// What makes JPEGs of raw pictures: "cpu" or the name of a hardware encoder; null where the camera makes them, and
    /// before the first picture.
    encoder: Option<&'a str>,
    /// What makes the H.264 of `/stream.mp4`: "camera", where that gives it; null where there is none, and before the
    /// first picture.
    h264: Option<&'static str>,
    /// As viewers see it: turned.
    width: Option<u16>,
    height: Option<u16>,
    /// What is shown of the picture; null where all of it is.
    crop: Option<Crop>,
    fps_wanted: u16,
    fps: f32,
    frames: u64,
    dropped: u64,
    bad: u64,
    /// JPEGs that were not decoded: of too many pixels, or when they had taken too much time.
    refused: u64,
    reopens: u64,
    /// Since the newest picture came in.
    age_ms: Option<u64>,
}

/// As viewers see it; of JPEGs that are not encoded again there may be a few columns and lines more.
#[derive(Serialize)]
struct Crop {
    x: u16,
    y: u16,
    width: u16,
    height: u16,
    /// "camera" (its driver), "camd", or "camera and camd".
    by: &'static str,
}

impl Crop {
    fn of(cropping: Cropping) -> Self {
        let Cropping { area, by, .. } = cropping;
        Crop {
            x: area.x,
            y: area.y,
            width: area.width,
            height: area.height,
            by,
        }
    }
}

#[derive(Serialize)]
struct Listener<'a> {
    protocol: &'static str,
    bind: &'a str,
    /// SHA-256 of its certificate; null where nothing is encrypted.
    fingerprint: Option<&'a str>,
    /// Those that have a place.
    clients: usize,
    /// Those that have none, and have not asked for one yet, or are being told that there is none.
    standing: usize,
    limit: usize,
    /// Strangers can connect, and see the camera without a login.
    exposed: bool,
    limit_per_address: usize,
    adaptive: bool,
    frames: u64,
    refused: u64,
    /// Of these, those whose address had its share already.
    refused_per_address: u64,
    /// Connections that were not heard, because their address makes too many.
    reset: u64,
    /// Clients whose place another one got.
    gave_way: u64,
    violations: u64,
}

/// A quality, sampling and size in which pictures are encoded.
#[derive(Serialize)]
struct Profile<I: Iterator<Item = usize> + Clone> {
    quality: u8,
    /// How fine the colours are, as the configuration has it: "420" or "422". A hardware encoder may have its own way.
    chroma: &'static str,
    /// Of the newest picture; null before the first.
    width: Option<u16>,
    height: Option<u16>,
    /// Places in `listeners` above.
    #[serde(serialize_with = "sequence")]
    listeners: I,
    /// A client has asked for it, and no listener has it by itself.
    asked: bool,
    /// Made since the start or the last reload; if it is asked for, since then.
    pictures: u64,
    decode_ms: Option<Milliseconds>,
    scale_ms: Option<Milliseconds>,
    encode_ms: Option<Milliseconds>,
}

/// Of the last pictures ([`Times`]), to the microsecond.
#[derive(Serialize)]
struct Milliseconds {
    mean: f64,
    p99: f64,
}

impl Milliseconds {
    fn of(times: &Times, phase: Phase) -> Option<Self> {
        let ms = |time: Duration| time.as_micros() as f64 / 1000.0;
        times.summary(phase).map(|summary| Milliseconds {
            mean: ms(summary.mean),
            p99: ms(summary.p99),
        })
    }
}

#[derive(Serialize)]
struct Client<'a> {
    /// Slot and generation: tells two connections in one slot apart.
    id: (u16, u16),
    /// Null where it is not for the asker to know; so is `user`.
    peer: Option<&'a str>,
    /// The name with which it has logged in; call: its name among the users, once it has said that; else null.
    user: Option<&'a str>,
    /// call: those that it is in, or that ring. Where camd is a user of a relay: those who see its camera there.
    calls: usize,
    protocol: &'static str,
    /// Version of TLS, and who encrypts: "TLSv1.3 kernel" or "TLSv1.3 rustls"; null: nothing is encrypted.
    tls: Option<&'static str>,
    listener: &'a str,
    state: crate::protocol::State,
    /// It wants pictures, or has had one: no page that only asks how things are.
    viewer: bool,
    frames: u64,
    skipped: u64,
    fps: f32,
    /// Since the capture of the picture it got last or is getting.
    age_ms: Option<u64>,
    unsent_bytes: usize,
    /// 0: the listener's own picture; the higher, the smaller. Null where the listener is not adaptive, and for requests.
    rung: Option<u8>,
    /// Of the picture it got last or is getting; null before the first.
    width: Option<u16>,
    height: Option<u16>,
    /// JPEG quality of that one; null for the camera's own JPEG.
    quality: Option<u8>,
    /// Pictures per second at most; null: all there are.
    max_fps: Option<u16>,
}

/// A call between users of one listener, or with its camera.
#[derive(Serialize)]
struct Call {
    /// The client's `id`.
    caller: (u16, u16),
    /// The same of who was rung up; null for the camera.
    callee: Option<(u16, u16)>,
    /// Not answered yet.
    ringing: bool,
}

/// Where programs on the same board get pictures.
#[derive(Serialize)]
struct Sink<'a> {
    kind: &'static str,
    /// "shm:" and the key, or "memfd:" and the socket.
    place: &'a str,
    /// Why nobody can read it; empty if they can.
    reason: &'a str,
    /// Programs that have it attached now.
    readers: usize,
    /// Written since the start.
    frames: u64,
    /// Left out, as a reader had the lock or they were too large.
    skipped: u64,
    fps: f32,
    /// Since the capture of the picture in it.
    age_ms: Option<u64>,
}

fn ms(since: Option<Instant>, now: Instant) -> Option<u64> {
    since
        .map(|since| now.saturating_duration_since(since))
        .map(|age| age.as_millis() as u64)
}

/// `/state`: JSON.
pub fn state<S: Stream, C: Source>(
    view: &View<'_, S>,
    asker: &Asker,
    camera: &Camera<C>,
    now: Instant,
    page: &mut impl Write,
) -> io::Result<()> {
    let (settings, counters) = (camera.settings(), camera.counters());
    let configured = view.renditions.all().iter().map(|it| (false, it));
    let profiles = configured.chain(view.renditions.asked().map(|it| (true, it)));
    let mut buffer = Buffer::new();
    // Those that stand come and go, and strangers can bring about many of them: they are counted.
    let seated = view.table.clients().filter(|(_, slot)| !slot.refusal);
    let state = State {
        name: &settings.name,
        version: env!("CARGO_PKG_VERSION"),
        uptime_s: now.saturating_duration_since(view.started).as_secs(),
        you: You {
            user: asker.user.as_ref().map(|user| user.name.as_str()),
            sets_controls: asker.sets_controls,
            updates: asker.updates && view.updates,
        },
        config_errors: view.config_errors.shown(),
        board: view.board.and_then(|path| buffer.read(path)),
        cells: view
            .renditions
            .cells()
            .map(|(number, ready, lost)| CellsState {
                number,
                ready,
                lost,
            }),
        neighbours: view.neighbours,
        camera: CameraState {
            state: camera.condition(),
            reason: camera.reason(),
            source: settings.source.name(),
            format: camera.coding(),
            encoder: view.renditions.encoder(),
            h264: camera.gives_h264().then_some("camera"),
            width: camera.size().map(|size| size.width),
            height: camera.size().map(|size| size.height),
            crop: camera.cropping().map(Crop::of),
            fps_wanted: settings.fps,
            fps: camera.fps(now),
            frames: counters.frames,
            dropped: counters.dropped,
            bad: counters.bad + view.renditions.failed,
            refused: view.renditions.refused(),
            reopens: counters.reopens,
            age_ms: ms(camera.captured(), now),
        },
        listeners: view
            .table
            .listeners
            .iter()
            .enumerate()
            .map(|(index, listener)| Listener {
                protocol: listener.config.protocol.name(),
                bind: &listener.address,
                fingerprint: listener.fingerprint.as_deref(),
                clients: view.table.connected(index),
                standing: view.table.standing(index),
                limit: listener.config.clients,
                exposed: listener.is_exposed(),
                limit_per_address: listener.config.share(),
                adaptive: listener.config.adaptive,
                frames: view.table.frames_sent(index),
                refused: listener.refused,
                refused_per_address: listener.refused_share,
                reset: listener.too_fast,
                gave_way: listener.gave_way,
                violations: listener.violations,
            }),
        profiles: profiles.map(|(asked, rendition)| {
            let times = rendition.times();
            let listeners = view.table.listeners.iter().enumerate();
            Profile {
                quality: rendition.quality(),
                chroma: rendition.chroma().name(),
                width: rendition.size().map(|size| size.width),
                height: rendition.size().map(|size| size.height),
                listeners: listeners
                    .filter(|(_, listener)| listener.wants(rendition))
                    .map(|(index, _)| index),
                asked,
                pictures: times.pictures(),
                decode_ms: Milliseconds::of(times, Phase::Decode),
                scale_ms: Milliseconds::of(times, Phase::Scale),
                encode_ms: Milliseconds::of(times, Phase::Encode),
            }
        }),
        clients: seated.map(|(id, slot)| {
            let listener = &view.table.listeners[slot.listener];
            let is_shown = asker.is_trusted || asker.id == Some(id);
            Client {
                id: (id.index, id.generation),
                peer: Some(slot.peer.as_str()).filter(|_| is_shown),
                user: slot.user().map(Name::as_str).filter(|_| is_shown),
                calls: match slot.session() {
                    Some(Protocol::Call(call)) if call.partners().is_some() => {
                        call.partners().map_or(0, Partners::len)
                    }
                    _ => view.calls.switchboard().calls_of(id.index),
                },
                protocol: listener.config.protocol.name(),
                tls: slot.encryption(),
                listener: &listener.address,
                state: slot.state(),
                viewer: slot.is_viewer() || slot.subscription.stats.frames > 0,
                frames: slot.subscription.stats.frames,
                skipped: slot.subscription.stats.skipped,
                fps: slot.subscription.stats.rate.per_second(now),
                age_ms: ms(slot.subscription.stats.captured, now),
                unsent_bytes: slot.unsent(),
                rung: view.table.rung(slot),
                width: slot.subscription.stats.kind.map(|kind| kind.size().width),
                height: slot.subscription.stats.kind.map(|kind| kind.size().height),
                quality: slot.subscription.stats.kind.and_then(|kind| kind.quality),
                max_fps: slot.subscription.max_fps(),
            }
        }),
        calls: view.calls.switchboard().calls().iter().map(|call| {
            let id = |client| {
                let id = view.table.id(usize::from(client));
                (id.index, id.generation)
            };
            Call {
                caller: id(call.caller),
                callee: match call.callee {
                    Party::Client(client) => Some(id(client)),
                    Party::Camera => None,
                },
                ringing: call.ringing.is_some(),
            }
        }),
        sinks: view.sinks.entries().iter().map(|sink| Sink {
            kind: sink.config().kind.name(),
            place: sink.place(),
            reason: sink.reason(),
            readers: sink.readers(),
            frames: sink.frames(),
            skipped: sink.skipped(),
            fps: sink.fps(now),
            age_ms: ms(sink.captured(), now),
        }),
    };
    serde_json::to_writer(&mut *page, &state)?;
    page.write_all(b"\n")
}

/// Its URLs are relative to its own, so that it is right behind a proxy's path, too.
#[derive(Serialize)]
struct Manifest<'a> {
    name: &'a str,
    short_name: &'a str,
    start_url: &'static str,
    scope: &'static str,
    display: &'static str,
    background_color: &'static str,
    theme_color: &'static str,
    icons: [ManifestIcon; 1],
}

#[derive(Serialize)]
struct ManifestIcon {
    src: &'static str,
    sizes: &'static str,
    #[serde(rename = "type")]
    content_type: &'static str,
}

fn manifest(name: &str, page: &mut impl Write) -> io::Result<()> {
    let manifest = Manifest {
        name,
        short_name: name,
        start_url: ".",
        scope: ".",
        display: "standalone",
        background_color: "#16181d",
        theme_color: "#16181d",
        icons: [ManifestIcon {
            src: "icon.svg",
            sizes: "any",
            content_type: http::ICON,
        }],
    };
    serde_json::to_writer(&mut *page, &manifest)?;
    page.write_all(b"\n")
}

fn controls<C: Source>(camera: &Camera<C>, page: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *page, &camera.controls())?;
    page.write_all(b"\n")
}

/// Prometheus text format 0.0.4: names end in their unit, counters in `_total`.
fn metrics<S: Stream, C: Source>(
    view: &View<'_, S>,
    camera: &Camera<C>,
    now: Instant,
    page: &mut impl Write,
) -> io::Result<()> {
    let counters = camera.counters();
    let condition = camera.condition();
    let live = condition == Condition::Live;
    let name = "camd_build_info";
    describe(page, name, "gauge", "1; what runs here.")?;
    let version = env!("CARGO_PKG_VERSION");
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    writeln!(
        page,
        "{name}{{version=\"{version}\",arch=\"{arch}\",os=\"{os}\"}} 1"
    )?;
    let name = "camd_camera_info";
    describe(page, name, "gauge", "1; which camera this is.")?;
    let settings = camera.settings();
    let (camera_name, source) = (Label(&settings.name), settings.source.name());
    writeln!(
        page,
        "{name}{{name=\"{camera_name}\",source=\"{source}\"}} 1"
    )?;
    let uptime = now.saturating_duration_since(view.started);
    metric(
        page,
        "camd_uptime_seconds",
        "gauge",
        "Time since the start.",
        uptime.as_secs_f64(),
    )?;
    metric(
        page,
        "camd_config_errors",
        "gauge",
        "What is wrong with the configuration file, which is not in force then.",
        view.config_errors.count(),
    )?;
    let name = "camd_camera_state";
    let help = "1 for the state it is in. An idle camera is off because nobody watches, a fault is why it should give \
                pictures and does not.";
    describe(page, name, "gauge", help)?;
    for state in Condition::ALL {
        let (state_name, is_it) = (state.name(), u8::from(state == condition));
        writeln!(page, "{name}{{state=\"{state_name}\"}} {is_it}")?;
    }
    metric(
        page,
        "camd_camera_up",
        "gauge",
        "1 while pictures come. 0 also while nobody watches: see camd_camera_state.",
        u8::from(live),
    )?;
    metric(
        page,
        "camd_camera_fps_wanted",
        "gauge",
        "Pictures per second that the configuration asks for.",
        settings.fps,
    )?;
    metric(
        page,
        "camd_camera_fps",
        "gauge",
        "Pictures per second, lately.",
        camera.fps(now),
    )?;
    metric(
        page,
        "camd_camera_frames_total",
        "counter",
        "Pictures taken in.",
        counters.frames,
    )?;
    let dropped = "Good pictures replaced by a newer one, or lost by the driver.";
    metric(
        page,
        "camd_camera_dropped_total",
        "counter",
        dropped,
        counters.dropped,
    )?;
    let bad = counters.bad + view.renditions.failed;
    metric(
        page,
        "camd_camera_bad_total",
        "counter",
        "Damaged or oversized pictures.",
        bad,
    )?;
    metric(
        page,
        "camd_camera_refused_total",
        "counter",
        "JPEGs not decoded: too many pixels, or too much time.",
        view.renditions.refused(),
    )?;
    metric(
        page,
        "camd_camera_reopens_total",
        "counter",
        "Openings after a fault.",
        counters.reopens,
    )?;
    if let Some((number, ready, Losses { died, hung, lied })) = view.renditions.cells() {
        metric(
            page,
            "camd_cells",
            "gauge",
            "Processes that decode and encode pictures.",
            number,
        )?;
        let help = "Those of them that are ready for a picture, or have one.";
        metric(page, "camd_cells_ready", "gauge", help, ready)?;
        let name = "camd_cells_lost_total";
        let help = "Those that were lost and replaced, each with the picture that it had.";
        describe(page, name, "counter", help)?;
        for (reason, count) in [("died", died), ("hung", hung), ("lied", lied)] {
            writeln!(page, "{name}{{reason=\"{reason}\"}} {count}")?;
        }
    }
    let age = camera
        .captured()
        .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
    metric(
        page,
        "camd_camera_age_seconds",
        "gauge",
        "Since the newest picture came in.",
        age.as_secs_f64(),
    )?;

    let calls = view.calls.switchboard().calls().len();
    metric(
        page,
        "camd_calls",
        "gauge",
        "Calls, those that ring among them.",
        calls,
    )?;

    type Value<S> = fn(&View<'_, S>, usize) -> u64;
    let per_listener: [(&str, &str, &str, Value<S>); 11] = [
        (
            "camd_clients",
            "gauge",
            "Connections that have a place.",
            |view, index| view.table.connected(index) as u64,
        ),
        (
            "camd_clients_standing",
            "gauge",
            "Connections that have none, and have not asked for one yet or are told that there is none.",
            |view, index| view.table.standing(index) as u64,
        ),
        (
            "camd_frames_sent_total",
            "counter",
            "Pictures sent whole.",
            |view, index| view.table.frames_sent(index),
        ),
        (
            "camd_frames_skipped_total",
            "counter",
            "Pictures of the camera between those that clients took: their links or their max_fps are slower.",
            |view, index| view.table.frames_skipped(index),
        ),
        (
            "camd_bytes_sent_total",
            "counter",
            "Bytes sent to clients, with all framing above TCP.",
            |view, index| view.table.bytes_sent(index),
        ),
        (
            "camd_clients_limit",
            "gauge",
            "Connections at most.",
            |view, index| view.table.listeners[index].config.clients as u64,
        ),
        (
            "camd_refused_total",
            "counter",
            "Connections that found no slot.",
            |view, index| view.table.listeners[index].refused,
        ),
        (
            "camd_refused_per_address_total",
            "counter",
            "Of these, those whose address had its share already.",
            |view, index| view.table.listeners[index].refused_share,
        ),
        (
            "camd_reset_total",
            "counter",
            "Connections that were not heard, because their address makes too many.",
            |view, index| view.table.listeners[index].too_fast,
        ),
        (
            "camd_gave_way_total",
            "counter",
            "Clients whose place another one got.",
            |view, index| view.table.listeners[index].gave_way,
        ),
        (
            "camd_violations_total",
            "counter",
            "Connections that broke the protocol.",
            |view, index| view.table.listeners[index].violations,
        ),
    ];
    for (name, kind, help, value) in per_listener {
        describe(page, name, kind, help)?;
        for (index, listener) in view.table.listeners.iter().enumerate() {
            let (protocol, bind) = (listener.config.protocol.name(), Label(&listener.address));
            writeln!(
                page,
                "{name}{{protocol=\"{protocol}\",listener=\"{bind}\"}} {}",
                value(view, index)
            )?;
        }
    }
    type SinkValue = fn(&Entry) -> u64;
    let per_sink: [(&str, &str, &str, SinkValue); 3] = [
        (
            "camd_sink_frames_total",
            "counter",
            "Pictures written.",
            Entry::frames,
        ),
        (
            "camd_sink_skipped_total",
            "counter",
            "Pictures left out: a reader had the lock, or too large.",
            Entry::skipped,
        ),
        (
            "camd_sink_readers",
            "gauge",
            "Programs that have it attached.",
            |sink| sink.readers() as u64,
        ),
    ];
    for (name, kind, help, value) in per_sink {
        describe(page, name, kind, help)?;
        for sink in view.sinks.entries() {
            let (kind, place) = (sink.config().kind.name(), Label(sink.place()));
            let value = value(sink);
            writeln!(page, "{name}{{kind=\"{kind}\",place=\"{place}\"}} {value}")?;
        }
    }
    // What clients ask for changes, and is counted together.
    let (asked, asked_spent) = view.renditions.asked_total();
    let profiles = || {
        let renditions = view.renditions.all().iter().enumerate();
        renditions.map(|(index, rendition)| (index, rendition.quality(), rendition.times()))
    };
    let name = "camd_pictures_total";
    describe(page, name, "counter", "Pictures encoded.")?;
    for (index, quality, times) in profiles() {
        let count = times.pictures();
        writeln!(
            page,
            "{name}{{profile=\"{index}\",quality=\"{quality}\"}} {count}"
        )?;
    }
    writeln!(page, "{name}{{profile=\"asked\",quality=\"\"}} {asked}")?;
    for (phase, name, help) in [
        (
            Phase::Decode,
            "camd_decode_seconds_total",
            "Time taken to decode JPEGs for them.",
        ),
        (
            Phase::Scale,
            "camd_scale_seconds_total",
            "Time taken to unpack and scale them.",
        ),
        (
            Phase::Encode,
            "camd_encode_seconds_total",
            "Time taken to encode them.",
        ),
    ] {
        describe(page, name, "counter", help)?;
        for (index, quality, times) in profiles() {
            let seconds = times.total(phase).as_secs_f64();
            writeln!(
                page,
                "{name}{{profile=\"{index}\",quality=\"{quality}\"}} {seconds}"
            )?;
        }
        let seconds = asked_spent[phase as usize].as_secs_f64();
        writeln!(page, "{name}{{profile=\"asked\",quality=\"\"}} {seconds}")?;
    }
    Ok(())
}

fn describe(page: &mut impl Write, name: &str, kind: &str, help: &str) -> io::Result<()> {
    writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}")
}

fn metric(
    page: &mut impl Write,
    name: &str,
    kind: &str,
    help: &str,
    value: impl std::fmt::Display,
) -> io::Result<()> {
    describe(page, name, kind, help)?;
    writeln!(page, "{name} {value}")
}

/// A label's value with the format's escapes; the path of a Unix socket can hold anything.
struct Label<'a>(&'a str);

impl std::fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use std::fmt::Write;
        for c in self.0.chars() {
            match c {
                '\\' | '"' => write!(f, "\\{c}")?,
                '\n' => f.write_str("\\n")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{
        ASKED_RENDITIONS, CALLS_PLACED, MAX_CLIENTS, MAX_LISTENERS, MAX_SINKS, PAGE, PLACES,
        REFUSAL_SLOTS, RUNGS, SINK_READERS_MAX,
    };
    use crate::protocol;

    #[test]
    fn the_fullest_state_fits_its_page() {
        // The longest path of a Unix socket, where nothing is encrypted, or the longest address with all that TLS has to say.
        let bind = format!("unix:{}", "p".repeat(107));
        let address = format!("[{}%4294967295]:65535", "ffff:".repeat(8));
        let fingerprint = "AB:".repeat(32);
        check_fullest_state(&bind, None, None);
        check_fullest_state(&address, Some(&fingerprint), Some("TLSv1.3 kernel"));
    }

    fn check_fullest_state(bind: &str, fingerprint: Option<&str>, tls: Option<&'static str>) {
        // The longest peer.
        let peer = "6".repeat(64);
        let name = "\u{10ffff}".repeat(crate::limits::CAMERA_NAME);
        let user = "\u{ffff}".repeat(crate::limits::USER_NAME);
        let reason = "r".repeat(1000);
        // JSON escapes each of them.
        let errors =
            vec!["\"".repeat(crate::limits::CONFIG_ERROR); crate::limits::CONFIG_ERRORS + 1];
        let neighbours = vec![
            NeighbourConfig {
                name: "\u{10ffff}".repeat(crate::limits::NEIGHBOUR_NAME),
                url: format!("/{}", "u".repeat(crate::limits::NEIGHBOUR_URL - 1)),
            };
            crate::limits::MAX_NEIGHBOURS
        ];
        // Of each byte JSON makes two.
        let board = Board::fullest();
        let longest = || {
            Some(Milliseconds {
                mean: f64::from(u32::MAX) / 1000.0,
                p99: f64::from(u32::MAX) / 1000.0,
            })
        };
        let state = State {
            name: &name,
            version: env!("CARGO_PKG_VERSION"),
            uptime_s: u64::MAX,
            you: You {
                user: Some(&user),
                sets_controls: false,
                updates: false,
            },
            config_errors: &errors,
            board: Some(board),
            cells: Some(CellsState {
                number: usize::MAX,
                ready: usize::MAX,
                lost: Losses {
                    died: u64::MAX,
                    hung: u64::MAX,
                    lied: u64::MAX,
                },
            }),
            neighbours: &neighbours,
            camera: CameraState {
                state: Condition::Starting,
                reason: &reason,
                source: "pattern",
                format: Some("mjpeg"),
                // As long as V4L2 lets a card's name be.
                encoder: Some("a memory-to-memory JPEG encoder"),
                h264: Some("camera"),
                width: Some(u16::MAX),
                height: Some(u16::MAX),
                crop: Some(Crop {
                    x: 8192,
                    y: 8192,
                    width: 8192,
                    height: 8192,
                    by: "camera and camd",
                }),
                fps_wanted: u16::MAX,
                fps: 239.99,
                frames: u64::MAX,
                dropped: u64::MAX,
                bad: u64::MAX,
                refused: u64::MAX,
                reopens: u64::MAX,
                age_ms: Some(u64::MAX),
            },
            listeners: (0..MAX_LISTENERS).map(|_| Listener {
                protocol: "push",
                bind,
                fingerprint,
                clients: PLACES,
                standing: REFUSAL_SLOTS,
                limit: MAX_CLIENTS,
                exposed: false,
                limit_per_address: MAX_CLIENTS,
                adaptive: false,
                frames: u64::MAX,
                refused: u64::MAX,
                refused_per_address: u64::MAX,
                reset: u64::MAX,
                gave_way: u64::MAX,
                violations: u64::MAX,
            }),
            profiles: (0..RUNGS * MAX_LISTENERS + MAX_SINKS + ASKED_RENDITIONS).map(|_| Profile {
                quality: 100,
                chroma: "422",
                width: Some(8192),
                height: Some(8192),
                listeners: 15..16,
                asked: false,
                pictures: u64::MAX,
                decode_ms: longest(),
                scale_ms: longest(),
                encode_ms: longest(),
            }),
            clients: (0..PLACES).map(|index| Client {
                id: (index as u16, u16::MAX),
                peer: Some(&peer),
                user: Some(&user),
                calls: MAX_CLIENTS,
                protocol: "push",
                tls,
                listener: bind,
                state: protocol::State::Sending,
                viewer: false,
                frames: u64::MAX,
                skipped: u64::MAX,
                fps: 239.99,
                age_ms: Some(u64::MAX),
                unsent_bytes: u32::MAX as usize,
                rung: Some(6),
                width: Some(8192),
                height: Some(8192),
                quality: Some(100),
                max_fps: Some(240),
            }),
            calls: (0..MAX_CLIENTS * CALLS_PLACED).map(|_| Call {
                caller: (u16::MAX, u16::MAX),
                callee: Some((u16::MAX, u16::MAX)),
                ringing: false,
            }),
            sinks: (0..MAX_SINKS).map(|_| Sink {
                kind: "qt-shm",
                place: bind,
                reason: &reason,
                readers: SINK_READERS_MAX,
                frames: u64::MAX,
                skipped: u64::MAX,
                fps: 239.99,
                age_ms: Some(u64::MAX),
            }),
        };
        let json = serde_json::to_vec(&state).unwrap();
        println!("{} bytes", json.len());
        assert!(json.len() < PAGE, "{} bytes", json.len());
    }
}

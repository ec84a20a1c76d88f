"use strict";
// Plays /stream.mp4, H.264, at its live edge, by Media Source Extensions. The page loads this where the camera has H.264,
// and asks `film` what to show; what it offers here are its own names (`ask`, `check`, `update`, ...).
//
// There is one <video> and one MediaSource for all films, one after the other: each goes on where the last one ended, so
// that what was seen last stays in sight (in its own window, too) until there is something newer. In the player's time there is no
// gap, whatever the camera's was: behind one a browser would wait for a key picture.
film = (() => {
// In s. EDGE: at least so much of what has come is to be unseen when more comes; what is beyond is played faster. JUMP: beyond
// that it is passed over. KEPT: what was seen is forgotten after this time, from one key picture to the next. BEHIND: so far
// may the player's time be behind the last picture.
const EDGE = 0.03, JUMP = 1.5, KEPT = 5, BEHIND = 0.25;
// In ms. The least that was unseen is that of the last WINDOW to twice that. LATE: what comes so much later than it could have
// come, and for so long, has waited on the way: a new film begins at the edge. KEY: until a first key picture; x264 makes one
// in 10 s unless it is told otherwise. AGAIN: after something has gone wrong, MJPEG is shown for so long; twice that the next time.
const WINDOW = 1500, LATE = 1000, KEY = 12000, AGAIN = 60000, AGAIN_MOST = 960000;
// ManagedMediaSource is an iPhone's. Safari elsewhere has both.
const Source = window.MediaSource || window.ManagedMediaSource;
const UNABLE = "this browser cannot play H.264";

// "h264" or "mjpeg". What the address says goes for this page; what was clicked, for all to come.
let choice = new URLSearchParams(location.search).get("format");
try { if (!/^(h264|mjpeg)$/.test(choice)) choice = localStorage.getItem("camd-format"); } catch (error) { /* nothing is kept */ }
if (choice !== "mjpeg") choice = "h264";
const keep = (key, value) => { try { localStorage.setItem(key, value); } catch (error) { /* nor is this */ } };

const able = Source && Source.isTypeSupported('video/mp4; codecs="avc1.42E01E"');
let run = 0;               // the page's number of what runs
let off = null;            // why it is not played though it was chosen, and until when
let again = AGAIN, faults = 0, faultAt = 0;
let video = null, media = null, buffer = null, kind = "";
let begins = 0, until = 0; // where the last picture begins, and ends, in the player's time
let keys = [];             // where the key pictures begin that are held
let frames = 0, framesAt = 0; // that were decoded, and when there was the last new one
let asked = 0, answered = false;
let lates = [];            // when films had waited on the way
let low = [Infinity, Infinity], lowAt = 0; // the least that was unseen, lately

// --- What is shown, and why ---

// Something has gone wrong. `pause`: how long MJPEG is shown, unless the camera starts anew before.
function give(why, pause = again) {
  if (pause === again) again = Math.min(2 * again, AGAIN_MOST);
  off = { why, until: now() + pause, camera: state.camera.state, reopens: state.camera.reopens, uptime: state.uptime_s, h264: state.camera.h264 };
  faults = 0;
  update();
}
function mode() {
  // Until the first look at the state it is not known.
  if (!state) return "";
  const { camera } = state;
  if (off) {
    const isNew = camera.reopens !== off.reopens || state.uptime_s < off.uptime || (camera.state === "live" && off.camera !== "live") || camera.h264 !== off.h264;
    off.camera = camera.state;
    off.uptime = state.uptime_s;
    if (isNew) again = AGAIN;
    if (isNew || now() > off.until) off = null;
  }
  return able && choice === "h264" && camera.h264 && !off ? "film" : "stream";
}
const button = make("button", { type: "button", id: "format", onclick: () => {
  choice = choice === "mjpeg" || off ? "h264" : "mjpeg";
  off = null;
  again = AGAIN;
  keep("camd-format", choice);
  update();
} });
const told = make("span", { id: "shown" });
told.setAttribute("role", "status");
// A window of its own over all others, where the browser has that.
const apart = make("button", { type: "button", id: "apart", hidden: true, onclick: async () => {
  try {
    if (document.pictureInPictureElement) await document.exitPictureInPicture();
    else await video.requestPictureInPicture();
  } catch (error) { /* it says so itself */ }
} });
at("full").after(apart, button, told);
const isShown = () => video !== null && video.isConnected;
// As all else that the page says of how things stand.
function look() {
  const is = running === "film", has = state && state.camera.h264, why = able ? off && off.why : UNABLE;
  told.hidden = !has;
  button.hidden = !has || !able;
  at("wishes").hidden = is;
  put(button, choice === "mjpeg" || off ? "Show H.264" : "Show MJPEG");
  lates = lates.filter(at => now() - at < 30000);
  put(told, is ? "H.264" + (lates.length > 2 ? ": this connection is too slow for all of it" : "") : !running ? told.textContent : "MJPEG" + (why ? `: ${why}` : running.startsWith("snapshots") ? ", one picture after the other" : ""));
  apart.hidden = !isShown() || !document.pictureInPictureEnabled;
  put(apart, document.pictureInPictureElement ? "Leave picture in picture" : "Picture in picture");
  if (video) video.ariaLabel = picture.alt;
  // Next time this is loaded at once.
  if (state) keep("camd-h264", has ? "yes" : "");
  if (!is) return;
  sight();
  // Without the camera, or without camd, there is nothing to wait for.
  if (lostAt || state.camera.state !== "live" || state.camera.age_ms > OLD || refused) asked = now();
  if (now() - Math.max(asked, framesAt) > (answered ? SILENT : KEY)) give(answered ? "no picture came of H.264" : "no key picture came");
}
// Whether there is another picture in sight.
function sight() {
  if (!video || !buffer) return;
  const { totalVideoFrames } = video.getVideoPlaybackQuality();
  if (totalVideoFrames === frames) return;
  frames = totalVideoFrames;
  gotAt = framesAt = now();
  refused = "";
  newest = true;
  if (!isShown() && video.readyState >= 2) {
    Object.assign(video, { id: "picture", className: "" });
    at("picture").replaceWith(video);
    look();
  }
}
// MJPEG has a picture to show in its place.
function end() {
  at("picture").replaceWith(picture);
  close();
}
// What is seen: as a still picture, and as a JPEG.
function still() {
  const canvas = make("canvas", { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  return canvas;
}
const grab = () => new Promise(done => (isShown() ? still() : at("picture")).toBlob(done, "image/jpeg", 0.92));

// --- The player ---

function close() {
  if (!video) return;
  const old = video;
  video = media = buffer = null;
  old.onerror = null;
  URL.revokeObjectURL(old.src);
  old.removeAttribute("src");
  old.load();
}
const event = (target, name) => new Promise(done => target.addEventListener(name, done, { once: true }));
// Where films of this type go, which goes on where the last film ended if it can.
async function open(type) {
  if (buffer && media.readyState === "open" && !video.error && (type === kind || buffer.changeType)) {
    if (buffer.updating) await event(buffer, "updateend");
    buffer.abort();
    if (type !== kind) buffer.changeType(type);
  } else {
    const fresh = make("video", { muted: true, playsInline: true, disableRemotePlayback: true });
    // What Safari goes by.
    fresh.setAttribute("muted", "");
    const source = new Source();
    fresh.src = URL.createObjectURL(source);
    // The last picture in sight stays there.
    if (isShown()) video.replaceWith(Object.assign(still(), { id: "picture" }));
    close();
    [video, media, frames, until, keys] = [fresh, source, 0, 0, []];
    fresh.addEventListener("leavepictureinpicture", turn);
    fresh.addEventListener("enterpictureinpicture", look);
    const opened = event(source, "sourceopen");
    if (source.readyState !== "open") await opened;
    buffer = source.addSourceBuffer(type);
    buffer.mode = "segments";
  }
  kind = type;
  low = [Infinity, Infinity];
  // Not waited for: it is granted with the first picture.
  video.play().catch(error => { if (error.name === "NotAllowedError") give("this browser plays nothing by itself", Infinity); });
}
// One at a time: what comes meanwhile waits on its way, where camd sees that it does.
async function change(signal, how) {
  const mine = buffer;
  const check = () => {
    signal.throwIfAborted();
    if (video.error || media.readyState !== "open") throw Object.assign(new Error(video.error ? video.error.message : "it was not taken"), { isFault: true });
  };
  check();
  const done = event(mine, "updateend");
  how(mine);
  await done;
  check();
}
// A picture has come that is due at this time. Played slower than they come, they would be shown later and later.
function steer(due) {
  if (!frames || video.seeking) return;
  if (now() - lowAt > WINDOW) [low, lowAt] = [[Infinity, low[0]], now()];
  low[0] = Math.min(low[0], due - video.currentTime);
  const spare = Math.min(...low) - EDGE;
  if (spare > JUMP) {
    low = [Infinity, Infinity];
    video.currentTime = begins;
    return;
  }
  const rate = Math.min(Math.max(1 + Math.round(20 * spare) / 20, 0.9), 1.5);
  if (video.playbackRate !== rate) video.playbackRate = rate;
}
// Up to a key picture: all that lean on what is removed go with it.
async function forget(signal) {
  const last = keys.findLastIndex(at => at < video.currentTime - KEPT);
  if (last < 1) return;
  const end = keys[last] - 0.001;
  keys = keys.slice(last);
  await change(signal, it => it.remove(0, end));
}
// The first box of this name among those from one place to another: its content's place.
function find(view, from, to, name) {
  for (let place = from; place + 8 <= to; place += Math.max(view.getUint32(place), 8)) {
    if (view.getUint32(place + 4) === name) return place + 8;
  }
  throw new Error("this is no film");
}
const NAME = text => [...text].reduce((name, it) => name << 8 | it.charCodeAt(0), 0) >>> 0;
const MOOF = NAME("moof"), MDAT = NAME("mdat"), TRAF = NAME("traf"), TFDT = NAME("tfdt"), TRUN = NAME("trun");
// What a moof tells of its picture, as http.md has it: times are in 1/90000 s.
function read(view, from, to) {
  const traf = find(view, from + 8, to, TRAF), tfdt = find(view, traf, to, TFDT), trun = find(view, traf, to, TRUN);
  return { time: (view.getUint32(tfdt + 4) * 2 ** 32 + view.getUint32(tfdt + 8)) / 90000, lasts: view.getUint32(trun + 12) / 90000,
    isKey: !(view.getUint32(trun + 20) & 0x10000) };
}
// One film, up to its end. "late": it has waited on the way.
async function one(signal) {
  answered = false;
  if (framesAt > asked) asked = now();
  const own = new AbortController(), stop = () => own.abort();
  signal.addEventListener("abort", stop);
  try {
    const reply = await check(await ask("stream.mp4", { cache: "no-store", signal: own.signal }));
    const type = reply.headers.get("Content-Type") || "";
    if (!Source.isTypeSupported(type)) { give(`${UNABLE} of this kind (${type.replace(/.*codecs=/, "").replaceAll('"', "")})`, Infinity); return ""; }
    await open(type);
    signal.throwIfAborted();
    answered = true;
    const reader = reply.body.getReader();
    let rest = new Uint8Array(0), moof = null, back = null, shift = null, least = Infinity, leastAt = now(), lateAt = null;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return "over";
      heard = now();
      const joined = new Uint8Array(rest.length + value.length);
      joined.set(rest);
      joined.set(value, rest.length);
      const view = new DataView(joined.buffer);
      let from = 0, next = 0;
      // Whole fragments go to the player, and what stands in front of the first.
      while (next + 8 <= joined.length) {
        const size = view.getUint32(next), name = view.getUint32(next + 4);
        if (size < 8 || size > 1 << 26) throw new Error("this is no film");
        if (next + size > joined.length) break;
        if (name === MOOF) moof = read(view, next, next + size);
        next += size;
        if (name !== MDAT) continue;
        if (!moof) throw new Error("this is no film");
        const { time, lasts, isKey } = moof, came = now();
        if (shift === null || time + shift - until > lasts / 2) {
          // The player has its own time, without gaps. What it has not played yet of another film comes first.
          if (!buffer.buffered.length) until = video.currentTime;
          // A busy Chromium's time goes on for a while behind the last picture.
          else if (shift === null && video.currentTime > until + BEHIND) back = until;
          shift = until - time;
          buffer.timestampOffset = shift;
        }
        steer(time + shift);
        const part = joined.subarray(from, next);
        [begins, until, from] = [time + shift, time + shift + lasts, next];
        if (isKey) keys.push(begins);
        await change(signal, it => it.appendBuffer(part));
        if (back !== null) [video.currentTime, back] = [back, null];
        sight();
        await forget(signal);
        // Clocks run differently fast: what was the least is so no more after a while.
        const delay = came - 1000 * time;
        least = Math.min(delay, least + (came - leastAt) / 1000);
        leastAt = came;
        if (delay - least < LATE) lateAt = null; else if (lateAt === null) lateAt = came; else if (came - lateAt > LATE) { lates.push(came); return "late"; }
      }
      rest = joined.subarray(from);
    }
  } finally {
    own.abort();
    signal.removeEventListener("abort", stop);
  }
}
// As the page's other ways to get pictures: what is thrown is for the page to tell, and to try again after.
async function play(signal) {
  if (run !== runs) [run, asked] = [runs, now()];
  signal.addEventListener("abort", () => { if (video) video.pause(); });
  for (;;) {
    const began = now();
    try {
      if (!await one(signal)) return;
    } catch (error) {
      if (signal.aborted) throw error;
      if (error.isFault) {
        faults = now() - faultAt < 30000 ? faults + 1 : 1;
        faultAt = now();
        if (faults > 1) { give(`H.264 could not be decoded (${error.message})`); return; }
      } else if (error.name === "QuotaExceededError") media = null;
      else if (!error.status || error.status === 401 || error.status === 403 || /slots are taken/.test(error.message) || state.camera.state !== "live") throw error;
      else { give(error.message); return; }
    }
    await sleep(now() - began > 2000 ? 50 : 1000);
    signal.throwIfAborted();
  }
}

document.addEventListener("fullscreenchange", look);
return { mode, look, play, end, grab };
})();
update();

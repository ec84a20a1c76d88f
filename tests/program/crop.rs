//! `camera.crop`, through the real program.

use std::path::Path;

use crate::common::memfd::{Reader, sink};
use crate::common::qt::{Place, wait};
use crate::common::user::{CALLS, User};
use crate::common::{Camd, Folder, LISTENERS, Stream, connect, pattern, push_next};
use camd::encode::codec::{Codec, Recipe};
use camd::picture::frame::{
    Area, FrameBuf, Orientation, Picture, PixelFormat, Plane, RawPicture, Size,
};
use camd::picture::jpeg;
use camd::system::ring::flags;
use nix::sys::signal::Signal;

/// In 4:2:0, with something to see everywhere.
fn picture(width: u16, height: u16) -> Vec<u8> {
    let (w, h) = (usize::from(width), usize::from(height));
    let plane = |w: usize, h: usize, step: usize| -> Vec<u8> {
        (0..w * h)
            .map(|i| (i % w * step / 2 + i / w * step) as u8)
            .collect()
    };
    let data = [
        plane(w, h, 3),
        plane(w / 2, h / 2, 2),
        plane(w / 2, h / 2, 5),
    ];
    let stride = [w, w / 2, w / 2];
    let raw = RawPicture {
        format: PixelFormat::Yu12,
        width,
        height,
        planes: [0, 1, 2].map(|i| Plane {
            data: &data[i],
            stride: stride[i],
        }),
    };
    let mut out = FrameBuf::new(1 << 20);
    Codec::new().encode(&raw, 85, &mut out).expect("a JPEG");
    out.as_slice().to_vec()
}

fn replay(folder: &Path, keys: &str) -> String {
    format!("[camera]\nsource = \"replay\"\npath = {folder:?}\nfps = 20\nlinger_s = 0\n{keys}\n")
}

fn listener(keys: &str) -> String {
    format!("[[listener]]\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\n{keys}\n")
}

fn size(jpeg: &[u8]) -> (u16, u16) {
    let found = jpeg::inspect(jpeg).expect("a JPEG");
    assert_eq!(found.range(), 0..jpeg.len());
    (found.width, found.height)
}

fn area(x: u16, y: u16, width: u16, height: u16) -> Area {
    Area {
        x,
        y,
        width,
        height,
    }
}

fn crop(camd: &Camd) -> serde_json::Value {
    let state = camd.wait_state("live", |state| state["camera"]["state"] == "live");
    let camera = &state["camera"];
    let crop = &camera["crop"];
    if !crop.is_null() {
        assert_eq!(crop["width"], camera["width"]);
        assert_eq!(crop["height"], camera["height"]);
    }
    crop.clone()
}

#[test]
fn a_jpeg_is_cropped_in_whole_blocks_or_exactly_where_it_is_encoded() {
    let folder = Folder::new();
    let whole = picture(160, 120);
    folder.file("1.jpg", &whole);
    let mut codec = Codec::new();
    let mut out = FrameBuf::new(1 << 20);
    for (rotate, flip) in [
        (0, "none"),
        (90, "none"),
        (180, "none"),
        (270, "vertical"),
        (0, "horizontal"),
    ] {
        let orientation = Orientation::quarters((rotate / 90) as u8)
            .mirrored(flip == "horizontal", flip == "vertical");
        let stored = Size {
            width: 160,
            height: 120,
        };
        let shown = area(38, 27, 70, 51);
        let part = orientation
            .inverse()
            .turn_area(shown, orientation.turn(stored));
        let keys = format!("crop = [38, 27, 70, 51]\nrotate = {rotate}\nflip = \"{flip}\"");
        // Without loss.
        let mut camd = Camd::start(&(replay(folder.path(), &keys) + LISTENERS));
        let snapshot = camd.get("/snapshot").body;
        let cut = codec.cut(&whole, orientation, part, &mut out);
        match cut {
            Ok(_) => jpeg::keep_words(&whole, orientation, &mut out),
            Err(_) => {
                let recipe = Recipe::at(80).cropped(part).turned(orientation);
                let made = codec.make(&Picture::Jpeg(&whole), &recipe, &mut out);
                made.expect("a picture");
                jpeg::keep_words(&whole, orientation, &mut out);
            }
        }
        assert!(snapshot == out.as_slice(), "{keys}: {:?}", size(&snapshot));
        let state = crop(&camd);
        assert_eq!(
            state,
            serde_json::json!({"x": 38, "y": 27, "width": 70, "height": 51, "by": "camd"})
        );
        let wanted = match (orientation.transpose, cut.is_ok()) {
            (false, true) => "cropped by camd: 38,27 70x51 of 160x120",
            (true, true) => "cropped by camd: 38,27 70x51 of 120x160",
            (_, false) => "pictures are cropped by encoding them again",
        };
        camd.wait_log(wanted, |log| log.contains(wanted));
        if keys.contains("rotate = 0\nflip = \"none\"") {
            let blocks = "cropped by camd to whole blocks: 32,16 76x62 in place of 38,27 70x51";
            camd.wait_log(blocks, |log| log.contains(blocks));
            assert_eq!(size(&snapshot), (76, 62));
            // The state has what a client really gets.
            let _stream = Stream::open(camd.http(), "/stream");
            let got = |client: &serde_json::Value| client["width"] == 76 && client["height"] == 62;
            camd.wait_state("76x62", |state| {
                state["clients"]
                    .as_array()
                    .expect("clients")
                    .iter()
                    .any(got)
            });
        }
        // What the listener's size has no room for in whole blocks, and what has a quality, is exact.
        for (of_listener, quality) in [("quality = 60", 60), ("width = 70\nheight = 60", 80)] {
            let camd = Camd::start(&(replay(folder.path(), &keys) + &listener(of_listener)));
            let snapshot = camd.get("/snapshot").body;
            assert_eq!(size(&snapshot), (70, 51), "{keys} {of_listener}");
            let recipe = Recipe::at(quality).cropped(part).turned(orientation);
            let made = codec.make(&Picture::Jpeg(&whole), &recipe, &mut out);
            made.expect("a picture");
            jpeg::keep_words(&whole, orientation, &mut out);
            assert!(snapshot == out.as_slice(), "{keys} {of_listener}");
        }
    }
}

#[test]
fn a_crop_beyond_the_picture_is_the_nearest_one_and_the_log_says_so_once() {
    let folder = Folder::new();
    folder.file("1.jpg", picture(160, 120));
    let keys = "crop = [150, 112, 64, 48]";
    let mut camd = Camd::start(&(replay(folder.path(), keys) + LISTENERS));
    assert_eq!(size(&camd.get("/snapshot").body), (64, 56), "from 96,64");
    assert_eq!(
        crop(&camd),
        serde_json::json!({"x": 96, "y": 72, "width": 64, "height": 48, "by": "camd"})
    );
    camd.get("/snapshot");
    let warning = "camera.crop [150, 112, 64, 48] is not within the picture, which is 160x120 as viewers see it: [96, 72, 64, 48] is the nearest";
    camd.wait_log(warning, |log| log.contains(warning));
    assert_eq!(camd.log().matches("is not within").count(), 1);
    // All of it, and more.
    let keys = "crop = [0, 0, 4000, 4000]";
    let camd = Camd::start(&(replay(folder.path(), keys) + LISTENERS));
    assert!(camd.get("/snapshot").body == picture(160, 120), "untouched");
    assert!(crop(&camd).is_null());
}

#[test]
fn raw_pictures_are_cropped_and_stamped_and_the_card_has_their_size() {
    // 64x48, in YUYV or the like.
    let config = pattern().replace(
        "[camera]",
        "[camera]\ncrop = [7, 6, 48, 33]\ntimestamp = true",
    );
    let camd = Camd::start(&config);
    assert_eq!(size(&camd.get("/snapshot").body), (48, 33));
    let mut push = connect(camd.push());
    assert_eq!(size(&push_next(&mut push)), (48, 33));
    let state = crop(&camd);
    assert_eq!(
        (&state["width"], &state["height"], &state["y"]),
        (&48.into(), &33.into(), &6.into())
    );
    assert!(state["x"] == 6 || state["x"] == 7, "{state}");
    // The camera that is not there.
    let config = "[camera]\ndevice = \"/dev/nothing-here\"\ncrop = [100, 50, 320, 200]\n";
    let camd = Camd::start(&(config.to_owned() + LISTENERS));
    let mut push = connect(camd.push());
    assert_eq!(size(&push_next(&mut push)), (320, 200));
}

#[test]
fn an_exif_orientation_is_obeyed_before_the_crop() {
    const RIGHT_SIDE_UP: &[u8] =
        b"\xFF\xE1\0\x22Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    let folder = Folder::new();
    let plain = picture(160, 128);
    let turned = [&plain[..2], RIGHT_SIDE_UP, &plain[2..]].concat();
    folder.file("1.jpg", &turned);
    let quarter = Orientation::quarters(1);
    let stored = Size {
        width: 160,
        height: 128,
    };
    // As viewers see it: 128x160.
    let shown = area(16, 96, 100, 60);
    let part = quarter.inverse().turn_area(shown, quarter.turn(stored));
    let mut out = FrameBuf::new(1 << 20);
    let cut = Codec::new().cut(&plain, quarter, part, &mut out);
    assert_eq!(cut, Ok(part), "it begins with whole blocks");
    let camd = Camd::start(&(replay(folder.path(), "crop = [16, 96, 100, 60]") + LISTENERS));
    let snapshot = camd.get("/snapshot").body;
    assert_eq!(size(&snapshot), (100, 60));
    jpeg::keep_words(&plain, quarter, &mut out);
    assert!(snapshot == out.as_slice());
    assert!(!snapshot.windows(4).any(|bytes| bytes == b"Exif"));
}

#[test]
fn another_crop_counts_after_a_reload() {
    let folder = Folder::new();
    let whole = picture(160, 128);
    folder.file("1.jpg", &whole);
    let config = |keys: &str| replay(folder.path(), keys) + LISTENERS;
    let camd = Camd::start(&config("crop = [16, 16, 64, 48]"));
    assert_eq!(size(&camd.get("/snapshot").body), (64, 48));
    for (keys, expected) in [
        ("crop = [32, 48, 96, 32]", (96, 32)),
        ("", (160, 128)),
        ("crop = [0, 0, 32, 128]", (32, 128)),
    ] {
        std::fs::write(camd.config_path(), config(keys)).expect("the file");
        camd.signal(Signal::SIGHUP);
        camd.wait_state(keys, |state| {
            let camera = &state["camera"];
            camera["state"] == "live"
                && (&camera["width"], &camera["height"]) == (&expected.0.into(), &expected.1.into())
        });
        assert_eq!(size(&camd.get("/snapshot").body), expected, "{keys}");
        assert_eq!(crop(&camd).is_null(), keys.is_empty());
    }
}

#[test]
fn programs_on_the_board_get_the_part_and_nothing_else() {
    let folder = Folder::new();
    let whole = picture(160, 128);
    folder.file("1.jpg", &whole);
    let sockets = Folder::new();
    let place = |name: &str| sockets.path().join(name);
    let mut config = replay(folder.path(), "crop = [24, 40, 80, 64]\nrotate = 180");
    for format in ["raw", "jpeg", "rgb24", "grey"] {
        config += &sink(&place(format), &format!("format = \"{format}\""));
    }
    let camd = Camd::start(&(config + LISTENERS));
    let orientation = Orientation::quarters(2);
    let stored = Size {
        width: 160,
        height: 128,
    };
    let part = orientation
        .inverse()
        .turn_area(area(24, 40, 80, 64), stored);
    let mut out = FrameBuf::new(1 << 20);
    let mut codec = Codec::new();
    codec
        .cut(&whole, orientation, part, &mut out)
        .expect("whole MCUs");
    jpeg::keep_words(&whole, orientation, &mut out);
    // 16,32 to the same right and lower edges.
    assert_eq!(size(out.as_slice()), (88, 72));
    for format in ["raw", "jpeg"] {
        let mut reader = Reader::new(&place(format));
        let description = reader.next();
        assert!(reader.picture == out.as_slice(), "{format}");
        assert_eq!(
            (description.width, description.height),
            (88, 72),
            "{format}"
        );
        assert_eq!(description.flags, flags::LIVE, "nothing is left to turn");
    }
    for (format, bytes) in [("rgb24", 3 * 80 * 64), ("grey", 80 * 64)] {
        let mut reader = Reader::new(&place(format));
        let description = reader.next();
        assert_eq!(
            (description.width, description.height),
            (80, 64),
            "{format}"
        );
        assert_eq!(reader.picture.len(), bytes, "{format}");
    }
    // A JPEG that cannot be cropped without loss: its rest of an MCU is to the left when it is mirrored.
    let folder = Folder::new();
    folder.file("1.jpg", picture(150, 120));
    let mut config = replay(folder.path(), "crop = [0, 0, 80, 64]\nrotate = 180");
    config += &sink(&place("odd"), "format = \"raw\"");
    let odd = Camd::start(&(config + LISTENERS));
    let mut reader = Reader::new(&place("odd"));
    let description = reader.next();
    assert_eq!((description.width, description.height), (80, 64));
    assert_eq!(size(&reader.picture), (80, 64));
    drop((camd, odd));
    // Raw ones are cropped where they are.
    let config = pattern().replace("[camera]", "[camera]\ncrop = [30, 20, 102, 51]");
    let camd = Camd::start(&(config + &sink(&place("pattern"), "format = \"raw\"")));
    let mut reader = Reader::new(&place("pattern"));
    let description = reader.next();
    assert_eq!((description.width, description.height), (102, 51));
    assert_ne!(description.fourcc, u32::from_le_bytes(*b"JPEG"));
    drop(camd);
}

#[test]
fn callers_and_qt_programs_get_the_part() {
    let folder = Folder::new();
    let whole = picture(160, 128);
    folder.file("1.jpg", &whole);
    let (sockets, place) = (Folder::new(), Place::new());
    let socket = sockets.path().join("rgb24");
    let mut config = replay(folder.path(), "crop = [24, 40, 80, 64]");
    config += &format!("{LISTENERS}{CALLS}quality = 70\n");
    config += &sink(&socket, "format = \"rgb24\"");
    config += "\n[[sink]]\nkind = \"qt-shm\"\nkey = \"KEY\"\n";
    let camd = place.camd(&config);
    // What the call's picture is to be, byte for byte.
    let (mut codec, mut out) = (Codec::new(), FrameBuf::new(1 << 20));
    let recipe = Recipe::at(70).cropped(area(24, 40, 80, 64));
    codec
        .make(&Picture::Jpeg(&whole), &recipe, &mut out)
        .expect("a JPEG");
    jpeg::keep_words(&whole, Orientation::UPRIGHT, &mut out);
    let mut caller = User::log_in(camd.call(), "alice");
    caller.ring_camera();
    let called = caller.picture();
    assert_eq!(size(&called), (80, 64));
    assert!(called == out.as_slice(), "the part, at this quality");
    // What Qt programs see is what other programs on the board get.
    let mut reader = Reader::new(&socket);
    reader.next();
    wait("pictures for Qt", || place.segment().is_some());
    let lines = place.qt("PySide6", &["read", "1"]).end();
    assert!(lines[0].starts_with("80x64 "), "{lines:?}");
    let file = folder.path().join("qt.png");
    let fetched = std::process::Command::new(env!("CARGO_BIN_EXE_camd"))
        .args(["fetch", &format!("shm:{}", place.key), "-o"])
        .arg(&file)
        .env("TMPDIR", place.folder.path())
        .status();
    assert!(fetched.expect("camd runs").success());
    let png = std::io::BufReader::new(std::fs::File::open(&file).expect("a picture"));
    let mut png = png::Decoder::new(png).read_info().expect("a PNG");
    let mut pixels = vec![0; png.output_buffer_size().expect("a small one")];
    let info = png.next_frame(&mut pixels).expect("its pixels");
    assert_eq!((info.width, info.height), (80, 64));
    pixels.truncate(info.buffer_size());
    assert!(pixels == reader.picture, "the same part");
}

#[test]
fn pictures_of_a_push_server_and_of_a_program_are_cropped() {
    let folder = Folder::new();
    let file = folder.file("1.jpg", picture(160, 128));
    let server = Camd::start(&(replay(folder.path(), "") + LISTENERS));
    let push = format!(
        "[camera]\nsource = \"push\"\naddress = \"{}\"\nlinger_s = 0\ncrop = [32, 48, 64, 32]\n",
        server.push()
    );
    let command = format!("while :; do cat {}; sleep 0.05; done", file.display());
    let pipe = format!(
        "[camera]\nsource = \"pipe\"\ncommand = [\"sh\", \"-c\", {command:?}]\nlinger_s = 0\ncrop = [32, 48, 64, 32]\n"
    );
    for config in [push, pipe] {
        let camd = Camd::start(&(config.clone() + LISTENERS));
        assert_eq!(size(&camd.get("/snapshot").body), (64, 32), "{config}");
        assert_eq!(crop(&camd)["by"], "camd");
    }
}

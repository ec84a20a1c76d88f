//! What a JPEG says about itself: it survives where bytes are passed on, and is obeyed where camd makes another picture of
//! it. And what /state says of the pictures: how they are, not how they were announced.

use std::path::Path;

use crate::common::{self, Camd, Folder, LISTENERS, pattern};
use camd::encode::codec::{Codec, Recipe};
use camd::picture::frame::{FrameBuf, Orientation, Picture};
use camd::picture::jpeg;

const WITH: &[u8] =
    b"\xFF\xE1\0\x22Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
const COMMENT: &[u8] = b"\xFF\xFE\0\x11camera no. 4711";

/// Of 64x48 pixels, with a comment; the same with an Exif segment that says that its right side is up.
fn pictures() -> (Vec<u8>, Vec<u8>) {
    let plain = common::jpeg(3, 1200);
    let plain = [&plain[..2], COMMENT, &plain[2..]].concat();
    let turned = [&plain[..2], WITH, &plain[2..]].concat();
    (plain, turned)
}

fn replay(folder: &Path, keys: &str) -> String {
    format!("[camera]\nsource = \"replay\"\npath = {folder:?}\nfps = 20\nlinger_s = 0\n{keys}\n")
}

fn listener(keys: &str) -> String {
    format!("[[listener]]\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\n{keys}\n")
}

fn size(camd: &Camd) -> (u64, u64) {
    let state = camd.wait_state("live", |state| state["camera"]["state"] == "live");
    let side = |side: &str| state["camera"][side].as_u64().expect("a number");
    (side("width"), side("height"))
}

#[test]
fn bytes_that_are_passed_on_say_what_they_said() {
    let folder = Folder::new();
    let (_, turned) = pictures();
    folder.file("1.jpg", &turned);
    let camd = Camd::start(&(replay(folder.path(), "") + LISTENERS));
    assert!(camd.get("/snapshot").body == turned, "byte for byte");
    // As a browser shows it.
    assert_eq!(size(&camd), (48, 64));
}

#[test]
fn what_camd_makes_of_it_is_turned_as_it_said_and_says_nothing_more() {
    let folder = Folder::new();
    let (plain, turned) = pictures();
    folder.file("1.jpg", &turned);
    let mut codec = Codec::new();
    let mut out = FrameBuf::new(1 << 20);
    for (keys, of_listener, quarters, quality) in [
        ("", "quality = 50", 1, Some(50)),
        ("rotate = 90", "quality = 50", 2, Some(50)),
        // Without loss; the second is upright as it is stored.
        ("rotate = 180", "", 3, None),
        ("rotate = 270", "", 0, None),
    ] {
        let camd = Camd::start(&(replay(folder.path(), keys) + &listener(of_listener)));
        let shown = camd.get("/snapshot").body;
        let orientation = Orientation::quarters(quarters);
        match quality {
            Some(quality) => {
                let recipe = Recipe::at(quality).turned(orientation);
                codec.make(&Picture::Jpeg(&plain), &recipe, &mut out)
            }
            None => codec.turn(&plain, orientation, &mut out),
        }
        .expect("a picture");
        jpeg::keep_words(&plain, orientation, &mut out);
        assert!(shown.windows(COMMENT.len()).any(|bytes| bytes == COMMENT));
        assert!(shown == out.as_slice(), "{keys} {of_listener}");
        let expected = if quarters % 2 == 1 {
            (48, 64)
        } else {
            (64, 48)
        };
        assert_eq!(size(&camd), expected, "{keys} {of_listener}");
    }
    // It is fitted as viewers see it.
    let camd = Camd::start(&(replay(folder.path(), "") + &listener("width = 24\nheight = 32")));
    let shown = camd.get("/snapshot").body;
    let found = jpeg::inspect(&shown).expect("a JPEG");
    assert_eq!((found.width, found.height), (24, 32));
}

#[test]
fn the_state_has_the_size_of_the_pictures_whatever_was_agreed() {
    let folder = Folder::new();
    let file = folder.file("1.jpg", common::jpeg(1, 3000));
    let file = file.display();
    let pipe = format!("while :; do cat {file}; sleep 0.05; done");
    let camera = format!(
        "[camera]\nsource = \"pipe\"\ncommand = [\"sh\", \"-c\", {pipe:?}]\nlinger_s = 0\n"
    );
    let camd = Camd::start(&(camera + LISTENERS));
    assert_eq!(size(&camd), (64, 48));
    assert_eq!(camd.state()["camera"]["format"], "mjpeg");
    let server = Camd::start(&pattern());
    let camera = format!(
        "[camera]\nsource = \"push\"\naddress = \"{}\"\nlinger_s = 0\n",
        server.push()
    );
    let camd = Camd::start(&(camera + LISTENERS));
    assert_eq!(size(&camd), size(&server));
    assert_eq!(camd.state()["camera"]["format"], "mjpeg");
    // Until the first picture nobody knows.
    let camera = "[camera]\nsource = \"pipe\"\ncommand = [\"sleep\", \"60\"]\nlinger_s = 0\n";
    let camd = Camd::start(&(camera.to_owned() + LISTENERS));
    let camera = camd.wait_state("starting", |state| state["camera"]["state"] == "starting");
    assert!(camera["camera"]["width"].is_null(), "{camera}");
}

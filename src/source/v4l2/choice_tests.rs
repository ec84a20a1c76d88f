//! Choices among the formats of cameras as there are.

use super::*;
use crate::config::{self, Config};
use crate::system::v4l2::formats::{fourcc, known_of_camera};

/// A format: its code, and its sizes with the rates there; none: the driver does not say.
type Row = (&'static [u8; 4], &'static [((u32, u32), &'static [u16])]);

const QVGA: (u32, u32) = (320, 240);
const VGA: (u32, u32) = (640, 480);
const HD: (u32, u32) = (1280, 720);
const FULL_HD: (u32, u32) = (1920, 1080);

/// As a Logitech C270.
const C270: [Row; 2] = [
    (
        b"YUYV",
        &[
            (VGA, &[30, 25, 20, 15, 10, 5]),
            (QVGA, &[30, 25, 20, 15, 10, 5]),
            (HD, &[10, 5]),
            ((1280, 960), &[7, 5]),
        ],
    ),
    (
        b"MJPG",
        &[
            (VGA, &[30, 25, 20, 15, 10, 5]),
            (QVGA, &[30, 25, 20, 15, 10, 5]),
            (HD, &[30, 25, 20, 15, 10, 5]),
            ((1280, 960), &[30, 25, 20, 15, 10, 5]),
        ],
    ),
];

/// As a Logitech C920, whose raw pictures are slow at large sizes only.
const C920: [Row; 3] = [
    (
        b"YUYV",
        &[(VGA, &[30, 24, 15]), (HD, &[10, 5]), (FULL_HD, &[5])],
    ),
    (b"H264", &[(VGA, &[30]), (HD, &[30]), (FULL_HD, &[30])]),
    (
        b"MJPG",
        &[(VGA, &[30, 24, 15]), (HD, &[30, 24]), (FULL_HD, &[30, 24])],
    ),
];

struct Camera {
    offers: Vec<Offer>,
    rates: Vec<(u32, (u32, u32), Rates)>,
}

fn camera(rows: &[Row]) -> Camera {
    let mut camera = Camera {
        offers: Vec::new(),
        rates: Vec::new(),
    };
    for (code, sizes) in rows {
        let code = fourcc(code);
        let Some(format) = known_of_camera(code) else {
            continue;
        };
        camera.offers.push(Offer {
            code,
            format,
            sizes: Sizes::Discrete(sizes.iter().map(|(size, _)| *size).collect()),
        });
        for (size, rates) in *sizes {
            let rates = match rates {
                [] => Rates::Unknown,
                all => Rates::Discrete(all.iter().copied().map(Interval::of).collect()),
            };
            camera.rates.push((code, *size, rates));
        }
    }
    camera
}

/// As bcm2835-v4l2, the Raspberry Pi's camera with the legacy stack: any size in steps, any rate.
fn raspberry() -> Camera {
    let codes = [
        b"YU12", b"YUYV", b"RGB3", b"JPEG", b"H264", b"MJPG", b"UYVY", b"NV12", b"BGR3",
    ];
    let offers = codes
        .into_iter()
        .filter_map(|code| {
            Some(Offer {
                code: fourcc(code),
                format: known_of_camera(fourcc(code))?,
                sizes: Sizes::Range {
                    min: (32, 32),
                    max: (2592, 1944),
                    step: (2, 2),
                },
            })
        })
        .collect();
    Camera {
        offers,
        rates: Vec::new(),
    }
}

impl Camera {
    fn rates(&self, code: u32, size: (u32, u32)) -> Rates {
        let known = self.rates.iter().find(|row| (row.0, row.1) == (code, size));
        known.map_or(
            Rates::Range {
                slowest: Interval::of(1),
                fastest: Interval::of(90),
            },
            |row| row.2.clone(),
        )
    }

    fn choose(&self, wish: &Wish<'_>) -> Choice {
        choose(&self.offers, wish, |code, size| self.rates(code, size)).expect("a choice")
    }

    /// The choice for one http listener with these keys, in short, and why.
    fn choose_for(&self, size: (u32, u32), fps: u16, keys: &str) -> (String, String) {
        let demand = demand(keys);
        let choice = self.choose(&wish(&demand, size, fps));
        let (width, height) = choice.size;
        let rate = choice.interval.map_or(0.0, Interval::fps);
        let code = code_name(choice.code);
        (
            format!("{code} {width}x{height} {}", rate_name(rate)),
            choice.why,
        )
    }

    fn takes(&self, size: (u32, u32), fps: u16, keys: &str) -> String {
        self.choose_for(size, fps, keys).0
    }
}

fn demand(keys: &str) -> Demand {
    let text = format!("[[listener]]\nprotocol = \"http\"\nbind = \"127.0.0.1:8080\"\n{keys}\n");
    let config: Config = config::parse(&text, "test").expect("a listener");
    Demand::of(&config)
}

fn wish(demand: &Demand, size: (u32, u32), fps: u16) -> Wish<'_> {
    Wish {
        format: None,
        size,
        fps,
        transposed: false,
        left: Orientation::UPRIGHT,
        demand,
    }
}

fn why(code: &str, reason: &str) -> (String, String) {
    (code.to_owned(), reason.to_owned())
}

#[test]
fn a_jpeg_that_is_passed_on_is_best() {
    for (webcam, also) in [(&C270[..], ""), (&C920, "; H264: no JPEGs")] {
        let reason = format!("passed on untouched; YUYV: would have to be encoded{also}");
        assert_eq!(
            camera(webcam).choose_for(VGA, 30, ""),
            why("MJPG 640x480 30", &reason)
        );
    }
}

#[test]
fn the_rate_comes_before_the_cost() {
    // Encoding YUYV is less work than decoding JPEG and encoding again, as long as there are enough pictures.
    let webcam = camera(&C270);
    let quality = "quality = 50";
    assert_eq!(webcam.takes(HD, 10, quality), "YUYV 1280x720 10");
    assert_eq!(webcam.takes(HD, 5, quality), "YUYV 1280x720 5");
    assert_eq!(
        webcam.choose_for(HD, 30, quality),
        why(
            "MJPG 1280x720 30",
            "encoded again; YUYV: only 10 fps at this size"
        )
    );
    assert_eq!(webcam.takes(VGA, 30, quality), "YUYV 640x480 30");
    // Neither is fast enough: the faster one.
    assert_eq!(webcam.takes(HD, 60, quality), "MJPG 1280x720 30");
}

#[test]
fn the_size_comes_before_the_rate() {
    let odd = camera(&[
        (b"MJPG", &[(VGA, &[30]), (FULL_HD, &[30])]),
        (b"YUYV", &[(VGA, &[30]), (HD, &[5])]),
    ]);
    assert_eq!(
        odd.choose_for(HD, 30, ""),
        why("YUYV 1280x720 5", "encoded; MJPG: nearest size 1920x1080")
    );
}

#[test]
fn the_nearest_size_is_the_smallest_that_covers_the_wanted_one() {
    let webcam = camera(&C920);
    assert_eq!(webcam.takes((800, 600), 30, ""), "MJPG 1280x720 30");
    assert_eq!(webcam.takes((320, 180), 30, ""), "MJPG 640x480 30");
    // As high as wanted is not enough.
    assert_eq!(webcam.takes((1600, 720), 30, ""), "MJPG 1920x1080 30");
    assert_eq!(webcam.takes((3840, 2160), 30, ""), "MJPG 1920x1080 30");

    let sizes = |max, step| Sizes::Range {
        min: (32, 16),
        max,
        step,
    };
    let range = sizes((2592, 1944), (32, 2));
    assert_eq!(range.nearest(VGA), Some(VGA));
    assert_eq!(range.nearest((641, 481)), Some((672, 482)));
    assert_eq!(range.nearest((4000, 8)), Some((2592, 16)));
    assert_eq!(range.nearest((4000, 481)), Some((2592, 482)));
    // Wrong as it is, it must not loop or overflow.
    assert_eq!(sizes((16, 16), (32, 32)).nearest(VGA), Some((32, 16)));
    assert_eq!(Sizes::Discrete(vec![(8, 8), (9000, 16)]).nearest(VGA), None);
    assert_eq!(Sizes::Unknown.nearest(VGA), Some(VGA));
}

#[test]
fn what_listeners_want_decides() {
    let webcam = camera(&C920);
    for (keys, expected) in [
        ("", "MJPG"),
        ("adaptive = true", "MJPG"),
        // Encoding alone is less than decoding and encoding.
        ("quality = 80", "YUYV"),
        // But a JPEG that becomes small enough at once is hardly decoded.
        ("width = 160\nheight = 120", "MJPG"),
        ("width = 320\nquality = 30", "YUYV"),
        // The untouched one is free.
        (
            "[[listener]]\nprotocol = \"http\"\nbind = \"127.0.0.1:1\"\nquality = 30",
            "MJPG",
        ),
    ] {
        let taken = webcam.takes(VGA, 15, keys);
        assert_eq!(taken, format!("{expected} 640x480 15"), "{keys}");
    }
    let both = "[[listener]]\nprotocol = \"http\"\nbind = \"127.0.0.1:1\"\nquality = 30";
    assert_eq!(
        webcam.choose_for(HD, 30, both).1,
        "passed on untouched or encoded again, as listeners want; YUYV: only 10 fps at this size; H264: no JPEGs"
    );
    assert_eq!(
        webcam.choose_for(VGA, 15, "width = 160\nheight = 120").1,
        "encoded again; YUYV: 1.2 times the work; H264: no JPEGs"
    );
}

#[test]
fn a_jpeg_that_camd_must_turn_is_not_free() {
    let webcam = camera(&C920);
    let plain = demand("");
    let turned = Wish {
        left: Orientation::quarters(1),
        ..wish(&plain, VGA, 15)
    };
    assert_eq!(webcam.choose(&turned).format, PixelFormat::Yuyv.into());
    // But if the camera has turned it, it is: bounds count for the picture on its side.
    // In 4:2:0 the raw one would be a little less work.
    let narrow = demand("width = 480\nchroma = \"422\"");
    let by_camera = Wish {
        transposed: true,
        ..wish(&narrow, VGA, 15)
    };
    let choice = webcam.choose(&by_camera);
    assert_eq!(
        (choice.format, choice.size),
        (PixelFormat::Mjpeg.into(), VGA)
    );
    assert!(
        choice.why.starts_with("passed on untouched;"),
        "{}",
        choice.why
    );
    let by_nobody = wish(&narrow, VGA, 15);
    assert!(webcam.choose(&by_nobody).why.starts_with("encoded again;"));
}

#[test]
fn a_range_gives_the_wanted_size_and_rate() {
    let pi = raspberry();
    assert_eq!(
        pi.choose_for((800, 600), 25, ""),
        why(
            "MJPG 800x600 25",
            "passed on untouched; YU12, NV12, YUYV, UYVY, RGB3, BGR3: would have to be encoded; H264: no JPEGs"
        )
    );
    assert_eq!(
        pi.choose_for((800, 600), 25, "quality = 60"),
        why(
            "YU12 800x600 25",
            "encoded; NV12: 1.0 times the work; YUYV, UYVY: 1.1 times the work; \
             RGB3, BGR3: 1.2 times the work; MJPG, JPEG: 2.0 times the work; H264: no JPEGs"
        )
    );
    // Twice the colours.
    assert_eq!(
        pi.choose_for((800, 600), 25, "quality = 60\nchroma = \"422\""),
        why(
            "YU12 800x600 25",
            "encoded; NV12: 1.0 times the work; YUYV, UYVY: 1.4 times the work; \
             RGB3, BGR3: 1.5 times the work; MJPG, JPEG: 2.3 times the work; H264: no JPEGs"
        )
    );
    assert_eq!(pi.takes((800, 600), 120, ""), "MJPG 800x600 90");
}

#[test]
fn grey_only_where_there_is_nothing_else() {
    let grey = camera(&[(b"GREY", &[(HD, &[60])])]);
    assert_eq!(
        grey.choose_for(VGA, 30, ""),
        why("GREY 1280x720 60", "encoded")
    );
    let both = camera(&[(b"GREY", &[(VGA, &[60])]), (b"UYVY", &[(QVGA, &[15])])]);
    assert_eq!(
        both.choose_for(VGA, 30, ""),
        why("UYVY 320x240 15", "encoded; GREY: no colour")
    );
}

#[test]
fn unknown_rates_count_as_enough() {
    let silent = camera(&[(b"YUYV", &[(VGA, &[])]), (b"MJPG", &[(VGA, &[15])])]);
    let plain = demand("");
    let choice = silent.choose(&wish(&plain, VGA, 30));
    assert_eq!(
        (choice.format, choice.interval),
        (PixelFormat::Yuyv.into(), None),
        "{}",
        choice.why
    );
    assert_eq!(silent.takes(VGA, 15, ""), "MJPG 640x480 15");
}

#[test]
fn the_lowest_rate_that_is_enough() {
    let all = |rates: &[u16]| Rates::Discrete(rates.iter().copied().map(Interval::of).collect());
    let nearest = |rates: &[u16], fps| all(rates).nearest(fps).map(Interval::fps);
    assert_eq!(nearest(&[30, 10, 60], 12), Some(30.0));
    assert_eq!(nearest(&[30, 10, 60], 30), Some(30.0));
    assert_eq!(nearest(&[5, 10], 12), Some(10.0));
    assert_eq!(nearest(&[], 12), None);
    // NTSC's 29.97 is meant where 30 is said.
    assert!(is_enough(30_000.0 / 1001.0, 30.0) && !is_enough(29.0, 30.0));
    let range = Rates::Range {
        slowest: Interval::of(5),
        fastest: Interval::of(30),
    };
    for (fps, expected) in [(1, 5), (5, 5), (12, 12), (60, 30)] {
        assert_eq!(range.nearest(fps), Some(Interval::of(expected)));
    }
}

#[test]
fn a_configured_format_is_taken_whatever_it_costs() {
    let webcam = camera(&C270);
    let plain = demand("");
    let format = |format: PixelFormat| Wish {
        format: Some(format.into()),
        ..wish(&plain, HD, 30)
    };
    let choice = webcam.choose(&format(PixelFormat::Yuyv));
    assert_eq!(
        (choice.format, choice.size, choice.why.as_str()),
        (PixelFormat::Yuyv.into(), HD, "as configured")
    );
    let rates = |code, size| webcam.rates(code, size);
    assert_eq!(
        choose(&webcam.offers, &format(PixelFormat::Nv12), rates),
        None
    );
    assert_eq!(choose(&[], &wish(&plain, HD, 30), rates), None);
}

#[test]
fn what_takes_less_of_the_bus_comes_in_the_order_of_what_is_missed_least() {
    let sizes = Sizes::Discrete(vec![(640, 480), (1280, 720), (320, 240), (1920, 1080)]);
    let rates = |size| match size {
        (1280, 720) => Rates::Discrete([5, 10, 15, 20, 30].map(Interval::of).to_vec()),
        (640, 480) => Rates::Discrete([10, 15, 30].map(Interval::of).to_vec()),
        _ => Rates::Discrete([30].map(Interval::of).to_vec()),
    };
    assert_eq!(
        more_modest(&sizes, (1280, 720), 30, rates),
        [
            ((1280, 720), 20),
            ((1280, 720), 15),
            ((640, 480), 30),
            ((640, 480), 15),
            ((320, 240), 30),
            ((1280, 720), 10),
            ((1280, 720), 5),
            ((640, 480), 10),
        ]
    );
    // A camera of one size and rate has nothing less.
    let one = Sizes::Discrete(vec![(320, 240)]);
    assert_eq!(more_modest(&one, (320, 240), 30, rates), []);
    // Of one that does not say what it has, halves are tried.
    assert_eq!(
        more_modest(&Sizes::Unknown, (640, 480), 30, |_| Rates::Unknown)[..4],
        [
            ((640, 480), 15),
            ((320, 240), 30),
            ((320, 240), 15),
            ((160, 120), 30)
        ]
    );
    let range = Sizes::Range {
        min: (300, 200),
        max: (2000, 1000),
        step: (4, 4),
    };
    let slowest = Rates::Range {
        slowest: Interval::of(10),
        fastest: Interval::of(60),
    };
    let list = more_modest(&range, (640, 480), 30, |_| slowest.clone());
    assert_eq!(
        list,
        [
            ((640, 480), 15),
            ((320, 240), 30),
            ((320, 240), 15),
            ((300, 200), 30),
            ((300, 200), 15)
        ]
    );
    // However many there are.
    let many = Sizes::Discrete((1..100).map(|n| (32 * n, 32 * n)).collect());
    assert_eq!(
        more_modest(&many, (3000, 3000), 30, |_| Rates::Unknown).len(),
        16
    );
}

#[test]
fn h264_alone_is_taken_where_there_is_nothing_else_or_nobody_wants_jpegs() {
    let alone = camera(&[(b"H264", &[(VGA, &[30]), (HD, &[30])])]);
    let untouched = why("H264 1280x720 30", "passed on untouched");
    assert_eq!(alone.choose_for(HD, 30, ""), untouched);
    // A JPEG of another size and rate, or without colour, is better than none.
    for other in [b"MJPG", b"GREY"] {
        let both = camera(&[(b"H264", &[(HD, &[30])]), (other, &[(QVGA, &[5])])]);
        let (taken, reason) = both.choose_for(HD, 30, "");
        assert!(taken.ends_with(" 320x240 5"), "{taken}");
        assert!(reason.ends_with("; H264: no JPEGs"), "{reason}");
    }
    let only = |keys: &str| {
        let text = format!("[[listener]]\nprotocol = \"raw\"\nbind = \"127.0.0.1:1\"\n{keys}\n");
        Demand::of(&config::parse(&text, "test").expect("a listener"))
    };
    let webcam = camera(&C920);
    let h264 = "codec = \"h264\"";
    let memfd = |format| format!("{h264}\n[[sink]]\nkind = \"memfd\"\nformat = \"{format}\"");
    for (keys, expected) in [
        (h264.to_owned(), "H264"),
        (memfd("h264"), "H264"),
        (memfd("raw"), "MJPG"),
        (memfd("jpeg"), "MJPG"),
        ("codec = \"jpeg\"".to_owned(), "MJPG"),
        (
            format!("{h264}\n[[listener]]\nprotocol = \"http\"\nbind = \"127.0.0.1:2\""),
            "MJPG",
        ),
    ] {
        let demand = only(&keys);
        let choice = webcam.choose(&wish(&demand, VGA, 30));
        assert_eq!(code_name(choice.code), expected, "{keys}");
    }
    let demand = only(h264);
    assert_eq!(
        webcam.choose(&wish(&demand, VGA, 30)).why,
        "passed on untouched; MJPG, YUYV: no H.264"
    );
    let configured = Wish {
        format: Some(CameraFormat::H264),
        ..wish(&demand, HD, 30)
    };
    let choice = webcam.choose(&configured);
    assert_eq!((choice.format, choice.size), (CameraFormat::H264, HD));
    let rates = |code, size| camera(&C270).rates(code, size);
    assert_eq!(choose(&camera(&C270).offers, &configured, rates), None);
}

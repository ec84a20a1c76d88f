//! `camd devices`: which cameras there are, what they offer, and what to write into the configuration.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::Config;
use crate::picture::frame::Orientation;
use crate::source::Control;
use crate::source::v4l2::choice::{self, Wish, rate_name};
use crate::source::v4l2::controls;
use crate::source::v4l2::cost::Demand;
use crate::system::v4l2::device::{Device, Interval, Queue, Rates, Sizes, nodes};
use crate::system::v4l2::formats;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Survey {
    /// In the order of their numbers.
    pub cameras: Vec<Camera>,
    /// Video nodes that are no cameras, or cannot be opened.
    pub others: Vec<Other>,
}

/// A camera of this machine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Camera {
    /// Of its device node.
    pub path: PathBuf,
    /// Names that stay the same when devices are plugged in another order: by-id, then by-path.
    pub links: Vec<PathBuf>,
    /// Its name, as the driver has it.
    pub card: String,
    /// The driver's name.
    pub driver: String,
    /// Where it is plugged in, as V4L2 names it (`usb-0000:01:00.0-1.2`).
    pub bus: String,
    /// In the driver's order.
    pub formats: Vec<Format>,
    /// In the driver's order.
    pub controls: Vec<Control>,
    /// What `format = "auto"` takes for the configuration that was asked about.
    pub auto: Option<&'static str>,
}

/// A pixel format of a camera.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Format {
    /// V4L2's four-character code.
    pub code: String,
    /// The driver's own words.
    pub description: String,
    /// The value for `camera.format`; `None` where camd cannot serve this format.
    pub format: Option<&'static str>,
    /// In the driver's order.
    pub sizes: Vec<Size>,
    /// Instead of `sizes`, where any size between two is possible.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<SizeRange>,
}

/// A picture size of a format.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Size {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// Frames per second, each; empty where the driver does not say.
    pub fps: Vec<f64>,
    /// Instead of `fps`, where any rate between two is possible.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fps_range: Option<[f64; 2]>,
}

/// Sizes between two, each as width and height in pixels.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SizeRange {
    /// The smallest.
    pub min: [u32; 2],
    /// The largest.
    pub max: [u32; 2],
    /// From one to the next.
    pub step: [u32; 2],
}

/// A video node that is no camera.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Other {
    /// Of its device node.
    pub path: PathBuf,
    /// Why it is none, for a person.
    pub why: String,
}

/// Asks every video node. `config` is what to tell for which format `format = "auto"` would take.
pub fn list(config: &Config) -> Survey {
    list_in(Path::new("/dev"), config)
}

fn list_in(dev: &Path, config: &Config) -> Survey {
    let links = links(&dev.join("v4l"));
    let mut survey = Survey::default();
    for path in nodes(dev) {
        match camera(&path, config) {
            Ok(mut camera) => {
                camera.links = links.get(&path).cloned().unwrap_or_default();
                survey.cameras.push(camera);
            }
            Err(why) => survey.others.push(Other { path, why }),
        }
    }
    survey
}

/// Which links udev made for which node.
fn links(v4l: &Path) -> BTreeMap<PathBuf, Vec<PathBuf>> {
    let mut links: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    for kind in ["by-id", "by-path"] {
        let mut found: Vec<PathBuf> = fs::read_dir(v4l.join(kind))
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        found.sort();
        for link in found {
            if let Ok(node) = fs::canonicalize(&link) {
                links.entry(node).or_default().push(link);
            }
        }
    }
    links
}

fn camera(path: &Path, config: &Config) -> Result<Camera, String> {
    let device = Device::open(path).map_err(|failure| failure.explain(path))?;
    let capability = device.capability().clone();
    if let Some(what) = capability.unfit() {
        return Err(what);
    }
    let offers = formats::offers(&device);
    let wish = Wish {
        format: None,
        size: (config.camera.width.into(), config.camera.height.into()),
        fps: config.camera.fps,
        transposed: false,
        left: Orientation::UPRIGHT,
        demand: &Demand::of(config),
    };
    let auto = choice::choose(&offers, &wish, |code, size| device.rates(code, size));
    Ok(Camera {
        path: path.to_path_buf(),
        links: Vec::new(),
        card: capability.card,
        driver: capability.driver,
        bus: capability.bus,
        formats: device
            .formats(Queue::Capture)
            .into_iter()
            .map(|one| format_of(&device, one.fourcc, one.description))
            .collect(),
        controls: controls::list(&device),
        auto: auto.map(|choice| choice.format.name()),
    })
}

fn format_of(device: &Device, fourcc: u32, description: String) -> Format {
    let mut format = Format {
        code: formats::code_name(fourcc),
        description,
        format: formats::known_of_camera(fourcc).map(|format| format.name()),
        sizes: Vec::new(),
        range: None,
    };
    match device.sizes(fourcc) {
        Sizes::Discrete(sizes) => {
            format.sizes = sizes
                .into_iter()
                .map(|size| size_of(device, fourcc, size))
                .collect();
        }
        Sizes::Range { min, max, step } => {
            format.range = Some(SizeRange {
                min: min.into(),
                max: max.into(),
                step: step.into(),
            });
        }
        Sizes::Unknown => {}
    }
    format
}

fn size_of(device: &Device, fourcc: u32, (width, height): (u32, u32)) -> Size {
    let mut size = Size {
        width,
        height,
        fps: Vec::new(),
        fps_range: None,
    };
    match device.rates(fourcc, (width, height)) {
        Rates::Discrete(rates) => size.fps = rates.into_iter().map(Interval::fps).collect(),
        Rates::Range { slowest, fastest } => size.fps_range = Some([slowest.fps(), fastest.fps()]),
        Rates::Unknown => {}
    }
    size
}

impl Survey {
    /// For a program.
    pub fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        writeln!(out)
    }

    /// For a person.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        for camera in &self.cameras {
            camera.write(out)?;
            writeln!(out)?;
        }
        if !self.others.is_empty() {
            writeln!(out, "Not cameras, or not usable:")?;
            for other in &self.others {
                writeln!(out, "  {}: {}", other.path.display(), other.why)?;
            }
            writeln!(out)?;
        }
        match self.cameras.first() {
            Some(camera) => {
                writeln!(out, "In the configuration:")?;
                writeln!(out, "  [camera]")?;
                writeln!(out, "  device = {:?}", camera.best_name())
            }
            None => {
                writeln!(out, "No camera found.")?;
                writeln!(
                    out,
                    "- Is it plugged in? `lsusb` lists USB devices, `dmesg` tells what the kernel made of it."
                )?;
                writeln!(
                    out,
                    "- A Raspberry Pi's ribbon-cable camera speaks V4L2 only with the legacy stack (start_x=1);"
                )?;
                writeln!(
                    out,
                    "  with libcamera use source = \"pipe\" and rpicam-vid."
                )?;
                writeln!(
                    out,
                    "- No camera at hand? `camd --demo` serves a moving test picture."
                )
            }
        }
    }
}

impl Camera {
    /// The name to configure: one that stays.
    fn best_name(&self) -> &Path {
        self.links.first().unwrap_or(&self.path)
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}  {}", self.path.display(), self.card)?;
        writeln!(out, "  driver {}, {}", self.driver, self.bus)?;
        for link in &self.links {
            writeln!(out, "  {}", link.display())?;
        }
        writeln!(out, "  formats:")?;
        for format in &self.formats {
            let name = format.format.unwrap_or("-");
            let auto = match format.format.is_some() && format.format == self.auto {
                true => "  <- format = \"auto\"",
                false => "",
            };
            writeln!(
                out,
                "    {name:<6} {} ({}){auto}",
                format.code, format.description
            )?;
            if format.format.is_none() {
                continue;
            }
            if let Some(range) = &format.range {
                let SizeRange { min, max, step } = range;
                write!(
                    out,
                    "           {}x{} to {}x{}",
                    min[0], min[1], max[0], max[1]
                )?;
                match step {
                    [1, 1] => writeln!(out)?,
                    [w, h] => writeln!(out, " in steps of {w}x{h}")?,
                }
            }
            for size in &format.sizes {
                let side = format!("{}x{}", size.width, size.height);
                write!(out, "           {side:<10}")?;
                for fps in &size.fps {
                    write!(out, " {}", rate_name(*fps))?;
                }
                if let Some([min, max]) = size.fps_range {
                    write!(out, " {} to {}", rate_name(min), rate_name(max))?;
                }
                writeln!(
                    out,
                    "{}",
                    if size.fps.is_empty() && size.fps_range.is_none() {
                        ""
                    } else {
                        " fps"
                    }
                )?;
            }
        }
        if !self.controls.is_empty() {
            writeln!(out, "  controls:")?;
        }
        let widest = self
            .controls
            .iter()
            .map(|control| control.name.len())
            .max()
            .unwrap_or(0);
        for control in &self.controls {
            write_control(control, widest, out)?;
        }
        Ok(())
    }
}

fn write_control(control: &Control, widest: usize, out: &mut impl Write) -> io::Result<()> {
    let Control {
        name,
        kind,
        minimum,
        maximum,
        step,
        default,
        ..
    } = control;
    write!(out, "    {name:<widest$}  ")?;
    match control.value {
        Some(value) => write!(out, "{value}")?,
        None => write!(out, "-")?,
    }
    match *kind {
        "button" => write!(out, "  (button)")?,
        "boolean" => write!(out, "  (0 or 1, default {default})")?,
        "bitmask" => write!(out, "  (bits of {maximum:#x}, default {default:#x})")?,
        "menu" | "integer_menu" => {
            write!(out, "  (")?;
            for (value, text) in &control.menu {
                write!(out, "{value} {text}, ")?;
            }
            write!(out, "default {default})")?;
        }
        _ if *step > 1 => write!(
            out,
            "  ({minimum} to {maximum} in steps of {step}, default {default})"
        )?,
        _ => write!(out, "  ({minimum} to {maximum}, default {default})")?,
    }
    writeln!(out, "{}", if control.locked { "  locked" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn webcam() -> Camera {
        let control = |name: &str, kind, minimum, maximum, value| Control {
            name: name.into(),
            kind,
            minimum,
            maximum,
            step: 1,
            default: 0,
            value,
            menu: Vec::new(),
            locked: false,
        };
        let mut exposure = control("auto_exposure", "menu", 0, 3, Some(3));
        exposure.menu = vec![
            (1, "Manual Mode".into()),
            (3, "Aperture Priority Mode".into()),
        ];
        exposure.default = 3;
        let mut time = control("exposure_time_absolute", "integer", 3, 2047, Some(250));
        time.locked = true;
        time.default = 250;
        Camera {
            path: "/dev/video0".into(),
            links: vec!["/dev/v4l/by-id/usb-046d_C920-video-index0".into()],
            card: "HD Pro Webcam C920".into(),
            driver: "uvcvideo".into(),
            bus: "usb-3f980000.usb-1.2".into(),
            formats: vec![
                Format {
                    code: "MJPG".into(),
                    description: "Motion-JPEG".into(),
                    format: Some("mjpeg"),
                    sizes: vec![
                        Size {
                            width: 640,
                            height: 480,
                            fps: vec![30.0, 7.5],
                            fps_range: None,
                        },
                        Size {
                            width: 1920,
                            height: 1080,
                            fps: vec![30000.0 / 1001.0],
                            fps_range: None,
                        },
                    ],
                    range: None,
                },
                Format {
                    code: "HEVC".into(),
                    description: "HEVC".into(),
                    format: None,
                    sizes: vec![Size {
                        width: 640,
                        height: 480,
                        fps: vec![30.0],
                        fps_range: None,
                    }],
                    range: None,
                },
                Format {
                    code: "GREY".into(),
                    description: "8-bit Greyscale".into(),
                    format: Some("grey"),
                    sizes: Vec::new(),
                    range: Some(SizeRange {
                        min: [32, 32],
                        max: [1920, 1080],
                        step: [2, 2],
                    }),
                },
            ],
            controls: vec![
                control("brightness", "integer", -64, 64, Some(0)),
                exposure,
                time,
                control("reset", "button", 0, 0, None),
            ],
            auto: Some("mjpeg"),
        }
    }

    fn text(survey: &Survey) -> String {
        let mut out = Vec::new();
        survey.write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_camera_for_a_person() {
        let other = Other {
            path: "/dev/video1".into(),
            why: "a metadata node".into(),
        };
        let survey = Survey {
            cameras: vec![webcam()],
            others: vec![other],
        };
        let expected = r#"/dev/video0  HD Pro Webcam C920
  driver uvcvideo, usb-3f980000.usb-1.2
  /dev/v4l/by-id/usb-046d_C920-video-index0
  formats:
    mjpeg  MJPG (Motion-JPEG)  <- format = "auto"
           640x480    30 7.5 fps
           1920x1080  29.97 fps
    -      HEVC (HEVC)
    grey   GREY (8-bit Greyscale)
           32x32 to 1920x1080 in steps of 2x2
  controls:
    brightness              0  (-64 to 64, default 0)
    auto_exposure           3  (1 Manual Mode, 3 Aperture Priority Mode, default 3)
    exposure_time_absolute  250  (3 to 2047, default 250)  locked
    reset                   -  (button)

Not cameras, or not usable:
  /dev/video1: a metadata node

In the configuration:
  [camera]
  device = "/dev/v4l/by-id/usb-046d_C920-video-index0"
"#;
        assert_eq!(text(&survey), expected);
    }

    #[test]
    fn a_camera_for_a_program() {
        let survey = Survey {
            cameras: vec![webcam()],
            others: Vec::new(),
        };
        let mut out = Vec::new();
        survey.write_json(&mut out).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let camera = &json["cameras"][0];
        assert_eq!(camera["path"], "/dev/video0");
        assert_eq!(
            camera["formats"][0]["sizes"][0]["fps"],
            serde_json::json!([30.0, 7.5])
        );
        assert_eq!(camera["formats"][1]["format"], serde_json::Value::Null);
        assert_eq!(
            camera["controls"][1]["menu"][1],
            serde_json::json!([3, "Aperture Priority Mode"])
        );
        assert!(camera["controls"][0].get("menu").is_none());
    }

    #[test]
    fn no_camera_is_said_with_what_to_do() {
        let text = text(&Survey::default());
        assert!(
            text.starts_with("No camera found.\n") && text.contains("--demo"),
            "{text}"
        );
    }

    #[test]
    fn nodes_are_found_by_number_and_their_links_with_them() {
        let dir = std::env::temp_dir().join(format!("camd-devices-{}", std::process::id()));
        let ids = dir.join("v4l/by-id");
        fs::create_dir_all(&ids).unwrap();
        for name in ["video10", "video2", "video", "videox", "vbi0"] {
            fs::write(dir.join(name), "").unwrap();
        }
        std::os::unix::fs::symlink("../../video2", ids.join("usb-cam-video-index0")).unwrap();
        let dir = fs::canonicalize(dir).unwrap();

        let survey = list_in(&dir, &Config::default());
        let found = links(&dir.join("v4l"));
        fs::remove_dir_all(&dir).unwrap();

        assert!(survey.cameras.is_empty());
        let paths: Vec<_> = survey
            .others
            .iter()
            .map(|other| other.path.clone())
            .collect();
        assert_eq!(paths, [dir.join("video2"), dir.join("video10")]);
        // Plain files: VIDIOC_QUERYCAP says ENOTTY.
        assert!(
            survey.others[0].why.contains("not a V4L2 device"),
            "{}",
            survey.others[0].why
        );
        let link = dir.join("v4l/by-id/usb-cam-video-index0");
        assert_eq!(found.get(&dir.join("video2")), Some(&vec![link]));
    }
}

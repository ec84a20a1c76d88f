//! The box's updater: takes in an image that a client uploads, checks it against its signature, and writes its system into the
//! place on the card that is not in use.
//!
//! It is a program of its own (`camd box-update`), run by the box as root; camd itself only hands the bytes on (`--update`). It
//! serves one connection and ends. An image has, behind its partition table, a signed list of the parts of its system with
//! their checksums (`deploy/image/signature.py`): nothing is written before the signature is verified, and each part is
//! written only when it is what the list says. Then all is read back from the card, and a program of the box's starts the
//! trial, unless the client has given up meanwhile. Whatever goes wrong before that changes nothing about what starts.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions, read_to_string};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use minisign_verify::{PublicKey, Signature};
use sha2::{Digest, Sha256};

use crate::limits::UPDATE_MAX;

/// What it is started as.
pub const ARGUMENT: &str = "box-update";

/// The list is between these bytes of an image.
const LIST: std::ops::Range<usize> = 512..65536;
const NO_IMAGE: &str = "it is no image of a camera box that can be sent to one";
const MAGIC: &str = "camd-update 1";
const PART_MAX: usize = 1 << 20;
const SECTOR: usize = 512;
/// Files of a system, entries of a folder and clusters of a card, at most.
const FILES_MAX: usize = 64;
const CLUSTERS_MAX: usize = 65536;
/// A connection that says nothing for so long has ended without having said so: camd gives up its clients before.
const SILENCE: Duration = Duration::from_secs(180);

/// Why an update is not made.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// The image is not one for this box.
    Image(String),
    /// The box cannot.
    Here(String),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Image(why) => write!(f, "400 {why}"),
            Refused::Here(why) => write!(f, "503 {why}"),
        }
    }
}

fn image(why: impl Into<String>) -> Refused {
    Refused::Image(why.into())
}

fn here(what: &str) -> impl Fn(io::Error) -> Refused {
    move |error| Refused::Here(format!("{what}: {error}"))
}

/// What it is told by its arguments.
struct Options {
    socket: PathBuf,
    /// The image's public key.
    key: PathBuf,
    /// When the running system was built, in seconds since the epoch.
    built: u64,
    /// The partition.
    device: PathBuf,
    /// The system that is to be written, "a" or "b".
    slot: String,
    /// Says how far it is, for the page.
    progress: PathBuf,
    /// Selects what was written, for a trial.
    select: PathBuf,
}

/// Serves one update. Ends with 0 if the trial was selected, 1 if not, 2 for wrong arguments.
pub fn main(arguments: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    let Some(options) = options(arguments) else {
        log(&format!(
            "usage: camd {ARGUMENT} SOCKET KEY BUILT DEVICE SLOT PROGRESS SELECT"
        ));
        return ExitCode::from(2);
    };
    let _ = std::fs::remove_file(&options.socket);
    let listener = match UnixListener::bind(&options.socket) {
        Ok(listener) => listener,
        Err(error) => return fail(&options, &error),
    };
    let mut stream = match listener.accept() {
        Ok((stream, _)) => stream,
        Err(error) => return fail(&options, &error),
    };
    // Nobody else is heard meanwhile.
    drop(listener);
    let _ = std::fs::remove_file(&options.socket);
    let done = receive(&options, &mut stream);
    let (line, code) = match &done {
        Ok(text) => (format!("200 {text}"), ExitCode::SUCCESS),
        Err(refused) => (refused.to_string(), ExitCode::FAILURE),
    };
    say(&options, &line[4..]);
    log(&format!("camd-box: update: {}", &line[4..]));
    let _ = stream.write_all(format!("{line}\n").as_bytes());
    code
}

fn fail(options: &Options, error: &io::Error) -> ExitCode {
    log(&format!("camd-box: {}: {error}", options.socket.display()));
    ExitCode::FAILURE
}

fn options(mut arguments: impl Iterator<Item = std::ffi::OsString>) -> Option<Options> {
    let mut path = || arguments.next().map(PathBuf::from);
    let (socket, key) = (path()?, path()?);
    let built = path()?.to_str()?.parse().ok()?;
    let device = path()?;
    let slot = path()?.to_str()?.to_owned();
    let options = Options {
        socket,
        key,
        built,
        device,
        slot,
        progress: path()?,
        select: path()?,
    };
    arguments.next().is_none().then_some(options)
}

/// One line in one piece, as each write to /dev/kmsg is a message of its own.
fn log(line: &str) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// For the page.
fn say(options: &Options, text: &str) {
    // That it is not shown changes nothing.
    let new = options.progress.with_extension("new");
    let _ = std::fs::write(&new, format!("{text}\n"))
        .and_then(|()| std::fs::rename(&new, &options.progress));
}

/// A piece of a file of the system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where it begins in the image, in bytes.
    pub at: u64,
    /// In bytes.
    pub length: usize,
    /// The file's name.
    pub file: String,
    /// Where it begins in the file, in bytes.
    pub begin: u64,
    digest: [u8; 32],
}

/// What the list of an image says.
#[derive(Debug, PartialEq, Eq)]
pub struct List {
    version: String,
    built: u64,
    /// In the order in which they come.
    pub parts: Vec<Part>,
}

impl List {
    /// Verifies the signature, and then reads what it is of.
    pub fn read(block: &[u8], key: &PublicKey) -> Result<List, Refused> {
        let end = block
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(block.len());
        let text = str::from_utf8(&block[..end]).unwrap_or_default();
        if !text.starts_with(MAGIC) {
            return Err(image(NO_IMAGE));
        }
        let signed = text.split_once("\n\n").and_then(|(text, signature)| {
            Some((format!("{text}\n"), Signature::decode(signature).ok()?))
        });
        let (text, signature) = signed.ok_or_else(|| image("it is not signed"))?;
        let verified = key.verify(text.as_bytes(), &signature, false);
        verified.map_err(|_| image("it is not signed with the key of this box's image"))?;
        List::parse(&text).ok_or_else(|| {
            image("its list of parts is none that this box knows; write the image to the card")
        })
    }

    /// Reads what was signed. `None`: it is no list.
    pub fn parse(text: &str) -> Option<List> {
        let mut lines = text.lines();
        let (magic, version, built) = (lines.next()?, lines.next()?, lines.next()?);
        let mut list = List {
            version: version.strip_prefix("version ")?.to_owned(),
            built: built.strip_prefix("built ")?.parse().ok()?,
            parts: Vec::new(),
        };
        let mut at = LIST.end as u64;
        for line in lines {
            let mut words = line.strip_prefix("part ")?.split(' ');
            let part = Part {
                at: words.next()?.parse().ok()?,
                length: words.next()?.parse().ok()?,
                file: words.next()?.to_owned(),
                begin: words.next()?.parse().ok()?,
                digest: digest(words.next()?)?,
            };
            // They come one behind the other.
            if words.next().is_some()
                || part.at < at
                || part.at > UPDATE_MAX
                || part.length > PART_MAX
            {
                return None;
            }
            at = part.at + part.length as u64;
            list.parts.push(part);
        }
        (magic == MAGIC).then_some(list)
    }

    /// Whether the parts are all of these files, and nothing else.
    pub fn fits(&self, files: &BTreeMap<String, Place>) -> bool {
        let mut known: BTreeMap<&str, u64> = BTreeMap::new();
        for part in &self.parts {
            let seen = known.entry(&part.file).or_default();
            let is_whole = part.length % SECTOR == 0 && part.length > 0;
            if *seen != part.begin || !is_whole {
                return false;
            }
            *seen += part.length as u64;
        }
        let on_card = files
            .iter()
            .map(|(name, place)| (name.as_str(), place.size));
        known.into_iter().eq(on_card)
    }
}

fn digest(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(digest)
}

fn receive(options: &Options, stream: &mut UnixStream) -> Result<String, Refused> {
    let silence = stream.set_read_timeout(Some(SILENCE));
    silence.map_err(here("the connection"))?;
    let (length, older) = order(stream)?;
    if length < LIST.end as u64 {
        return Err(image(NO_IMAGE));
    }
    let key = read_to_string(&options.key).map_err(here("the box's key"))?;
    let key = PublicKey::decode(&key).map_err(|_| Refused::Here("the box's key is none".into()))?;
    say(options, "an update comes in");
    let mut block = vec![0; LIST.end];
    take(stream, &mut block)?;
    let list = List::read(&block[LIST], &key)?;
    if list.built < options.built && !older {
        return Err(image(format!(
            "{} is older than what runs; send it to /update?older if it is meant",
            list.version
        )));
    }
    let end = list
        .parts
        .last()
        .map_or(0, |part| part.at + part.length as u64);
    if end > length {
        return Err(image("its end is missing"));
    }
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&options.device);
    let device = device.map_err(here("the card"))?;
    let files = files(&device, &options.slot).map_err(here("the card"))?;
    if !list.fits(&files) {
        return Err(image(
            "its system has other files than this card; write the image to the card",
        ));
    }
    let written = write(options, stream, length, &list, &device, &files)?;
    say(options, "the update is read back");
    check(&device, &written)?;
    if is_given_up(stream) {
        return Err(Refused::Here("it was given up".into()));
    }
    // From here on it is whole: what starts it, and puts the old one back, is the box's.
    let selected = Command::new(&options.select).stdin(Stdio::null()).status();
    if !selected.is_ok_and(|status| status.success()) {
        return Err(Refused::Here(
            "the card does not take that the new system is to start".into(),
        ));
    }
    Ok(format!(
        "{} is in {}/; the box starts again, and tries it",
        list.version, options.slot
    ))
}

/// The line in front.
fn order(stream: &mut UnixStream) -> Result<(u64, bool), Refused> {
    let (mut line, mut byte) = (String::new(), [0]);
    while line.len() < 64 {
        take(stream, &mut byte)?;
        if byte[0] == b'\n' {
            break;
        }
        line.push(char::from(byte[0]));
    }
    let mut words = line.strip_prefix("update ").unwrap_or_default().split(' ');
    let length = words.next().and_then(|word| word.parse().ok());
    match (length, words.next()) {
        (Some(length), Some(older)) => Ok((length, older == "1")),
        _ => Err(Refused::Here("no order was given".into())),
    }
}

fn take(stream: &mut UnixStream, into: &mut [u8]) -> Result<(), Refused> {
    stream.read_exact(into).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => image("its end is missing: the connection has ended"),
        _ => Refused::Here(format!("the connection: {error}")),
    })
}

/// Writes each part that is what the list says, of an image of so many bytes. What was written, and where.
fn write(
    options: &Options,
    stream: &mut UnixStream,
    length: u64,
    list: &List,
    device: &File,
    files: &BTreeMap<String, Place>,
) -> Result<Vec<(u64, usize, [u8; 32])>, Refused> {
    let total: usize = list.parts.iter().map(|part| part.length).sum();
    let mut buffer = vec![0; PART_MAX];
    let (mut at, mut done, mut written) = (LIST.end as u64, 0, Vec::new());
    for part in &list.parts {
        while at < part.at {
            let gap = usize::try_from(part.at - at)
                .unwrap_or(PART_MAX)
                .min(PART_MAX);
            take(stream, &mut buffer[..gap])?;
            at += gap as u64;
        }
        let data = &mut buffer[..part.length];
        take(stream, data)?;
        at += part.length as u64;
        if Sha256::digest(&*data)[..] != part.digest {
            return Err(image(format!("its {} is damaged", part.file)));
        }
        if part.file == "cmdline.txt" {
            let own = command_line(data, &options.slot);
            data.copy_from_slice(&own.ok_or_else(|| image("its cmdline.txt is none"))?);
        }
        let place = files[&part.file].at + part.begin;
        device.write_all_at(data, place).map_err(here("the card"))?;
        // Little by little, so that no more of it is in memory than the card takes at once.
        device.sync_data().map_err(here("the card"))?;
        written.push((place, part.length, Sha256::digest(&*data).into()));
        done += part.length;
        say(
            options,
            &format!("an update comes in: {} %", 100 * done / total.max(1)),
        );
    }
    // What is behind the last part is of no use, but a client that has not sent it has not sent all.
    while at < length {
        let rest = usize::try_from(length - at)
            .unwrap_or(PART_MAX)
            .min(PART_MAX);
        take(stream, &mut buffer[..rest])?;
        at += rest as u64;
    }
    Ok(written)
}

/// Whether camd has closed the connection, as it does when its client has gone. There is nothing more to read than that.
fn is_given_up(stream: &UnixStream) -> bool {
    let mut stream = stream;
    let read = stream
        .set_nonblocking(true)
        .and_then(|()| stream.read(&mut [0]));
    let back = stream.set_nonblocking(false);
    back.is_err() || !matches!(read, Err(error) if error.kind() == ErrorKind::WouldBlock)
}

/// The kernel's command line says which system it is. As `deploy/image/card.py` writes it.
fn command_line(data: &[u8], slot: &str) -> Option<Vec<u8>> {
    let text = str::from_utf8(data).ok()?;
    let words = text
        .split_whitespace()
        .filter(|word| !word.starts_with("camd.slot="));
    let mut line = words.collect::<Vec<_>>().join(" ");
    line.push_str(&format!(" camd.slot={slot}"));
    let mut own = line.into_bytes();
    if own.len() >= data.len() {
        return None;
    }
    own.resize(data.len() - 1, b' ');
    own.push(b'\n');
    Some(own)
}

/// Reads all back from the card itself.
fn check(device: &File, written: &[(u64, usize, [u8; 32])]) -> Result<(), Refused> {
    // SAFETY: the descriptor is open, and the call touches no memory of ours.
    unsafe { libc::posix_fadvise(device.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    let mut buffer = vec![0; PART_MAX];
    for (place, length, digest) in written {
        let data = &mut buffer[..*length];
        device
            .read_exact_at(data, *place)
            .map_err(here("the card"))?;
        if Sha256::digest(&*data)[..] != *digest {
            return Err(Refused::Here(
                "the card does not keep what is written to it: it is worn out".into(),
            ));
        }
    }
    Ok(())
}

/// Where a file lies in the partition, in one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// In bytes.
    pub at: u64,
    /// In bytes.
    pub size: u64,
}

/// The files of a system on the card.
pub fn files(device: &File, slot: &str) -> io::Result<BTreeMap<String, Place>> {
    Fat::read(device)?.folder(slot)
}

/// A FAT16 file system, as far as to find the files of a folder of its root. Microsoft's FAT specification, 1.03.
struct Fat<'a> {
    device: &'a File,
    cluster: u64,
    /// The chain of clusters, two bytes each.
    next: Vec<u8>,
    root: Vec<u8>,
    /// Where cluster 2 is.
    data: u64,
}

impl<'a> Fat<'a> {
    fn read(device: &'a File) -> io::Result<Fat<'a>> {
        let bad = || {
            io::Error::new(
                ErrorKind::InvalidData,
                "it has another file system than the image",
            )
        };
        let mut boot = [0; SECTOR];
        device.read_exact_at(&mut boot, 0)?;
        let pair = |at: usize| u64::from(u16::from_le_bytes([boot[at], boot[at + 1]]));
        let (sector, reserved, entries, length) = (pair(11), pair(14), pair(17), pair(22));
        let (per_cluster, fats) = (u64::from(boot[13]), u64::from(boot[16]));
        if boot[510..] != [0x55, 0xaa]
            || sector != SECTOR as u64
            || per_cluster == 0
            || fats == 0
            || length == 0
        {
            return Err(bad());
        }
        let mut next = vec![0; (length * sector).min(2 * CLUSTERS_MAX as u64) as usize];
        device.read_exact_at(&mut next, reserved * sector)?;
        let root_at = (reserved + fats * length) * sector;
        let mut root = vec![0; entries as usize * 32];
        device.read_exact_at(&mut root, root_at)?;
        Ok(Fat {
            device,
            cluster: per_cluster * sector,
            next,
            data: root_at + root.len() as u64,
            root,
        })
    }

    fn after(&self, cluster: u16) -> Option<u16> {
        let at = usize::from(cluster) * 2;
        let next = u16::from_le_bytes([*self.next.get(at)?, *self.next.get(at + 1)?]);
        (2..0xfff8).contains(&next).then_some(next)
    }

    fn place(&self, cluster: u16) -> u64 {
        self.data + (u64::from(cluster) - 2) * self.cluster
    }

    /// The files of a folder in the root.
    fn folder(&self, name: &str) -> io::Result<BTreeMap<String, Place>> {
        let bad = |why: &str| {
            io::Error::new(
                ErrorKind::InvalidData,
                format!("{name}/ {why}; write the image to the card"),
            )
        };
        let found = entries(&self.root).into_iter();
        let mut found =
            found.filter(|entry| entry.is_folder && entry.name.eq_ignore_ascii_case(name));
        let mut cluster = Some(found.next().ok_or_else(|| bad("is not there"))?.first);
        let mut bytes = Vec::new();
        while let Some(number) = cluster {
            if bytes.len() > FILES_MAX * 32 * 8 || number < 2 {
                return Err(bad("has too many files"));
            }
            let mut piece = vec![0; self.cluster as usize];
            self.device.read_exact_at(&mut piece, self.place(number))?;
            bytes.extend(piece);
            cluster = self.after(number);
        }
        let mut files = BTreeMap::new();
        for entry in entries(&bytes).into_iter().filter(|entry| !entry.is_folder) {
            let count = entry.size.div_ceil(self.cluster);
            let is_whole = (1..count).all(|n| {
                let before = u64::from(entry.first) + n - 1;
                u16::try_from(before).ok().and_then(|at| self.after(at))
                    == u16::try_from(before + 1).ok()
            });
            if entry.first < 2 || count == 0 || !is_whole {
                return Err(bad(&format!(
                    "has a {} that is not in one piece",
                    entry.name
                )));
            }
            let place = Place {
                at: self.place(entry.first),
                size: entry.size,
            };
            files.insert(entry.name, place);
        }
        Ok(files)
    }
}

/// An entry of a folder.
struct Entry {
    name: String,
    is_folder: bool,
    first: u16,
    size: u64,
}

/// Those of a folder, with their long names where they have one.
fn entries(folder: &[u8]) -> Vec<Entry> {
    let (mut found, mut long) = (Vec::new(), BTreeMap::new());
    for entry in folder.chunks_exact(32) {
        match (entry[0], entry[11]) {
            (0, _) => break,
            (0xe5, _) => long.clear(),
            (number, 0x0f) => {
                let units = [&entry[1..11], &entry[14..26], &entry[28..32]].concat();
                long.insert(number & 0x1f, units);
            }
            // The label.
            (_, attributes) if attributes & 8 != 0 => long.clear(),
            (first, attributes) => {
                let units: Vec<u16> = std::mem::take(&mut long)
                    .into_values()
                    .flat_map(|units| {
                        units
                            .chunks_exact(2)
                            .map(|it| u16::from_le_bytes([it[0], it[1]]))
                            .collect::<Vec<_>>()
                    })
                    .take_while(|unit| *unit != 0)
                    .collect();
                let part = |bytes: &[u8]| {
                    String::from_utf8_lossy(bytes)
                        .trim_end()
                        .to_ascii_lowercase()
                };
                let short = match (part(&entry[..8]), part(&entry[8..11])) {
                    (stem, end) if end.is_empty() => stem,
                    (stem, end) => format!("{stem}.{end}"),
                };
                let name = if units.is_empty() {
                    short
                } else {
                    String::from_utf16_lossy(&units)
                };
                // Those of the folder itself and of the one above.
                if first != b'.' {
                    found.push(Entry {
                        name,
                        is_folder: attributes & 0x10 != 0,
                        first: u16::from_le_bytes([entry[26], entry[27]]),
                        size: u64::from(u32::from_le_bytes([
                            entry[28], entry[29], entry[30], entry[31],
                        ])),
                    });
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(parts: &str) -> Option<List> {
        List::parse(&format!("{MAGIC}\nversion camd 2\nbuilt 17\n{parts}"))
    }

    fn files(files: &[(&str, u64)]) -> BTreeMap<String, Place> {
        let place = |size| Place { at: 4096, size };
        files
            .iter()
            .map(|(name, size)| ((*name).to_owned(), place(*size)))
            .collect()
    }

    #[test]
    fn a_list_is_read_as_it_is_written_and_nothing_else_is_one() {
        let sum = "0a".repeat(32);
        let good = list(&format!(
            "part 65536 1024 a 0 {sum}\npart 66560 512 b 0 {sum}\n"
        ))
        .expect("a list");
        assert_eq!((good.version.as_str(), good.built), ("camd 2", 17));
        assert_eq!(good.parts[1].digest, [10; 32]);
        for bad in [
            format!("part 65535 1024 a 0 {sum}\n"),
            format!("part 65536 1024 a 0 {sum}\npart 66559 512 b 0 {sum}\n"),
            format!("part 65536 1048577 a 0 {sum}\n"),
            format!("part 99999999999999999999 1024 a 0 {sum}\n"),
            format!("part 18446744073709551615 1024 a 0 {sum}\n"),
            format!("part 65536 -1 a 0 {sum}\n"),
            format!("part 65536 1024 a 0 {sum}0\n"),
            format!("part 65536 1024 a 0 {}\n", "é".repeat(32)),
            format!("part 65536 1024 a 0 {sum} more\n"),
            "party\n".to_owned(),
            "\n".to_owned(),
        ] {
            assert_eq!(list(&bad), None, "{bad}");
        }
        assert_eq!(List::parse(MAGIC), None);
        assert_eq!(List::parse("camd-update 2\nversion x\nbuilt 1\n"), None);
    }

    #[test]
    fn the_parts_are_all_of_the_cards_files_and_nothing_else() {
        let sum = "0a".repeat(32);
        let whole = format!(
            "part 65536 1024 a 0 {sum}\npart 66560 512 a 1024 {sum}\npart 70000 512 b 0 {sum}\n"
        );
        let whole = list(&whole).expect("a list");
        assert!(whole.fits(&files(&[("a", 1536), ("b", 512)])));
        for other in [
            &[("a", 1536)][..],
            &[("a", 1024), ("b", 512)],
            &[("a", 2048), ("b", 512)],
            &[("a", 1536), ("b", 512), ("c", 512)],
            &[("a", 1536), ("c", 512)],
            &[],
        ] {
            assert!(!whole.fits(&files(other)), "{other:?}");
        }
        for parts in [
            // A gap, twice the same, and no whole sector.
            format!("part 65536 512 a 0 {sum}\npart 66560 512 a 1024 {sum}\n"),
            format!("part 65536 1024 a 0 {sum}\npart 66560 1024 a 0 {sum}\n"),
            format!("part 65536 1000 a 0 {sum}\npart 66560 536 a 1000 {sum}\n"),
        ] {
            let parts = list(&parts).expect("a list");
            assert!(!parts.fits(&files(&[("a", 1536)])), "{parts:?}");
        }
    }

    #[test]
    fn the_command_line_names_its_own_system() {
        let mut line = b"console=tty1 camd.slot=a quiet".to_vec();
        line.resize(511, b' ');
        line.push(b'\n');
        let own = command_line(&line, "b").expect("a line");
        assert_eq!(own.len(), 512);
        assert_eq!(
            str::from_utf8(&own).map(str::trim_end),
            Ok("console=tty1 quiet camd.slot=b")
        );
        assert_eq!(own.last(), Some(&b'\n'));
        assert_eq!(command_line(&[b'x'; 512], "b"), None, "there is no room");
        assert_eq!(command_line(&[0xff; 512], "b"), None);
    }

    #[test]
    fn what_is_not_signed_is_not_read() {
        let key =
            "untrusted comment: x\nRWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\n";
        let key = PublicKey::decode(key).expect("minisign's own");
        for (text, why) in [
            ("", NO_IMAGE),
            ("\0\0\0", NO_IMAGE),
            ("camd-update 1\nversion x\nbuilt 1\n", "it is not signed"),
            (
                "camd-update 1\nversion x\nbuilt 1\n\nsigned\n",
                "it is not signed",
            ),
            // minisign's own example, of another text.
            (
                "camd-update 1\nversion x\nbuilt 1\n\nuntrusted comment: signature from minisign secret key\n\
              RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=\n\
              trusted comment: timestamp:1633700835\tfile:test\tprehashed\n\
              wLMDjy9FLAuxZ3q4NlEvkgtyhrr0gtTu6KC4KBJdITbbOeAi1zBIYo0v4iTgt8jJpIidRJnp94ABQkJAgAooBQ==",
                "it is not signed with the key of this box's image",
            ),
        ] {
            assert_eq!(List::read(text.as_bytes(), &key), Err(image(why)), "{text}");
        }
    }

    #[test]
    fn a_client_that_has_gone_is_noticed() {
        let (camd, updater) = UnixStream::pair().expect("a pair");
        assert!(!is_given_up(&updater));
        drop(camd);
        assert!(is_given_up(&updater));
    }

    #[test]
    fn an_order_is_read_and_what_is_too_short_for_an_image_is_not_waited_for() {
        let options = Options {
            socket: "/nowhere".into(),
            key: concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml").into(),
            built: 17,
            device: "/nowhere".into(),
            slot: "b".into(),
            progress: "/nowhere/progress".into(),
            select: "/nowhere".into(),
        };
        let none = || Refused::Here("no order was given".into());
        for (line, why) in [
            ("update 65535 0\n", image(NO_IMAGE)),
            ("update 0 1\n", image(NO_IMAGE)),
            (
                "update 65536 0\n",
                Refused::Here("the box's key is none".into()),
            ),
            ("update x 0\n", none()),
            ("update -1 0\n", none()),
            ("update 70000\n", none()),
            (&"x".repeat(100), none()),
        ] {
            let (mut camd, mut updater) = UnixStream::pair().expect("a pair");
            camd.write_all(line.as_bytes()).expect("there is room");
            assert_eq!(receive(&options, &mut updater), Err(why), "{line}");
        }
    }
}

//! Keys: Qt's, which are texts; the files that they name; and System V's, which are numbers.

use std::env;
use std::fmt::{self, Write as _};
use std::fs::{self, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha1::{Digest, Sha1};

use super::error::Error;
use super::ipc::Key as IpcKey;

/// The name of a key in those of its files: its ASCII letters, and the SHA-1 of its UTF-8 in hexadecimal digits
/// (`QSharedMemoryPrivate::makePlatformSafeKey` of Qt 5, `QtIpcCommon::legacyPlatformSafeKey` of Qt 6).
pub fn id(key: &str) -> String {
    let mut id: String = key.chars().filter(char::is_ascii_alphabetic).collect();
    for byte in Sha1::digest(key) {
        // Writing to a String cannot fail.
        let _ = write!(id, "{byte:02x}");
    }
    id
}

/// A key, and where its files are.
#[derive(Clone, Debug)]
pub struct Key {
    text: String,
    semaphore: PathBuf,
    segment: PathBuf,
}

impl Key {
    /// In Qt's folder for temporary files (`QDir::tempPath`): `$TMPDIR`, or `/tmp` where that is not set or empty.
    pub fn new(key: &str) -> Key {
        let folder = env::var_os("TMPDIR").filter(|folder| !folder.is_empty());
        Key::within(
            key,
            &folder.map_or_else(|| PathBuf::from("/tmp"), PathBuf::from),
        )
    }

    /// The same with its files in this folder.
    pub fn within(key: &str, folder: &Path) -> Key {
        let id = id(key);
        Key {
            text: key.to_owned(),
            semaphore: folder.join(format!("qipc_systemsem_{id}")),
            segment: folder.join(format!("qipc_sharedmemory_{id}")),
        }
    }

    /// The empty file whose `ftok` is the key of the semaphore.
    pub fn semaphore_file(&self) -> &Path {
        &self.semaphore
    }

    /// The empty file whose `ftok` is the key of the segment.
    pub fn segment_file(&self) -> &Path {
        &self.segment
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shm:{}", self.text)
    }
}

/// ftok(3) with Qt's 'Q', as the C library defines it; `None` where there is no such file.
///
/// The folder may be everybody's: a link, which could lead anywhere, is an error, and so is what is no file.
pub(super) fn ftok(file: &Path) -> Result<Option<IpcKey>, Error> {
    match fs::symlink_metadata(file) {
        Ok(metadata) if metadata.is_file() => Ok(Some(number(metadata.dev(), metadata.ino()))),
        Ok(_) => Err(Error::Other(format!(
            "{} is not a regular file, so it cannot be trusted; remove it",
            file.display()
        ))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::Other(format!("{}: {error}", file.display()))),
    }
}

fn number(device: u64, inode: u64) -> IpcKey {
    let [inode_low, inode_high, ..] = inode.to_le_bytes();
    let [device, ..] = device.to_le_bytes();
    IpcKey::from_le_bytes([inode_low, inode_high, device, b'Q'])
}

/// Creates a file of a key, unless there is something of that name: no link is followed. As Qt does, for its own user and
/// to be read by the group; where everybody may use what it stands for, for everybody to read.
pub(super) fn create(file: &Path, mode: u32) -> Result<(), Error> {
    let permissions = if mode & 0o006 == 0 { 0o640 } else { 0o644 };
    let new = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(permissions)
        .open(file);
    match new {
        // The umask may have taken something away.
        Ok(new) if permissions == 0o644 => new
            .set_permissions(Permissions::from_mode(permissions))
            .map_err(|error| Error::Other(format!("{}: {error}", file.display()))),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(Error::Other(format!("{}: {error}", file.display()))),
    }
}

pub(super) fn remove(file: &Path) -> std::io::Result<()> {
    fs::remove_file(file)
}

/// Makes it young again. It may be another user's, which is as well.
pub(super) fn touch(file: &Path) {
    use nix::fcntl::AT_FDCWD;
    use nix::sys::stat::{UtimensatFlags, utimensat};
    use nix::sys::time::TimeSpec;
    let now = TimeSpec::UTIME_NOW;
    let _ = utimensat(AT_FDCWD, file, &now, &now, UtimensatFlags::NoFollowSymlink);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names that Qt 5.15 and 6.11 gave their files.
    #[test]
    fn names_are_qts() {
        for (key, expected) in [
            ("169254", "e5478af2f9231878be63438e430a6b19ebab6787"),
            (
                "camdtesta",
                "camdtestadad6ea9cfe145e8cd503d1ffad9b9a168ff87fa4",
            ),
            ("first", "firste0996a37c13d44c3b06074939d43fa3759bd32c1"),
        ] {
            assert_eq!(id(key), expected, "{key}");
        }
    }

    #[test]
    fn numbers_are_those_of_ftok() {
        assert_eq!(number(0xFE12, 0xABCD_6338), 0x5112_6338);
        let file = std::env::current_exe().unwrap();
        let path = std::ffi::CString::new(file.as_os_str().as_encoded_bytes()).unwrap();
        // SAFETY: a text with its NUL.
        let expected = unsafe { libc::ftok(path.as_ptr(), i32::from(b'Q')) };
        assert_eq!(ftok(&file).unwrap(), Some(expected));
    }
}

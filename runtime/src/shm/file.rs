//! Opens the file, and makes it first if needed. All processes that have a path open at one time map
//! the same inode, whichever process is killed at whatever moment.
//!
//! A process that has a file open holds a shared lock of it. The system drops the lock with the
//! last descriptor, however the process ends. A process that unlinks a file, or makes one, holds
//! the exclusive lock. A lock counts if the path still names the locked inode. A new file gets its
//! path, by a link, when it is complete; until then it is `<path>.<user>.new`.

use core::time::Duration;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{FallocateFlags, FlockOperation, OFlags, fallocate, flock};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid, getgroups};

use super::clock::ShmClock;
use super::header::{Header, Identity, PAGE, Unfit};
use super::host::{Counting, Host};
use super::options::ShmOptions;
use crate::Error;

/// How long to try again while others make or unlink the file. Locks of killed processes are gone at
/// once; this bound ends the wait for a stopped one.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long others may hold a file with other settings before that is an error. They may be about to
/// replace it too.
const DISAGREEMENT: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(1);

/// An open file of Tidegate's, under its shared lock, and its header.
#[derive(Debug)]
pub(super) struct OpenFile {
    /// The open file, which holds the lock.
    pub(super) file: File,
    pub(super) header: Header,
    pub(super) path: PathBuf,
}

/// The result of one attempt to open the file.
enum Attempt {
    Opened(OpenFile),
    /// Another process is making the file, or unlinking it.
    Busy,
    /// The file is in use with other settings.
    Disagrees(Error),
}

/// A file of another user, kind, format or damaged; nothing that time would change.
type Attempted = Result<Attempt, Error>;

struct Opening<'a> {
    options: &'a ShmOptions,
    identity: &'a Identity,
    host: Host,
    path: PathBuf,
}

/// Opens the file of these buckets.
#[expect(clippy::disallowed_methods, reason = "no event tells that another process is done")]
pub(super) fn open(options: &ShmOptions, identity: &Identity) -> Result<OpenFile, Error> {
    let path = options.directory.join(file_name(&options.name, identity));
    let opening = Opening { options, identity, host: Host::current(), path };
    let start = Instant::now();
    loop {
        let is_late = start.elapsed() >= DISAGREEMENT;
        match opening.attempt(is_late)? {
            Attempt::Opened(file) => return Ok(file),
            Attempt::Disagrees(why) if is_late => return Err(why),
            Attempt::Busy if start.elapsed() >= PATIENCE => {
                let why = "another process has been making or removing it for 5 s";
                return Err(refused(&opening.path, why));
            }
            _ => std::thread::sleep(PAUSE),
        }
    }
}

/// The beginning of the names of all files of one store name.
pub(super) fn name_stem(name: &str) -> String {
    format!("tidegate.{name}.")
}

fn file_name(name: &str, identity: &Identity) -> String {
    format!("{}{:016x}", name_stem(name), identity.hash())
}

impl Opening<'_> {
    /// A late attempt counts a locked file as in use: a process that only looked at it has released it
    /// by then.
    fn attempt(&self, is_late: bool) -> Attempted {
        let file = match open_existing(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.create(),
            Err(error) => return Err(cannot_open(&self.path, &error)),
        };
        self.check_owner(&file)?;
        if !lock(&file, FlockOperation::NonBlockingLockShared, &self.path)?
            || !is_named(&file, &self.path)
        {
            return Ok(Attempt::Busy);
        }
        let header = read_header(&file).map_err(|why| refused(&self.path, why))?;
        if header.identity != *self.identity {
            return Err(refused(&self.path, "it is the file of another prefix or other limits"));
        }
        let why = self.disagreement(&file, &header)?;
        let counting = header.host.counting(header.clock_offset, &self.host);
        if why.is_none() && counting == Counting::Alike {
            return Ok(self.opened(file, header));
        }
        if retire(&file, &self.path, || true)? {
            return Ok(Attempt::Busy);
        }
        let why = match (why, counting) {
            (Some(why), _) => why,
            (None, Counting::Otherwise) => {
                "its clock is that of another boot, host or time namespace".to_owned()
            }
            // A file that is locked was made in this boot, because locks do not survive one.
            (None, Counting::Unclear) if is_late => return self.share(file, header),
            (None, _) => return Ok(Attempt::Busy),
        };
        Ok(Attempt::Disagrees(refused(&self.path, format!("{why}; it is in use"))))
    }

    fn share(&self, file: File, header: Header) -> Attempted {
        if lock(&file, FlockOperation::NonBlockingLockShared, &self.path)?
            && is_named(&file, &self.path)
        {
            return Ok(self.opened(file, header));
        }
        Ok(Attempt::Busy)
    }

    fn opened(&self, file: File, header: Header) -> Attempt {
        Attempt::Opened(OpenFile { file, header, path: self.path.clone() })
    }

    /// Refuses anything but a regular file of this user, or one that is shared with this user.
    fn check_owner(&self, file: &File) -> Result<(), Error> {
        let found = file.metadata().map_err(|error| cannot_open(&self.path, &error))?;
        if !found.is_file() {
            return Err(refused(&self.path, "it is not a regular file"));
        }
        let mode = self.options.mode;
        if is_for_use(found.uid(), found.gid(), mode, geteuid().as_raw(), &own_groups()) {
            return Ok(());
        }
        let owner = found.uid();
        let why = format!("it belongs to user {owner}, and mode={mode:o} does not share it");
        Err(refused(&self.path, why))
    }

    /// Where the settings of a sound file differ from those asked for.
    fn disagreement(&self, file: &File, header: &Header) -> Result<Option<String>, Error> {
        let found = file.metadata().map_err(|error| cannot_open(&self.path, &error))?;
        let mode = found.mode() & 0o7777;
        let options = self.options;
        let message = if mode != options.mode {
            format!("its permissions are {mode:o}, but mode={:o} is asked for", options.mode)
        } else if header.max_keys != options.max_keys {
            let (theirs, ours) = (header.max_keys, options.max_keys);
            format!("it was made with max_keys={theirs}, but max_keys={ours} is asked for")
        } else if header.on_full != options.on_full {
            let (theirs, ours) = (header.on_full.as_str(), options.on_full.as_str());
            format!("it was made with on_full={theirs}, but on_full={ours} is asked for")
        } else {
            return Ok(None);
        };
        Ok(Some(message))
    }

    /// Makes the file, unless another process of this user is making it.
    fn create(&self) -> Attempted {
        let unfinished = self.unfinished_path();
        let failed = |error: io::Error| cannot("be made", &self.path, &error);
        let file = open_options(OFlags::NOFOLLOW)
            .create(true)
            .mode(0o600)
            .open(&unfinished)
            .map_err(|error| cannot_open(&unfinished, &error))?;
        let found = file.metadata().map_err(failed)?;
        if !found.is_file() || found.uid() != geteuid().as_raw() {
            return Err(refused(&unfinished, "it is not a regular file of this user's"));
        }
        if !lock(&file, FlockOperation::NonBlockingLockExclusive, &unfinished)?
            || !is_named(&file, &unfinished)
        {
            return Ok(Attempt::Busy);
        }
        // No other process of this user can be past this point, for the same path, until the lock is
        // released. The file may have been left by a process that was killed here.
        let unfinished = Unfinished(unfinished);
        if fs::symlink_metadata(&self.path).is_ok() {
            return Ok(Attempt::Busy);
        }
        let header = self.new_header()?;
        fill(&file, &header, self.options.mode).map_err(failed)?;
        match fs::hard_link(&unfinished.0, &self.path) {
            Ok(()) => {}
            // Another user was first, or somebody has removed the unfinished file.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(Attempt::Busy),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Attempt::Busy),
            Err(error) => return Err(failed(error)),
        }
        drop(unfinished);
        self.share(file, header)
    }

    fn unfinished_path(&self) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(format!(".{}.new", geteuid().as_raw()));
        path.into()
    }

    fn new_header(&self) -> Result<Header, Error> {
        let mut seed = [0; 2];
        for word in &mut seed {
            *word = getrandom::u64().map_err(|error| {
                Error::Store(format!("there is no random seed: {error}").into())
            })?;
        }
        let offset = ShmClock::offset_now();
        Ok(Header::new(self.identity.clone(), self.options, self.host, offset, seed))
    }
}

/// The path of a file that is being made; unlinked when this is dropped.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // If it cannot be unlinked, the next process that makes the file uses it again.
        let _ = fs::remove_file(&self.0);
    }
}

/// Whether a file of this owner and group, with the mode that this user asks for, is one that the
/// user makes or wants to share. Any other file may be a trap.
fn is_for_use(owner: u32, group: u32, mode: u32, user: u32, groups: &[u32]) -> bool {
    owner == user || mode == 0o666 || mode == 0o660 && groups.contains(&group)
}

fn own_groups() -> Vec<u32> {
    let supplementary = getgroups().unwrap_or_default();
    supplementary.into_iter().chain([getegid()]).map(|group| group.as_raw()).collect()
}

/// Opens a file, without following a link or waiting for the other end of a pipe.
pub(super) fn open_existing(path: &Path) -> io::Result<File> {
    open_options(OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).open(path)
}

fn open_options(flags: OFlags) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(flags.bits().cast_signed());
    options
}

/// Reads the header of a file and compares the file's length with it.
pub(super) fn read_header(file: &File) -> Result<Header, String> {
    let mut page = [0; PAGE];
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    if length < PAGE as u64 {
        return Err(Unfit::Foreign.to_string());
    }
    file.read_exact_at(&mut page, 0).map_err(|error| error.to_string())?;
    let header = Header::decode(&page).map_err(|unfit| unfit.to_string())?;
    let right = header.file_length();
    if length != right {
        return Err(format!("it has {length} bytes, but must have {right}"));
    }
    Ok(header)
}

/// Unlinks a file that nobody else has open, if it is to go; false if somebody has it open.
pub(super) fn retire(
    file: &File,
    path: &Path,
    is_to_go: impl FnOnce() -> bool,
) -> Result<bool, Error> {
    if !lock(file, FlockOperation::NonBlockingLockExclusive, path)? {
        return Ok(false);
    }
    // While the lock is held, nobody else unlinks the path or puts another file there.
    if is_named(file, path) && is_to_go() {
        fs::remove_file(path).map_err(|error| cannot("be removed", path, &error))?;
    }
    Ok(true)
}

/// Gives a new file its length, its content and its permissions. All of its blocks are reserved now,
/// so a full file system is an error here, and not a fault at a later access.
fn fill(file: &File, header: &Header, mode: u32) -> io::Result<()> {
    file.set_len(0)?;
    let length = header.file_length();
    match fallocate(file, FallocateFlags::empty(), 0, length) {
        Ok(()) => {}
        // These are two names of one error on Linux, and two errors on macOS.
        Err(error) if [Errno::OPNOTSUPP, Errno::NOTSUP, Errno::NOSYS].contains(&error) => {
            write_zeros(file, length)?;
        }
        Err(error) => return Err(error.into()),
    }
    file.write_all_at(&header.encode(), 0)?;
    file.set_permissions(Permissions::from_mode(mode))
}

fn write_zeros(file: &File, length: u64) -> io::Result<()> {
    let zeros = [0; 64 * 1024];
    let mut written = 0;
    while written < length {
        let part = (length - written).min(zeros.len() as u64);
        file.write_all_at(zeros.get(..part as usize).unwrap_or(&zeros), written)?;
        written += part;
    }
    Ok(())
}

/// Takes a lock; false if another lock is in the way.
fn lock(file: &File, operation: FlockOperation, path: &Path) -> Result<bool, Error> {
    match flock(file, operation) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(false),
        Err(error) => Err(cannot("be locked", path, &error.into())),
    }
}

/// Whether the path still names the file.
pub(super) fn is_named(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

fn cannot_open(path: &Path, error: &io::Error) -> Error {
    match Errno::from_io_error(error) {
        Some(Errno::LOOP) => refused(path, "it is a symbolic link"),
        Some(Errno::ISDIR | Errno::NXIO) => refused(path, "it is not a regular file"),
        _ => cannot("be opened", path, error),
    }
}

fn cannot(done: &str, path: &Path, error: &io::Error) -> Error {
    Error::Store(format!("the shared memory file {} cannot {done}: {error}", path.display()).into())
}

pub(super) fn refused(path: &Path, why: impl core::fmt::Display) -> Error {
    Error::Store(format!("the shared memory file {} is refused: {why}", path.display()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_written_where_nothing_else_takes_room() -> io::Result<()> {
        let path = std::env::temp_dir().join(format!("tidegate-zeros-{}", std::process::id()));
        let file = open_options(OFlags::NOFOLLOW).create_new(true).open(&path)?;
        fs::remove_file(&path)?;
        for length in [200_000, 65_536, 1] {
            file.set_len(0)?;
            write_zeros(&file, length)?;
            let mut found = vec![1; usize::try_from(length).unwrap_or(0)];
            file.read_exact_at(&mut found, 0)?;
            assert!(found.iter().all(|&byte| byte == 0));
            assert_eq!(file.metadata()?.len(), length);
        }
        Ok(())
    }

    #[test]
    fn a_file_of_another_user_is_for_use_only_as_the_mode_says() {
        const ME: u32 = 1000;
        const OTHER: u32 = 1001;
        const GROUPS: [u32; 2] = [100, 101];
        for mode in [0o600, 0o660, 0o666] {
            assert!(is_for_use(ME, 999, mode, ME, &GROUPS));
        }
        assert!(!is_for_use(OTHER, 100, 0o600, ME, &GROUPS));
        assert!(is_for_use(OTHER, 101, 0o660, ME, &GROUPS));
        assert!(!is_for_use(OTHER, 102, 0o660, ME, &GROUPS));
        assert!(is_for_use(OTHER, 102, 0o666, ME, &GROUPS));
        // Root can open every file, which is no reason to trust them.
        assert!(!is_for_use(OTHER, 100, 0o600, 0, &[0]));
    }
}

//! Opens the file, making it first if need be, so that every process that opens one path
//! at a time maps one inode, whoever is killed at whatever moment.
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

/// How long to try again while others are making or unlinking the file. Locks of
/// killed processes are gone at once; this ends the wait for a stopped one.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a file that disagrees may be held by others before that is the answer: they may
/// be about to replace it too.
const DISAGREEMENT: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(1);

/// An open file of ours, under its shared lock, and what it says of itself.
#[derive(Debug)]
pub(super) struct OpenFile {
    /// Held for its lock.
    pub(super) file: File,
    pub(super) header: Header,
    pub(super) path: PathBuf,
}

/// What one attempt to open came to.
enum Attempt {
    Opened(OpenFile),
    /// Somebody is making the file, or unlinking it.
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

/// What every file of a name begins with.
pub(super) fn name_stem(name: &str) -> String {
    format!("tidegate.{name}.")
}

fn file_name(name: &str, identity: &Identity) -> String {
    format!("{}{:016x}", name_stem(name), identity.hash())
}

impl Opening<'_> {
    /// A late attempt takes a file that is locked for one in use: by then, whoever only
    /// looked at it has let it go.
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
            // In use makes clear that it is of this boot: locks end with theirs.
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

    /// Refuses what is not a plain file, or is another user's and not shared with this one.
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

    /// Where the settings of a sound file of ours are not those asked for.
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

    /// Makes the file, unless another process of this user is at it.
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
        // Nobody else of this user can be past this point, for the same path, until the lock
        // is given back. The file may be the remains of one who was killed here.
        let unfinished = Unfinished(unfinished);
        if fs::symlink_metadata(&self.path).is_ok() {
            return Ok(Attempt::Busy);
        }
        let header = self.new_header()?;
        fill(&file, &header, self.options.mode).map_err(failed)?;
        match fs::hard_link(&unfinished.0, &self.path) {
            Ok(()) => {}
            // Another user was first; or somebody has cleared the unfinished file away.
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
            *word = getrandom::u64()
                .map_err(|error| Error::Store(format!("there is no random seed: {error}")))?;
        }
        let offset = ShmClock::offset_now();
        Ok(Header::new(self.identity.clone(), self.options, self.host, offset, seed))
    }
}

/// The path of a file that is being made; unlinked when this is dropped.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // What cannot be unlinked is used again by the next who makes the file.
        let _ = fs::remove_file(&self.0);
    }
}

/// Whether a file of this owner and group, with the mode that this user asks for, is one that
/// the user makes or means to share. Anything else may be a trap.
fn is_for_use(owner: u32, group: u32, mode: u32, user: u32, groups: &[u32]) -> bool {
    owner == user || mode == 0o666 || mode == 0o660 && groups.contains(&group)
}

fn own_groups() -> Vec<u32> {
    let supplementary = getgroups().unwrap_or_default();
    supplementary.into_iter().chain([getegid()]).map(|group| group.as_raw()).collect()
}

/// Opens without following a link or waiting for a pipe's other end.
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

/// Unlinks a file that nobody else has open, if it is to go; false when somebody has.
pub(super) fn retire(
    file: &File,
    path: &Path,
    is_to_go: impl FnOnce() -> bool,
) -> Result<bool, Error> {
    if !lock(file, FlockOperation::NonBlockingLockExclusive, path)? {
        return Ok(false);
    }
    // While the lock is held nobody else unlinks the path, or puts another file there.
    if is_named(file, path) && is_to_go() {
        fs::remove_file(path).map_err(|error| cannot("be removed", path, &error))?;
    }
    Ok(true)
}

/// Gives a new file its length, its content and its permissions. All of its blocks are taken
/// now: a full file system is an error here, not a fault at some later access.
fn fill(file: &File, header: &Header, mode: u32) -> io::Result<()> {
    file.set_len(0)?;
    let length = header.file_length();
    match fallocate(file, FallocateFlags::empty(), 0, length) {
        Ok(()) => {}
        // Two names of one error on Linux, two errors on macOS.
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

/// False when another has a lock in the way.
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
    Error::Store(format!("the shared memory file {} cannot {done}: {error}", path.display()))
}

pub(super) fn refused(path: &Path, why: impl core::fmt::Display) -> Error {
    Error::Store(format!("the shared memory file {} is refused: {why}", path.display()))
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
        // Root can open everything; that is no reason to trust it.
        assert!(!is_for_use(OTHER, 100, 0o600, 0, &[0]));
    }
}

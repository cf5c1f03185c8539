//! Files that `shm://` refuses to open.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use crate::processes::{Directory, Role};

const LIMITS: [&str; 1] = ["10/d"];

/// Changes a closed file, and returns the error of opening it. A refused file stays as it is.
fn refusal_of(change: impl FnOnce(&Path, &File)) -> String {
    let directory = Directory::new();
    drop(directory.open("", &LIMITS).unwrap());
    let path = directory.only_file();
    change(&path, &OpenOptions::new().write(true).open(&path).unwrap());
    let message = directory.open("", &LIMITS).unwrap_err().to_string();
    assert!(message.contains(&*path.to_string_lossy()), "{message}");
    assert!(fs::symlink_metadata(path).is_ok());
    message
}

#[track_caller]
fn assert_says(message: &str, why: &str) {
    assert!(message.contains(why), "{message}");
}

#[test]
fn a_file_that_is_not_ours() {
    let refused = refusal_of(|_, file| file.write_all_at(b"SQLite format 3", 0).unwrap());
    assert_says(&refused, "not a file of Tidegate's");
    for length in [0, 1, 4_095] {
        let refused = refusal_of(|_, file| file.set_len(length).unwrap());
        assert_says(&refused, "not a file of Tidegate's");
    }
}

#[test]
fn another_version() {
    let refused = refusal_of(|_, file| file.write_all_at(&9u64.to_ne_bytes(), 8).unwrap());
    assert_says(&refused, "version 9, but this Tidegate's is 1");
}

#[test]
fn a_damaged_header() {
    let refused = refusal_of(|_, file| file.write_all_at(b"?", 57).unwrap());
    assert_says(&refused, "its header is damaged");
}

#[test]
fn a_truncated_file_and_one_too_long() {
    // 142,864 slots and a page of 256.
    let right = (142_864 + 256) * 16;
    for length in [4_096, right - 16, right + 1] {
        let refused = refusal_of(|_, file| file.set_len(length).unwrap());
        assert_says(&refused, &format!("it has {length} bytes, but must have {right}"));
    }
}

#[test]
fn a_symbolic_link_wherever_it_leads() {
    let to_itself = refusal_of(|path, _| {
        let elsewhere = path.with_extension("elsewhere");
        fs::rename(path, &elsewhere).unwrap();
        symlink(elsewhere, path).unwrap();
    });
    assert_says(&to_itself, "it is a symbolic link");
    let to_nothing = refusal_of(|path, _| {
        fs::remove_file(path).unwrap();
        symlink("/nowhere/at/all", path).unwrap();
    });
    assert_says(&to_nothing, "it is a symbolic link");
}

#[test]
fn what_is_not_a_regular_file() {
    let directory = refusal_of(|path, _| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
    });
    assert_says(&directory, "not a regular file");
    let pipe = refusal_of(|path, _| {
        fs::remove_file(path).unwrap();
        let path = CString::new(path.as_os_str().as_bytes()).unwrap();
        // SAFETY: `path` is a string that ends in a zero.
        assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
    });
    assert_says(&pipe, "not a regular file");
}

#[test]
fn other_settings_than_those_in_use() {
    let directory = Directory::new();
    // The second limiter holds the file that the first one has made, which is as good as making it.
    drop(directory.open("", &LIMITS).unwrap());
    let held = directory.open("", &LIMITS).unwrap();
    for (query, why) in [
        ("&max_keys=5", "max_keys=100000, but max_keys=5 is asked for"),
        ("&on_full=deny", "on_full=evict_idlest, but on_full=deny is asked for"),
        ("&mode=660", "permissions are 600, but mode=660 is asked for"),
    ] {
        assert_says(&directory.open(query, &LIMITS).unwrap_err().to_string(), why);
    }
    assert!(held.check("key", 1).unwrap().allowed);
}

#[test]
fn a_directory_that_is_not_there() {
    let directory = Directory::new();
    let url = format!("{}/none", directory.url("test", ""));
    let refused = crate::processes::open(&url, &LIMITS).unwrap_err().to_string();
    assert_says(&refused, "cannot be opened");
}

/// Opening takes the room of the whole file at once, so that a full file system is an error then and
/// not a fault later. A limit on the length of files stands for a full file system here.
#[test]
fn no_room_for_the_whole_file() {
    let directory = Directory::in_memory();
    let role = Role {
        name: "open",
        url: directory.url("test", ""),
        limits: LIMITS[0],
        results: directory.0.join("results"),
        shell: "trap '' XFSZ; ulimit -f 8;",
        ..Role::default()
    };
    role.start().finish();
    assert_says(&fs::read_to_string(&role.results).unwrap(), "cannot be made: File too large");
    assert!(directory.files().is_empty());
}

#[test]
fn all_of_a_new_files_room_is_taken() {
    let directory = Directory::in_memory();
    let _limiter = directory.open("", &LIMITS).unwrap();
    let file = directory.only_file().metadata().unwrap();
    assert!(file.blocks() * 512 >= file.len(), "{} blocks of 512 bytes", file.blocks());
}

#[test]
fn permissions_are_those_asked_for_whatever_the_umask() {
    for (umask, query, mode) in [
        ("umask 0;", "", 0o600),
        ("umask 077;", "&mode=660", 0o660),
        ("umask 027;", "&mode=0666", 0o666),
    ] {
        let directory = Directory::new();
        let role = Role {
            name: "open",
            url: directory.url("test", query),
            limits: LIMITS[0],
            results: directory.0.join("results"),
            shell: umask,
            ..Role::default()
        };
        role.start().finish();
        let found = directory.only_file().metadata().unwrap().permissions().mode();
        assert_eq!(found & 0o7777, mode, "{umask}");
    }
}

#[test]
fn settings_of_a_shared_file_that_are_not_in_its_url() {
    let directory = Directory::new();
    let builder =
        || tidegate::Limiter::builder().limit("10/d").store_url(&directory.url("test", ""));
    for builder in [builder().max_keys(7), builder().on_full(tidegate::OnFull::Deny)] {
        assert_says(&builder.build().unwrap_err().to_string(), "into the URL of shm://");
    }
}

#[test]
fn a_clock_of_ones_own() {
    let directory = Directory::new();
    let builder = tidegate::Limiter::builder().limit("10/d").store_url(&directory.url("test", ""));
    let refused = builder.clock(std::sync::Arc::new(tidegate::WallClock)).build();
    assert_says(&refused.unwrap_err().to_string(), "clock of its own");
}

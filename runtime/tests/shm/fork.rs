//! A forked child uses its parent's `shm://`.

use std::fs;

use tidegate::Limiter;

use crate::processes::{Directory, Role, eventually};

/// Forks. The child runs `work` and exits with its result.
fn fork(work: impl FnOnce() -> i32) -> i32 {
    // SAFETY: The child does only what the child of a process with threads may do: `work` neither
    // allocates nor locks, and `_exit` runs no destructor.
    unsafe {
        match libc::fork() {
            0 => libc::_exit(work()),
            child => child,
        }
    }
}

fn wait(child: i32) -> i32 {
    let mut status = 0;
    // SAFETY: `status` is a live integer, `child` a child of this process.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert!(libc::WIFEXITED(status), "{status}");
    libc::WEXITSTATUS(status)
}

fn spend(limiter: &Limiter, calls: i32) -> i32 {
    let spend_one = || limiter.check("key", 1).is_ok_and(|decision| decision.allowed);
    (0..calls).map(|_| i32::from(spend_one())).sum()
}

#[test]
fn a_forked_child_spends_from_the_same_bucket() {
    let directory = Directory::new();
    let limiter = directory.open("", &["10/d"]).unwrap();
    assert_eq!(spend(&limiter, 3), 3);
    let children = [fork(|| spend(&limiter, 4)), fork(|| spend(&limiter, 4))];
    let spent: i32 = children.into_iter().map(wait).sum();
    assert_eq!(spent, 7);
    assert_eq!(spend(&limiter, 1), 0);
}

/// The role: opens the store and leaves it to a forked child, which does nothing. It is a process of its
/// own, because a child of the test's process would also keep the files of other tests open.
pub(crate) fn leave_to_a_child(role: &Role) {
    let _limiter = role.limiter().unwrap();
    // SAFETY: Both are async-signal-safe. The alarm ends the child if nothing else does.
    let child = fork(|| unsafe {
        libc::alarm(60);
        libc::pause()
    });
    role.report(&child.to_string());
}

#[test]
fn a_file_that_only_a_child_has_open_is_in_use() {
    let directory = Directory::new();
    let url = directory.url("test", "");
    let results = directory.0.join("results");
    let role = Role { name: "fork", url, limits: "10/d", results, ..Role::default() };
    role.start().finish();
    let refused = directory.open("&max_keys=7", &["10/d"]).map(|_| "opened");

    let child: i32 = fs::read_to_string(&role.results).unwrap().parse().unwrap();
    // SAFETY: The arguments are the number of a child that waits for this signal, and the signal.
    assert_eq!(unsafe { libc::kill(child, libc::SIGKILL) }, 0);
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("it is in use"), "{refused}");
    eventually("the file is free", || directory.open("&max_keys=7", &["10/d"]).is_ok());
}

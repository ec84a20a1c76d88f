//! The last words of a process that made a system call which its filter answers by SIGSYS ([`super::jail::Answer::Trap`]).

use std::io;
use std::sync::OnceLock;

use nix::libc::{self, c_int, c_long, c_void, siginfo_t};

/// What stands in front of a line on standard error, and the calls' names.
struct Words {
    front: &'static str,
    names: &'static [(c_long, &'static str)],
}

static WORDS: OnceLock<Words> = OnceLock::new();

/// How long standard error has to take the line, in seconds: the process ends in any case.
const PATIENCE: u32 = 1;

/// Has the name of the call said when a thread is sent SIGSYS. The process ends by that signal all the same.
pub fn say_names(front: &'static str, names: &'static [(c_long, &'static str)]) -> io::Result<()> {
    let _ = WORDS.set(Words { front, names });
    // SAFETY: an action of zeroes is one without flags and mask; the handler does what a handler may.
    let installed = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = say as *const () as usize;
        // The handler is for one call. A second one ends the process at once.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESETHAND;
        libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut())
    };
    match installed {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The number of the call: `si_syscall` (sigaction(2)), behind three numbers and an address.
fn number(info: *const siginfo_t) -> c_int {
    let address = (3 * size_of::<c_int>()).next_multiple_of(align_of::<usize>());
    let at = address + size_of::<usize>();
    // SAFETY: the kernel fills so much of it for this signal, and the place is aligned for a number.
    unsafe { info.cast::<u8>().add(at).cast::<c_int>().read() }
}

extern "C" fn say(_: c_int, info: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: alarm, write and raise may be called in a handler; nothing is allocated, and no lock is taken.
    unsafe {
        // The signal that follows has no handler.
        libc::alarm(PATIENCE);
        if let Some(Words { front, names }) = WORDS.get() {
            let number = c_long::from(number(info));
            let mut names = names.iter().filter(|(call, _)| *call == number);
            let name = names.next().map_or("a system call", |(_, name)| name);
            let parts = [
                front,
                "camd: ended by its sandbox, because it was made to call ",
                name,
                ": it has been attacked, or has a fault\n",
            ];
            let parts = parts.map(|part| libc::iovec {
                iov_base: part.as_ptr().cast_mut().cast(),
                iov_len: part.len(),
            });
            // In one piece, because where that is /dev/kmsg each write is a message of its own.
            libc::writev(libc::STDERR_FILENO, parts.as_ptr(), parts.len() as c_int);
        }
        // It comes when this function returns, and its action is the kernel's own by now.
        libc::raise(libc::SIGSYS);
    }
}

//! Libraries that were loaded in front of the C library (LD_PRELOAD), and stand in for functions of its.

use std::ffi::CStr;

use nix::libc;

/// The C library, by the name under which it is loaded already.
const C_LIBRARY: &CStr = c"libc.so.6";

/// Whether calls of this function of the C library reach something else first. Where there is no C library of that name, as in
/// a program that is linked statically, nothing can stand in for it.
pub fn stands_in_for(function: &CStr) -> bool {
    // SAFETY: the names are strings. The handle, where there is one, is of a library that stays: it is not loaded here, and
    // given back at once. The addresses are compared, not used.
    unsafe {
        let library = libc::dlopen(C_LIBRARY.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD);
        if library.is_null() {
            return false;
        }
        let own = libc::dlsym(library, function.as_ptr());
        let first = libc::dlsym(libc::RTLD_DEFAULT, function.as_ptr());
        libc::dlclose(library);
        !own.is_null() && own != first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_stands_in_here_and_what_is_not_there_cannot_be_stood_in_for() {
        for function in [c"ioctl", c"open64", c"no_such_function"] {
            assert!(!stands_in_for(function), "{function:?}");
        }
    }
}

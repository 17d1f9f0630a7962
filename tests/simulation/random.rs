//! The hash maps of the standard library iterate in an order that it draws from the operating system. For a seed to repeat
//! itself the operating system's answer has to be the same each time: this is the symbol that the library asks.

#![allow(unsafe_code, reason = "it takes the place of a function of the C library")]

use std::cell::Cell;

thread_local! {
    static STATE: Cell<u64> = const { Cell::new(0x9e37_79b9_7f4a_7c15) };
}

/// From here on this thread draws from the seed.
pub fn seed(seed: u64) {
    STATE.set(seed ^ 0x9e37_79b9_7f4a_7c15);
}

/// getrandom(2), by a xorshift.
///
/// # Safety
/// `buffer` must have room for `length` bytes, as for the function it replaces.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    for at in 0..length {
        let mut state = STATE.get() | 1;
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        STATE.set(state);
        // SAFETY: `at` is below `length`, and the caller promises that much room.
        unsafe { *buffer.add(at) = (state >> 24) as u8 };
    }
    isize::try_from(length).unwrap_or(isize::MAX)
}

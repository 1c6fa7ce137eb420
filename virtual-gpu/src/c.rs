//! What C callers pass: places to write answers to, and text.
//!
//! These types only come into being as arguments of exported functions, whose callers promise that
//! a pointer is null or good for its type, as the drivers' headers ask.

use std::ffi::{CStr, c_char, c_void};

/// A pointer argument was null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NullPointer;

/// Where an answer goes.
#[repr(transparent)]
pub struct Out<T>(*mut T);

impl<T> Out<T> {
    /// Whether the caller wants no answer here.
    pub fn is_null(&self) -> bool {
        self.0.is_null()
    }

    /// Writes the answer.
    pub fn set(&self, value: T) -> Result<(), NullPointer> {
        if self.0.is_null() {
            return Err(NullPointer);
        }
        // SAFETY: not null, so the caller of the exported function vouches for it.
        unsafe { self.0.write(value) };
        Ok(())
    }

    /// Writes one of several answers.
    pub fn set_at(&self, index: usize, value: T) -> Result<(), NullPointer> {
        if self.0.is_null() {
            return Err(NullPointer);
        }
        // SAFETY: the caller said that there is room for more than `index` answers.
        unsafe { self.0.add(index).write(value) };
        Ok(())
    }
}

impl<T: Copy> Out<T> {
    /// Reads what the caller put there.
    pub fn get(&self) -> Result<T, NullPointer> {
        if self.0.is_null() {
            return Err(NullPointer);
        }
        // SAFETY: not null, so the caller of the exported function vouches for it.
        Ok(unsafe { self.0.read() })
    }
}

/// A structure to read.
#[repr(transparent)]
pub struct In<T>(*const T);

impl<T: Copy> In<T> {
    /// Reads it, or the one at `index` of several.
    pub fn get(&self, index: usize) -> Result<T, NullPointer> {
        if self.0.is_null() {
            return Err(NullPointer);
        }
        // SAFETY: the caller vouches for the pointer and for more than `index` structures.
        Ok(unsafe { self.0.add(index).read() })
    }
}

/// Text that ends in NUL.
#[repr(transparent)]
pub struct Text(*const c_char);

impl Text {
    /// Reads it; what is not UTF-8 is replaced.
    pub fn get(&self) -> Result<String, NullPointer> {
        if self.0.is_null() {
            return Err(NullPointer);
        }
        // SAFETY: not null, so the caller vouches that it ends in NUL.
        Ok(unsafe { CStr::from_ptr(self.0) }.to_string_lossy().into_owned())
    }
}

impl Out<c_void> {
    /// Writes a structure of which only the bytes are known.
    pub fn set_bytes(&self, bytes: &[u8]) -> Result<(), NullPointer> {
        if self.0.is_null() {
            return Err(NullPointer);
        }
        // SAFETY: the caller vouches for room for the structure, whose bytes these are.
        unsafe { self.0.cast::<u8>().copy_from(bytes.as_ptr(), bytes.len()) };
        Ok(())
    }
}

impl<T> Out<T> {
    /// Writes the answer if the caller wants one.
    pub fn set_if_wanted(&self, value: T) {
        // Not wanted is no failure.
        let _ = self.set(value);
    }
}

impl Out<c_char> {
    /// Writes as much of `text` as fits into `room` characters with the NUL, and says whether
    /// that was all of it.
    pub fn set_text(&self, text: &str, room: usize) -> Result<bool, NullPointer> {
        let fitting = text.len().min(room.saturating_sub(1));
        if room > 0 {
            for (index, byte) in text.bytes().take(fitting).chain([0]).enumerate() {
                self.set_at(index, byte as c_char)?;
            }
        }
        Ok(fitting == text.len() && room > 0)
    }
}

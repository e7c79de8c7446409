//! Wakes a reader outside Rust: one byte per wake-up on a socket that it watches.

use std::io;

use crate::engine::Wake;

#[cfg(unix)]
type Socket = std::os::unix::net::UnixStream;
#[cfg(windows)]
type Socket = std::net::TcpStream;

/// Sends one byte per wake-up into a socket that Python reads.
pub struct SocketWaker(Socket);

impl SocketWaker {
    /// Duplicates the socket by its number and makes it non-blocking; the caller may close its own.
    ///
    /// # Errors
    /// Those of the operating system, when the number is no open socket of the right family.
    pub fn new(wake_fd: i64) -> io::Result<Self> {
        let socket = Socket::from(duplicate(wake_fd)?);
        // Fails for what is no socket, before anything is changed about it.
        socket.local_addr()?;
        socket.set_nonblocking(true)?;
        Ok(Self(socket))
    }
}

#[cfg(unix)]
fn duplicate(wake_fd: i64) -> io::Result<std::os::fd::OwnedFd> {
    let bad = || io::Error::new(io::ErrorKind::InvalidInput, format!("{wake_fd} is no file number"));
    let number = i32::try_from(wake_fd).ok().filter(|number| *number >= 0).ok_or_else(bad)?;
    // SAFETY: the number is not -1, is only duplicated during this call, and a closed one gives an error.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(number) }.try_clone_to_owned()
}

#[cfg(windows)]
fn duplicate(wake_fd: i64) -> io::Result<std::os::windows::io::OwnedSocket> {
    let bad = || io::Error::new(io::ErrorKind::InvalidInput, format!("{wake_fd} is no socket"));
    let number = u64::try_from(wake_fd).map_err(|_| bad())?;
    // SAFETY: the number is not INVALID_SOCKET, is only duplicated during this call, and a closed one gives an error.
    unsafe { std::os::windows::io::BorrowedSocket::borrow_raw(number) }.try_clone_to_owned()
}

impl Wake for SocketWaker {
    fn wake(&self) {
        // A full buffer means that the reader has not read yet and will; a closed one that nobody does.
        let _ = io::Write::write(&mut &self.0, &[1]);
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::io::Read;
    use std::os::fd::{AsRawFd, IntoRawFd};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_wake_up_is_one_byte_even_after_the_caller_closed_its_end() {
        let (mut reader, writer) = UnixStream::pair().unwrap();
        let waker = SocketWaker::new(writer.as_raw_fd().into()).unwrap();
        drop(writer);
        waker.wake();
        drop(waker);
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, [1]);
    }

    #[test]
    fn a_reader_that_does_not_read_or_is_gone_blocks_nobody() {
        let (reader, writer) = UnixStream::pair().unwrap();
        let waker = SocketWaker::new(writer.as_raw_fd().into()).unwrap();
        for _ in 0..1_000_000 {
            waker.wake();
        }
        drop(reader);
        waker.wake();
    }

    #[test]
    fn a_number_that_is_no_socket_is_refused() {
        let file = tempfile::tempfile().unwrap();
        for number in [-1, i64::from(i32::MAX), i64::MAX, i64::from(file.into_raw_fd())] {
            assert!(SocketWaker::new(number).is_err());
        }
    }
}

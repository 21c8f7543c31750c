//! The queue of log lines, and the thread that writes them. Adding a line never blocks and never fails; the thread never panics
//! and never spins.

use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

/// The pause before another try to write to a full non-blocking pipe.
const FULL_PAUSE: Duration = Duration::from_millis(50);

pub(super) struct Sink {
    waiting: Mutex<Waiting>,
    /// Signals that there are lines.
    filled: Condvar,
    /// Signals that all lines are written or dropped.
    emptied: Condvar,
    buffer: usize,
    lost: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    text: Vec<u8>,
    lines: u64,
    /// The thread is writing lines.
    writing: bool,
}

impl Sink {
    /// Starts the thread. At most `buffer` bytes may wait.
    pub(super) fn start(buffer: usize, out: impl Write + Send + 'static) -> io::Result<Arc<Self>> {
        let sink = Arc::new(Self {
            waiting: Mutex::default(),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            buffer,
            lost: AtomicU64::new(0),
        });
        let writer = sink.clone();
        std::thread::Builder::new().name("log".into()).spawn(move || writer.run(out))?;
        Ok(sink)
    }

    /// The number of lines that could not be written.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Waits until the lines so far are written or dropped, for at most `longest`.
    pub(super) fn flush(&self, longest: Duration) {
        let busy = |waiting: &mut Waiting| waiting.writing || waiting.lines > 0;
        // The caller ends the process in either case.
        self.emptied.wait_while_for(&mut self.waiting(), busy, longest);
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock()
    }

    fn add(&self, line: &[u8]) {
        let mut waiting = self.waiting();
        if waiting.text.len() + line.len() > self.buffer {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.text.extend_from_slice(line);
        waiting.lines += 1;
        drop(waiting);
        self.filled.notify_one();
    }

    fn run(&self, mut out: impl Write) {
        let (mut text, mut reported, mut torn) = (Vec::new(), 0, false);
        loop {
            let lines = self.take(&mut text);
            if torn {
                // Ends the line that an error has cut off.
                text.insert(0, b'\n');
            }
            let written = write(&mut out, &text);
            if written < text.len() {
                let whole = text[usize::from(torn)..written.max(usize::from(torn))].iter().filter(|byte| **byte == b'\n').count();
                self.lost.fetch_add(lines.saturating_sub(whole as u64), Ordering::Relaxed);
            }
            torn = if written == 0 { torn } else { text[written - 1] != b'\n' };
            let lost = self.lost();
            if written == text.len() && lost > reported {
                tracing::warn!(lines = lost - reported, "log lines were lost: they could not be written");
                reported = lost;
            }
        }
    }

    /// Waits for lines and takes them all, by swapping the buffers.
    fn take(&self, text: &mut Vec<u8>) -> u64 {
        text.clear();
        let mut waiting = self.waiting();
        waiting.writing = false;
        if waiting.lines == 0 {
            self.emptied.notify_all();
        }
        self.filled.wait_while(&mut waiting, |waiting| waiting.lines == 0);
        waiting.writing = true;
        std::mem::swap(&mut waiting.text, text);
        std::mem::take(&mut waiting.lines)
    }
}

/// The subscriber writes whole lines.
impl Write for &Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.add(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "this is a thread of its own")]
fn pause() {
    std::thread::sleep(FULL_PAUSE);
}

/// Writes all bytes, or as many as possible before an error. Returns their number. Waits for a full non-blocking pipe.
fn write(out: &mut impl Write, text: &[u8]) -> usize {
    let mut written = 0;
    while written < text.len() {
        match out.write(&text[written..]) {
            Ok(0) => return written,
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => pause(),
            Err(_) => return written,
        }
    }
    written
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::mpsc;

    use super::*;

    const SECOND: Duration = Duration::from_secs(10);

    /// A disk with limited space.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<(usize, Vec<u8>)>>);

    impl Disk {
        fn set_room(&self, bytes: usize) {
            self.0.lock().0 = bytes;
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.lock().1.clone()).unwrap()
        }
    }

    impl Write for Disk {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            let mut disk = self.0.lock();
            let fits = text.len().min(disk.0);
            if fits == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            disk.0 -= fits;
            disk.1.extend_from_slice(&text[..fits]);
            Ok(fits)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn log(sink: &Sink, line: &str) {
        (&mut &*sink).write_all(line.as_bytes()).unwrap();
        sink.flush(SECOND);
    }

    #[test]
    fn lost_lines_are_counted_and_a_torn_line_is_ended() {
        let disk = Disk::default();
        disk.set_room(7);
        let sink = Sink::start(1000, disk.clone()).unwrap();
        log(&sink, "one\n");
        log(&sink, "second\n");
        log(&sink, "third\n");
        assert_eq!((sink.lost(), disk.text().as_str()), (2, "one\nsec"));
        disk.set_room(1000);
        log(&sink, "fourth\n");
        assert_eq!((sink.lost(), disk.text().as_str()), (2, "one\nsec\nfourth\n"));
    }

    #[test]
    fn a_stopped_reader_loses_lines_but_never_blocks() {
        struct Stuck(mpsc::Receiver<()>);
        impl Write for Stuck {
            fn write(&mut self, text: &[u8]) -> io::Result<usize> {
                self.0.recv().map(|()| text.len()).map_err(io::Error::other)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (read, reads) = mpsc::sync_channel(1);
        let sink = Sink::start(10, Stuck(reads)).unwrap();
        for _ in 0..100 {
            (&mut &*sink).write_all(b"12345\n").unwrap();
        }
        // The thread has taken nothing or the first line; one more line fits into the buffer.
        assert!((98..=99).contains(&sink.lost()), "{}", sink.lost());
        drop(read);
        sink.flush(SECOND);
        assert_eq!(sink.lost(), 100, "the other lines are lost with the reader");
    }
}

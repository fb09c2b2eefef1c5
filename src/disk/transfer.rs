//! Progress of file transfers.

/// Receives the progress of file transfers.
pub trait Transfer {
    /// Called when the transfer of a file of `bytes` bytes begins, also when it restarts after a broken connection.
    fn begin(&mut self, name: &str, bytes: u64);

    /// Called when another `bytes` bytes were received.
    fn received(&mut self, bytes: u64);
}

/// Ignores the progress.
impl Transfer for () {
    fn begin(&mut self, _name: &str, _bytes: u64) {}

    fn received(&mut self, _bytes: u64) {}
}

//! Progress of downloads.

/// Receives the progress of downloads.
pub trait DownloadProgress {
    /// Called when the download of a file of `bytes` bytes begins, also when it restarts after a broken connection.
    fn begin(&mut self, name: &str, bytes: u64);

    /// Called when another `bytes` bytes were received.
    fn received(&mut self, bytes: u64);
}

/// Ignores the progress.
impl DownloadProgress for () {
    fn begin(&mut self, _name: &str, _bytes: u64) {}

    fn received(&mut self, _bytes: u64) {}
}

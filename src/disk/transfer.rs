//! Files that come from elsewhere, for whoever watches.

/// Hears how a transfer of files goes.
pub trait Transfer {
    /// A file of so many bytes comes from now on. It begins anew where a connection broke.
    fn begin(&mut self, name: &str, bytes: u64);

    /// So many bytes more have come.
    fn received(&mut self, bytes: u64);
}

/// Nobody watches.
impl Transfer for () {
    fn begin(&mut self, _name: &str, _bytes: u64) {}

    fn received(&mut self, _bytes: u64) {}
}

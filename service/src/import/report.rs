//! What an import cannot say as rules.

/// The list of what cannot be said, each with its place.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// The file that is being read.
    file: String,
    notes: Vec<String>,
}

impl Report {
    /// Begins another file.
    pub(super) fn begin(&mut self, file: String) {
        self.file = file;
    }

    /// Notes that a field cannot be said as it is.
    pub(super) fn note(&mut self, line: usize, path: &str, why: &str) {
        self.notes.push(format!("{}:{line}: {path}: {why}", self.file));
    }

    pub(super) fn notes(&self) -> &[String] {
        &self.notes
    }
}

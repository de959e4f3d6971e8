//! Why a document was refused.

/// The ways in which a document can be wrong; DSP0200 gives them different answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Not XML 1.0, or XML that uses what is refused here (entities, an internal DTD subset).
    NotWellFormed,
    /// XML, but not CIM-XML.
    NotLooselyValid,
    /// Beyond the reader's [`Limits`](crate::Limits).
    TooLarge,
}

/// A document that was refused: in which way, where and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {position}: {message}")]
pub struct XmlError {
    /// In which way.
    pub kind: ErrorKind,
    /// How many bytes into the document.
    pub position: usize,
    /// What is wrong there.
    pub message: String,
}

impl XmlError {
    pub(crate) fn new(kind: ErrorKind, position: usize, message: impl Into<String>) -> Self {
        XmlError {
            kind,
            position,
            message: message.into(),
        }
    }
}

//! How much a document may ask of the reader.

/// Limits on one document. A document beyond any of them is refused with
/// [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge) before it costs more than they allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the whole document.
    pub bytes: usize,
    /// Elements inside elements.
    pub depth: usize,
    /// Attributes of one element.
    pub attributes: usize,
    /// Elements of the whole document, those in embedded objects not counted.
    pub elements: usize,
    /// Bytes of the text of one element, or of one attribute.
    pub text: usize,
    /// Embedded objects inside embedded objects. Deeper ones stay strings.
    pub embedding: usize,
}

impl Limits {
    /// For requests of clients.
    pub const REQUEST: Limits = Limits {
        bytes: 8 << 20,
        depth: 64,
        attributes: 32,
        elements: 500_000,
        text: 4 << 20,
        embedding: 8,
    };

    /// For answers of a server that the client chose to talk to: longer lists, the same shape.
    pub const RESPONSE: Limits = Limits {
        bytes: 512 << 20,
        depth: 64,
        attributes: 32,
        elements: 50_000_000,
        text: 64 << 20,
        embedding: 8,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Limits::REQUEST
    }
}

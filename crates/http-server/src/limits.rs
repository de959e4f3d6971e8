//! What a server may use.

use std::time::Duration;

/// What one server may use. Memory for requests never exceeds `bodies`, whoever sends what.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// Bytes of one request's body.
    pub body: usize,
    /// Bytes of the bodies of all requests that are being read or worked on.
    pub bodies: usize,
    /// Bytes of a request's line and headers.
    pub headers: usize,
    /// Connections for each listener; more wait to be accepted.
    pub connections: usize,
    /// How long a client may take over a TLS handshake, over a request's headers, and between
    /// requests.
    pub header_time: Duration,
    /// How long a client may take to send a body.
    pub body_time: Duration,
    /// How long a client may stop taking in an answer.
    pub stall_time: Duration,
    /// How long verified credentials hold on the connection they came on, so that not every request
    /// of a session costs a password hash.
    pub credentials_time: Duration,
    /// Password verifications at one time; each costs memory by design.
    pub verifications: usize,
}

impl Default for HttpLimits {
    fn default() -> Self {
        HttpLimits {
            body: 8 << 20,
            bodies: 64 << 20,
            headers: 64 << 10,
            connections: 128,
            header_time: Duration::from_secs(30),
            body_time: Duration::from_secs(30),
            stall_time: Duration::from_secs(60),
            credentials_time: Duration::from_secs(15),
            verifications: 4,
        }
    }
}

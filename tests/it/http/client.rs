//! A client that says exactly what a test wants said, byte for byte.

#![expect(clippy::expect_used, reason = "helpers of tests fail the test")]

use std::net::SocketAddr;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub const STRIPE_SECRET: &str = "whsec_test_secret";
pub const CLERK_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.find(|(candidate, _)| candidate.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// Asserts that it is a problem document of that status, and gives its detail.
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let document = self.json();
        assert_eq!(document["status"], status);
        document["detail"].as_str().unwrap().to_owned()
    }
}

/// One connection.
pub struct Connection {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Connection {
        Connection::try_open(address).await.expect("the server accepts connections")
    }

    /// `None` when nobody listens there.
    pub async fn try_open(address: SocketAddr) -> Option<Connection> {
        let stream = TcpStream::connect(address).await.ok()?;
        Some(Connection { stream, unread: Vec::new() })
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The server may have answered and closed before it has read everything.
        let _closed_early = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Says that nothing more will be sent.
    pub async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// The next answer, `None` when the server closed the connection instead.
    pub async fn answer(&mut self) -> Option<Answer> {
        tokio::time::timeout(Duration::from_secs(20), self.read_answer()).await.expect("no answer within 20 s")
    }

    /// Everything until the server closes the connection.
    pub async fn read_to_end(&mut self) -> String {
        while self.read_more().await.is_some() {}
        String::from_utf8(std::mem::take(&mut self.unread)).unwrap()
    }

    async fn read_answer(&mut self) -> Option<Answer> {
        loop {
            if let Some(end) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8(self.unread[..end].to_vec()).unwrap();
                self.unread.drain(..end + 4);
                let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                let mut answer = Answer { status, head, body: String::new() };
                if status >= 200 {
                    let length: usize = answer.header("content-length").unwrap_or("0").parse().unwrap();
                    while self.unread.len() < length {
                        self.read_more().await?;
                    }
                    answer.body = String::from_utf8(self.unread.drain(..length).collect()).unwrap();
                }
                return Some(answer);
            }
            self.read_more().await?;
        }
    }

    async fn read_more(&mut self) -> Option<()> {
        let read = self.stream.read_buf(&mut self.unread).await.unwrap_or(0);
        (read > 0).then_some(())
    }
}

/// One request on a connection of its own.
pub async fn exchange(address: SocketAddr, request: impl AsRef<[u8]>) -> Answer {
    let mut connection = Connection::open(address).await;
    connection.send(request).await;
    connection.answer().await.expect("the server closed the connection")
}

pub async fn get(address: SocketAddr, path: &str) -> Answer {
    exchange(address, format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")).await
}

/// A POST with Content-Length and those further header lines, each ending in a line break.
pub fn post(path: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("POST {path} HTTP/1.1\r\nHost: test\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A POST whose body comes in chunks of that size.
pub fn post_chunked(path: &str, headers: &str, body: &[u8], chunk: usize) -> Vec<u8> {
    let head = format!("POST {path} HTTP/1.1\r\nHost: test\r\n{headers}Transfer-Encoding: chunked\r\n\r\n");
    let mut request = head.into_bytes();
    for part in body.chunks(chunk) {
        request.extend(format!("{:x}\r\n", part.len()).bytes());
        request.extend(part);
        request.extend(b"\r\n");
    }
    request.extend(b"0\r\n\r\n");
    request
}

fn code(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().to_vec()
}

/// The header line that Stripe signs a body with.
pub fn stripe_signature(body: impl AsRef<[u8]>, at: i64) -> String {
    let code = code(STRIPE_SECRET.as_bytes(), &[at.to_string().as_bytes(), b".", body.as_ref()]);
    format!("Stripe-Signature: t={at},v1={}\r\n", hex::encode(code))
}

/// The header lines that Clerk signs a body with.
pub fn clerk_signature(id: &str, body: impl AsRef<[u8]>, at: i64) -> String {
    use base64::Engine;
    let engine = base64::engine::general_purpose::STANDARD;
    let key = engine.decode(CLERK_SECRET.trim_start_matches("whsec_")).unwrap();
    let code = code(&key, &[id.as_bytes(), b".", at.to_string().as_bytes(), b".", body.as_ref()]);
    format!("svix-id: {id}\r\nsvix-timestamp: {at}\r\nsvix-signature: v1,{}\r\n", engine.encode(code))
}

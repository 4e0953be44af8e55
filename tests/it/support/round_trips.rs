//! Counts how often a client asks Postgres for answers, by passing on all that both say and reading what the client says.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};

/// Messages that ask for something: `Parse`, `Bind` and `Query`. A `Sync` without one before it only asks whether somebody is
/// there, which a pool does after a while.
const ASKS: [u8; 3] = *b"PBQ";

/// The messages after which a client waits: `Query` and `Sync`.
const WAITS: [u8; 2] = *b"QS";

/// A way to a test's database that counts.
#[derive(Debug)]
pub struct RoundTrips {
    pub url: String,
    count: Arc<AtomicUsize>,
}

impl RoundTrips {
    /// In front of a database that is reached by a Unix socket.
    pub async fn before(url: &str) -> RoundTrips {
        let (address, folder) = url.split_once("?host=").expect("the tests' Postgres listens on a socket");
        let socket = PathBuf::from(folder).join(".s.PGSQL.5432");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = format!("127.0.0.1:{}", listener.local_addr().unwrap().port());
        let url = format!("{}?sslmode=disable", address.replace("localhost:5432", &place));
        let count = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&count);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = UnixStream::connect(&socket).await.unwrap();
                tokio::spawn(pass_on(client, server, Arc::clone(&counter)));
            }
        });
        RoundTrips { url, count }
    }

    /// How many there were since this was last asked.
    pub fn take(&self) -> usize {
        self.count.swap(0, Ordering::SeqCst)
    }
}

async fn pass_on(client: TcpStream, server: UnixStream, count: Arc<AtomicUsize>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let answers = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    // Only the first message has no letter.
    let (mut letter, mut has_asked) = (0, false);
    while let Ok(length) = from_client.read_u32().await {
        let mut message = vec![0; (length as usize).saturating_sub(4)];
        if from_client.read_exact(&mut message).await.is_err() {
            break;
        }
        let mut bytes = if letter == 0 { Vec::new() } else { vec![letter] };
        bytes.extend(length.to_be_bytes());
        bytes.extend(message);
        has_asked |= ASKS.contains(&letter);
        if has_asked && WAITS.contains(&letter) {
            count.fetch_add(1, Ordering::SeqCst);
            has_asked = false;
        }
        if to_server.write_all(&bytes).await.is_err() {
            break;
        }
        match from_client.read_u8().await {
            Ok(next) => letter = next,
            Err(_ended) => break,
        }
    }
    drop(to_server);
    answers.abort();
}

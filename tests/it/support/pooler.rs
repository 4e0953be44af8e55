//! A pooler in front of the tests' Postgres that does what pgBouncer does where it matters: it keeps a few server
//! connections, gives one to a client for a transaction and then to the next, knows nothing of the names of statements,
//! and refuses or drops what a connection asks for when it starts. Passwords are the server's business: each login makes a
//! server connection, which then joins the others.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::mpsc;

use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{Mutex, Notify, oneshot};

use super::database::TestDatabase;

/// How many server connections there are at most, fewer than the clients of one billsync.
const SERVER_CONNECTIONS: usize = 3;
/// The parameters of a start that pgBouncer keeps for a client.
const KNOWN_PARAMETERS: [&str; 6] = ["user", "database", "client_encoding", "DateStyle", "TimeZone", "application_name"];
const SSL_REQUEST: u32 = 80_877_103;
const CANCEL_REQUEST: u32 = 80_877_102;

/// What a client has to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A server connection until it leaves.
    Session,
    /// One until the end of a transaction.
    Transaction,
}

/// What becomes of parameters of a start that are not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// As pgBouncer does.
    Refused,
    /// As pgBouncer does with `ignore_startup_parameters`, and Supavisor always.
    Dropped,
}

/// A running pooler; dropped, it breaks every connection that goes through it.
#[derive(Debug)]
pub struct Pooler {
    pub url: String,
    address: SocketAddr,
    mode: Mode,
    unknown: Unknown,
    socket: PathBuf,
    ending: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Pooler {
    /// Starts on a free port.
    pub fn start(database: &TestDatabase, mode: Mode, unknown: Unknown) -> Pooler {
        let options: PgConnectOptions = database.url.parse().unwrap();
        let socket = options.get_socket().unwrap().join(format!(".s.PGSQL.{}", options.get_port()));
        let (credentials, _) = database.url.split_once('@').unwrap();
        let mut pooler = Pooler {
            url: String::new(),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            mode,
            unknown,
            socket,
            ending: None,
            thread: None,
        };
        pooler.listen();
        pooler.url = format!("{credentials}@{}/{}?sslmode=prefer", pooler.address, database.name);
        pooler
    }

    /// Breaks every connection, as a kill does, and starts again on the same port.
    pub fn restart(&mut self) {
        self.end();
        self.listen();
    }

    fn end(&mut self) {
        drop(self.ending.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    /// On a thread of its own, so that a test may wait for a command that goes through it.
    fn listen(&mut self) {
        let (ending, ended) = oneshot::channel();
        let (listening, listens) = mpsc::channel();
        let (address, mode, unknown, socket) = (self.address, self.mode, self.unknown, self.socket.clone());
        self.thread = Some(std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            tokio::task::LocalSet::new().block_on(&runtime, async move {
                let listener = TcpListener::bind(address).await.unwrap();
                listening.send(listener.local_addr().unwrap()).unwrap();
                let servers = Rc::new(Servers { socket, free: Mutex::default(), count: Mutex::new(0), freed: Notify::new() });
                let accepting = async {
                    loop {
                        let (client, _) = listener.accept().await.unwrap();
                        client.set_nodelay(true).unwrap();
                        let servers = Rc::clone(&servers);
                        tokio::task::spawn_local(async move {
                            // A client that is gone, or a server that has ended it, ends its part of the pooler.
                            let _ = serve(Peer::new(client), &servers, mode, unknown).await;
                        });
                    }
                };
                tokio::select! { () = accepting => {}, _ = ended => {} }
            });
        }));
        self.address = listens.recv().unwrap();
        self.ending = Some(ending);
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.end();
    }
}

/// One end of a connection, read message by message.
struct Peer<S> {
    stream: S,
    unread: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    fn new(stream: S) -> Peer<S> {
        Peer { stream, unread: Vec::new() }
    }

    /// The next message whose length stands after so many bytes. Nothing is lost when this is not waited for.
    async fn next_after(&mut self, tag: usize) -> io::Result<Vec<u8>> {
        loop {
            if let Some(length) = self.unread.get(tag..tag + 4) {
                let end = tag + u32::from_be_bytes(length.try_into().unwrap()) as usize;
                if self.unread.len() >= end {
                    return Ok(self.unread.drain(..end).collect());
                }
            }
            if self.stream.read_buf(&mut self.unread).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn next(&mut self) -> io::Result<Vec<u8>> {
        self.next_after(1).await
    }

    async fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.stream.write_all(message).await
    }
}

type Client = Peer<TcpStream>;
type Server = Peer<UnixStream>;

/// The server connections, the one used last on top.
struct Servers {
    socket: PathBuf,
    free: Mutex<Vec<Server>>,
    count: Mutex<usize>,
    freed: Notify,
}

impl Servers {
    async fn take(&self) -> Server {
        loop {
            let freed = self.freed.notified();
            if let Some(server) = self.free.lock().await.pop() {
                return server;
            }
            freed.await;
        }
    }

    async fn give_back(&self, server: Server) {
        self.free.lock().await.push(server);
        self.freed.notify_one();
    }

    /// Keeps a server connection that a login has made, if there is room for it.
    async fn add(&self, server: Server) {
        let mut count = self.count.lock().await;
        if *count < SERVER_CONNECTIONS {
            *count += 1;
            self.give_back(server).await;
        }
    }
}

async fn serve(mut client: Client, servers: &Servers, mode: Mode, unknown: Unknown) -> io::Result<()> {
    let Some(mut server) = log_in(&mut client, servers, unknown).await? else { return Ok(()) };
    if mode == Mode::Session {
        return relay(&mut client, &mut server, 0, None).await;
    }
    servers.add(server).await;
    loop {
        let message = client.next().await?;
        if message[0] == b'X' {
            return Ok(());
        }
        let mut server = servers.take().await;
        server.send(&message).await?;
        let waiting = awaits_readiness(&message);
        let relayed = relay(&mut client, &mut server, waiting, Some(b'I')).await;
        if relayed.is_err() {
            roll_back(&mut server).await?;
        }
        servers.give_back(server).await;
        relayed?;
    }
}

/// Passes the start on without what is not known, then whatever the two say to each other until the server is ready.
async fn log_in(client: &mut Client, servers: &Servers, unknown: Unknown) -> io::Result<Option<Server>> {
    let parameters = loop {
        let start = client.next_after(0).await?;
        match u32::from_be_bytes(start[4..8].try_into().unwrap()) {
            SSL_REQUEST => client.send(b"N").await?,
            CANCEL_REQUEST => return Ok(None),
            _ => break start[8..].to_vec(),
        }
    };
    let words: Vec<String> = parameters
        .split(|byte| *byte == 0)
        .map(|word| String::from_utf8(word.to_vec()).unwrap())
        .take_while(|w| !w.is_empty())
        .collect();
    let mut start = vec![0, 0, 0, 0, 0, 3, 0, 0];
    for pair in words.chunks(2) {
        if KNOWN_PARAMETERS.contains(&pair[0].as_str()) {
            start.extend_from_slice(format!("{}\0{}\0", pair[0], pair[1]).as_bytes());
        } else if unknown == Unknown::Refused {
            let what = format!("SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter: {}\0\0", pair[0]);
            let length = u32::try_from(what.len() + 4).unwrap().to_be_bytes();
            client.send(&[b"E".as_slice(), &length, what.as_bytes()].concat()).await?;
            return Ok(None);
        }
    }
    start.push(0);
    let length = u32::try_from(start.len()).unwrap().to_be_bytes();
    start[..4].copy_from_slice(&length);
    let mut server = Peer::new(UnixStream::connect(&servers.socket).await?);
    server.send(&start).await?;
    relay(client, &mut server, 1, Some(b'I')).await?;
    Ok(Some(server))
}

/// Passes messages on in both directions: until the server has been ready as often as it was asked to be and in the state
/// `until`, or without end.
async fn relay(client: &mut Client, server: &mut Server, mut waiting: usize, until: Option<u8>) -> io::Result<()> {
    loop {
        tokio::select! {
            message = client.next() => {
                let message = message?;
                waiting += awaits_readiness(&message);
                server.send(&message).await?;
            }
            message = server.next() => {
                let message = message?;
                client.send(&message).await?;
                if message[0] == b'Z' {
                    waiting = waiting.saturating_sub(1);
                    if waiting == 0 && until == Some(message[5]) {
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// 1 for a message that the server answers with its readiness: a simple query, the end of an extended one, a function call.
fn awaits_readiness(message: &[u8]) -> usize {
    usize::from(matches!(message[0], b'Q' | b'S' | b'F'))
}

/// Ends what a client that has gone left open.
async fn roll_back(server: &mut Server) -> io::Result<()> {
    let statement = b"rollback\0";
    let length = u32::try_from(statement.len() + 4).unwrap().to_be_bytes();
    // The end of an extended query first: without it the server waits for more.
    server.send(&[b"S\0\0\0\x04Q".as_slice(), &length, statement].concat()).await?;
    loop {
        let message = server.next().await?;
        let is_rolled_back = message[0] == b'C' && message[5..].starts_with(b"ROLLBACK");
        if is_rolled_back {
            break;
        }
    }
    while server.next().await?[0] != b'Z' {}
    Ok(())
}

//! HTTP/1.1 with kept connections, as far as a client of Stripe's needs it, and the ways in which it breaks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::answers::{Reply, answer};
use super::{API_KEY, Asked, Fault, State};

pub(super) async fn accept(listener: TcpListener, state: Arc<Mutex<State>>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let state = Arc::clone(&state);
        let number = {
            let mut state = state.lock().unwrap();
            state.connections += 1;
            state.connections
        };
        tokio::spawn(serve(stream, number, state));
    }
}

/// Answers until the client or a fault closes the connection.
async fn serve(mut stream: TcpStream, number: usize, state: Arc<Mutex<State>>) {
    let _ = stream.set_nodelay(true);
    let mut unread = Vec::new();
    while let Some(head) = read_head(&mut stream, &mut unread).await {
        let (asked, is_authorised) = parse(&head, number);
        let (fault, reply, date) = {
            let mut guard = state.lock().unwrap();
            let state = &mut *guard;
            if let Some(hook) = &mut state.hook {
                hook(&asked, &mut state.objects);
            }
            let number = state.asked.len() + 1;
            let from_here_on = state.failing_from.as_ref().filter(|(first, _)| number >= *first).map(|(_, fault)| fault.clone());
            let standing = state.standing_faults.get(&asked.path).cloned();
            let fault = state.faults.pop_front().or(standing).or(from_here_on);
            let reply = if is_authorised { answer(&state.objects, &asked) } else { Reply::error(401, "api_key_expired") };
            let date = state.clock.now().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
            state.asked.push(asked);
            (fault, reply, date)
        };
        let (reply, further) = match fault {
            Some(Fault::Cut) => return,
            Some(Fault::Silence) => std::future::pending().await,
            Some(Fault::Status(status, lines)) => (Reply::error(status, "made_up"), lines),
            Some(Fault::Garbage) => (Reply { status: 200, body: "<html>".into() }, ""),
            Some(Fault::CutInTheMiddle) | None => (reply, ""),
        };
        let head = format!(
            "HTTP/1.1 {} X\r\nDate: {date}\r\nContent-Type: application/json\r\nRequest-Id: req_1\r\n\
             Stripe-Version: 2025-09-30.clover\r\nContent-Length: {}\r\n{further}\r\n",
            reply.status,
            reply.body.len()
        );
        let body = reply.body.as_bytes();
        let body = if matches!(fault, Some(Fault::CutInTheMiddle)) { &body[..body.len() / 2] } else { body };
        let sent = stream.write_all(&[head.as_bytes(), body].concat()).await;
        if sent.is_err() || matches!(fault, Some(Fault::CutInTheMiddle)) {
            return;
        }
    }
}

/// The next request's head; a GET has no body.
async fn read_head(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(end) = unread.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = unread.split_off(end + 4);
            let head = std::mem::replace(unread, rest);
            return String::from_utf8(head).ok();
        }
        if stream.read_buf(unread).await.ok()? == 0 {
            return None;
        }
    }
}

fn parse(head: &str, connection: usize) -> (Asked, bool) {
    let mut lines = head.lines();
    let target = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let decode = |text: &str| text.replace("%5B", "[").replace("%5D", "]").replace("%2E", ".");
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let query: BTreeMap<String, String> = pairs.map(|(name, value)| (decode(name), decode(value))).collect();
    let bearer = format!("authorization: Bearer {API_KEY}");
    let is_authorised = lines.any(|line| line.eq_ignore_ascii_case(&bearer));
    (Asked { path: path.to_owned(), query, connection }, is_authorised)
}

//! The server: which route exists, with what limits, on which address.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::middleware::from_fn;
use actix_web::{App, FromRequest, Handler, HttpServer, Responder, web};
use tokio::task::JoinHandle;
use tracing_actix_web::TracingLogger;

use crate::clock::Clock;
use crate::domain::rules::Rules;
use crate::domain::signature::standard_webhooks::ClerkSecret;
use crate::domain::signature::stripe::StripeSecret;
use crate::http::auth::{ApiToken, require_caller};
use crate::http::body::BodyBounds;
use crate::http::problem::Problem;
use crate::http::request::{RequestSpan, answer_head, name_request_id};
use crate::http::sessions::Sessions;
use crate::http::{discovery, events, health, openapi, overview, usage, users, webhooks};
use crate::ingest::committer::Committer;
use crate::ingest::missing_user::UserSource;
use crate::store::Store;

/// Where and how to serve.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// `host:port`; port 0 takes a free one.
    pub listen: String,
    /// Threads that serve requests.
    pub workers: usize,
    /// Open connections per worker; further ones wait to be accepted.
    pub max_connections: usize,
    /// Without them the route does not exist.
    pub stripe_secrets: Vec<StripeSecret>,
    /// Without them the route does not exist.
    pub clerk_secrets: Vec<ClerkSecret>,
    /// What the API works with; without it, or without tokens or sessions, nothing below `/v1` exists.
    pub store: Option<Store>,
    pub api_tokens: Vec<ApiToken>,
    /// Whose sessions let a signed-in user read what is theirs; `None`: nobody's.
    pub sessions: Option<Sessions>,
    /// Who is asked about users whom no event has made; without one they are unknown.
    pub user_source: Option<Arc<dyn UserSource>>,
    pub signature_tolerance: Duration,
    pub body_limit_bytes: usize,
    /// How long a request's head may take to arrive.
    pub head_read_timeout: Duration,
    /// How long a request's body may take to arrive.
    pub body_read_timeout: Duration,
    /// How long an idle connection is kept.
    pub keep_alive: Duration,
    /// How long requests in work may take once the server is stopping.
    pub stop_timeout: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        ServerOptions {
            listen: "127.0.0.1:8787".into(),
            workers: 2,
            max_connections: 1024,
            stripe_secrets: Vec::new(),
            clerk_secrets: Vec::new(),
            store: None,
            api_tokens: Vec::new(),
            sessions: None,
            user_source: None,
            signature_tolerance: Duration::from_secs(300),
            body_limit_bytes: 2 * 1024 * 1024,
            head_read_timeout: Duration::from_secs(5),
            body_read_timeout: Duration::from_secs(10),
            // Longer than the usual balancer keeps its own side open, so that it is never us who closes first.
            keep_alive: Duration::from_secs(75),
            stop_timeout: Duration::from_secs(20),
        }
    }
}

/// What the handlers work with.
#[derive(Debug)]
pub(super) struct Services {
    pub(super) committer: Committer,
    pub(super) rules: Arc<Rules>,
    pub(super) clock: Clock,
    pub(super) stripe_secrets: Vec<StripeSecret>,
    pub(super) clerk_secrets: Vec<ClerkSecret>,
    pub(super) store: Option<Store>,
    pub(super) api_tokens: Vec<ApiToken>,
    pub(super) sessions: Option<Sessions>,
    pub(super) user_source: Option<Arc<dyn UserSource>>,
    pub(super) signature_tolerance: Duration,
    pub(super) body_bounds: BodyBounds,
    draining: AtomicBool,
}

impl Services {
    /// The database, for handlers that are mounted only with one.
    pub(super) fn store(&self) -> Result<&Store, Problem> {
        self.store.as_ref().ok_or_else(Problem::not_found)
    }

    /// Whether the process is about to end.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<SocketAddr>,
    handle: ServerHandle,
    serving: JoinHandle<io::Result<()>>,
    services: web::Data<Services>,
}

/// Binds the address and starts serving on threads of its own.
pub fn build(options: ServerOptions, committer: Committer, rules: Arc<Rules>, clock: Clock) -> io::Result<Server> {
    let services = web::Data::new(Services {
        committer,
        rules,
        clock,
        stripe_secrets: options.stripe_secrets,
        clerk_secrets: options.clerk_secrets,
        store: options.store,
        api_tokens: options.api_tokens,
        sessions: options.sessions,
        user_source: options.user_source,
        signature_tolerance: options.signature_tolerance,
        body_bounds: BodyBounds { limit_bytes: options.body_limit_bytes, read_timeout: options.body_read_timeout },
        draining: AtomicBool::new(false),
    });
    let shared = services.clone();
    let server = HttpServer::new(move || {
        let routes = shared.clone();
        App::new()
            .app_data(shared.clone())
            .wrap(from_fn(answer_head))
            .wrap(from_fn(name_request_id))
            .wrap(TracingLogger::<RequestSpan>::new())
            .configure(move |config| mount(config, &routes))
            .default_service(web::to(|| async { Err::<&str, _>(Problem::not_found()) }))
    })
    .workers(options.workers.max(1))
    .max_connections(options.max_connections)
    .keep_alive(options.keep_alive)
    .client_request_timeout(options.head_read_timeout)
    .shutdown_timeout(options.stop_timeout.as_secs())
    .tcp_nodelay(true)
    .disable_signals()
    .bind(&options.listen)?;
    let addresses = server.addrs();
    let running = server.run();
    let handle = running.handle();
    Ok(Server { addresses, handle, serving: tokio::spawn(running), services })
}

/// Whether the address can be served on, found out by taking it for an instant: before anything else is started for nothing.
pub fn try_address(listen: &str) -> io::Result<()> {
    TcpListener::bind(listen).map(drop)
}

fn mount(config: &mut web::ServiceConfig, services: &Services) {
    if !services.stripe_secrets.is_empty() {
        config.service(webhook_route("/webhooks/stripe").route(web::post().to(webhooks::receive_stripe)));
    }
    if !services.clerk_secrets.is_empty() {
        config.service(webhook_route("/webhooks/clerk").route(web::post().to(webhooks::receive_clerk)));
    }
    if services.store.is_some() && (!services.api_tokens.is_empty() || services.sessions.is_some()) {
        let api = web::scope("/v1").wrap(from_fn(require_caller));
        config.service(
            api.configure(usage::mount)
                .configure(users::mount)
                .configure(events::mount)
                .configure(overview::mount)
                .configure(discovery::mount),
        );
        config.configure(openapi::mount);
    }
    config
        .service(read_route("/healthz").route(web::get().to(health::healthz)))
        .service(read_route("/readyz").route(web::get().to(health::readyz)))
        .service(read_route("/metrics").route(web::get().to(health::show_metrics)));
}

/// A resource of the API, for which a method that it does not have is refused by naming those that it has.
pub(super) fn api_resource(path: &str, allow: &'static str) -> actix_web::Resource {
    web::resource(path).default_service(web::to(move || async move { Err::<&str, _>(Problem::method_not_allowed(allow)) }))
}

/// What can be listed and added to.
pub(super) fn collection<L, LA, C, CA>(path: &str, list: L, create: C) -> actix_web::Resource
where
    L: Handler<LA>,
    LA: FromRequest + 'static,
    L::Output: Responder + 'static,
    C: Handler<CA>,
    CA: FromRequest + 'static,
    C::Output: Responder + 'static,
{
    api_resource(path, "GET, HEAD, POST").route(web::get().to(list)).route(web::post().to(create))
}

/// A single one of them.
pub(super) fn single<S, SA, U, UA, D, DA>(path: &str, show: S, update: U, delete: D) -> actix_web::Resource
where
    S: Handler<SA>,
    SA: FromRequest + 'static,
    S::Output: Responder + 'static,
    U: Handler<UA>,
    UA: FromRequest + 'static,
    U::Output: Responder + 'static,
    D: Handler<DA>,
    DA: FromRequest + 'static,
    D::Output: Responder + 'static,
{
    let resource = api_resource(path, "GET, HEAD, PATCH, DELETE").route(web::get().to(show));
    resource.route(web::patch().to(update)).route(web::delete().to(delete))
}

fn webhook_route(path: &str) -> actix_web::Resource {
    web::resource(path).default_service(web::to(|| async { Err::<&str, _>(Problem::method_not_allowed("POST")) }))
}

fn read_route(path: &str) -> actix_web::Resource {
    web::resource(path).default_service(web::to(|| async { Err::<&str, _>(Problem::method_not_allowed("GET, HEAD")) }))
}

impl Server {
    /// The addresses that it listens on.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Turns `/readyz` red, stops accepting, and returns when the requests in work are answered or their time is over.
    pub async fn stop(self) {
        self.services.draining.store(true, Ordering::Relaxed);
        self.handle.stop(true).await;
        if let Ok(Err(error)) = self.serving.await {
            tracing::error!(%error, "the server ended with an error");
        }
    }

    /// Returns when the server has ended by itself, which it should not.
    pub(super) async fn ended(&mut self) -> io::Result<()> {
        match (&mut self.serving).await {
            Ok(result) => result,
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

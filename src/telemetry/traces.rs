//! Spans of requests and batches, sent to a collector by OTLP over HTTP. Whatever the collector does, nobody waits for it: spans that
//! it does not take are dropped. Only what [`Telling`] names leaves: no line of the log, and nothing that a stranger can write.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use opentelemetry::trace::{SpanKind, Status, TracerProvider};
use opentelemetry::{KeyValue, Value};
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{ExporterBuildError, Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, SpanData, SpanExporter};
use rustls::{ClientConfig, RootCertStore};
use tokio::runtime::Handle;
use tracing::{Metadata, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use super::TelemetryError;

/// How long a collector may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the last spans may take to be sent when the process ends.
const END_TIMEOUT: Duration = Duration::from_secs(3);

/// How many spans wait to be sent; more are dropped.
const QUEUE_SPANS: usize = 2048;

/// How many spans are sent at a time.
const BATCH_SPANS: usize = 512;

/// The methods that a span names. Any other is whatever a stranger wrote.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"];

/// Whether this process sends spans, so that one that does not spends nothing on what they would tell.
static ARE_SENT: AtomicBool = AtomicBool::new(false);

/// A sender of spans, which works on a thread of its own.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// Begins to send to the collector whose base address that is; to its `/v1/traces`, as the OTLP specification says. Requests
    /// are made on that runtime.
    pub fn to(endpoint: &str, runtime: Handle) -> Result<Traces, TelemetryError> {
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = Resource::builder().with_service_name("billsync").with_attribute(version).build();
        let bounds = BatchConfigBuilder::default().with_max_queue_size(QUEUE_SPANS).with_max_export_batch_size(BATCH_SPANS);
        let exporter = Telling(exporter(endpoint, runtime)?);
        let processor = BatchSpanProcessor::builder(exporter).with_batch_config(bounds.build()).build();
        let provider = SdkTracerProvider::builder().with_span_processor(processor).with_resource(resource).build();
        ARE_SENT.store(true, Ordering::Relaxed);
        Ok(Traces { provider })
    }

    /// Takes our own spans, whatever the log's level is, and none of its lines.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let is_ours = |metadata: &Metadata<'_>| metadata.is_span() && metadata.target().starts_with("billsync");
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("billsync"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(is_ours))
    }

    /// Sends what is still to be sent. Blocks, for three seconds at most.
    pub fn end(self) {
        if let Err(error) = self.provider.shutdown_with_timeout(END_TIMEOUT) {
            tracing::debug!("the last spans were not sent: {error}");
        }
    }
}

/// Has a request's span tell how it was answered, and by which route, if spans are sent.
pub fn tell_answer(span: &Span, status: u16, route: impl FnOnce() -> Option<String>) {
    if ARE_SENT.load(Ordering::Relaxed) {
        span.set_attribute("status", i64::from(status));
        if let Some(route) = route() {
            span.set_attribute("route", route);
        }
    }
}

/// Asks a collector to take no span at all, which it does if it takes any. Needs a runtime.
pub async fn ask(endpoint: &str) -> Result<(), TelemetryError> {
    let exporter = exporter(endpoint, Handle::current())?;
    exporter.export(Vec::new()).await.map_err(|error| TelemetryError::Traces(error.to_string()))
}

fn exporter(endpoint: &str, runtime: Handle) -> Result<opentelemetry_otlp::SpanExporter, TelemetryError> {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let client = reqwest::Client::builder().timeout(ANSWER_TIMEOUT).redirect(reqwest::redirect::Policy::none());
    let mut client = client.tls_backend_preconfigured(tls);
    if is_loopback(endpoint) {
        // What is sent to this machine is nothing for a proxy.
        client = client.no_proxy();
    }
    let client = client.build().map_err(|error| TelemetryError::Traces(error.to_string()))?;
    opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(Collector { client, runtime, is_answering: AtomicBool::new(true) })
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
        .with_timeout(ANSWER_TIMEOUT)
        .build()
        .map_err(|error| match error {
            // Which would name the value.
            ExporterBuildError::InvalidUri(..) => TelemetryError::Traces("it is no address".to_owned()),
            error => TelemetryError::Traces(error.to_string()),
        })
}

fn is_loopback(endpoint: &str) -> bool {
    let url = reqwest::Url::parse(endpoint).ok();
    let host = url.as_ref().and_then(|url| url.host_str()).unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Sends of each span what it is meant to tell, by the names of OpenTelemetry's conventions for HTTP, and leaves out all else.
#[derive(Debug)]
struct Telling(opentelemetry_otlp::SpanExporter);

impl SpanExporter for Telling {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.export(batch.into_iter().map(told).collect()).await
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

fn told(mut span: SpanData) -> SpanData {
    let (mut method, mut route) = ("_OTHER", None);
    let mut attributes = Vec::with_capacity(span.attributes.len());
    for KeyValue { key, value, .. } in std::mem::take(&mut span.attributes) {
        let name = match key.as_str() {
            "id" => "request_id",
            "events" => "events",
            "method" => {
                method = METHODS.into_iter().find(|known| *known == value.as_str()).unwrap_or(method);
                continue;
            }
            "route" => {
                route = Some(value.as_str().into_owned());
                "http.route"
            }
            "status" => {
                if matches!(value, Value::I64(500..)) {
                    span.status = Status::error("");
                }
                "http.response.status_code"
            }
            // A path may hold anything.
            _ => continue,
        };
        attributes.push(KeyValue::new(name, value));
    }
    if span.name == "request" {
        attributes.push(KeyValue::new("http.request.method", method));
        span.name = route.map_or_else(|| method.into(), |route| format!("{method} {route}").into());
        span.span_kind = SpanKind::Server;
    }
    span.attributes = attributes;
    span
}

/// The way to the collector. Says once when it is closed, and once when it is open again.
struct Collector {
    client: reqwest::Client,
    runtime: Handle,
    is_answering: AtomicBool,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").finish_non_exhaustive()
    }
}

impl Collector {
    fn note(&self, trouble: Option<String>) {
        let was_answering = self.is_answering.swap(trouble.is_none(), Ordering::Relaxed);
        match trouble {
            Some(trouble) if was_answering => {
                tracing::warn!("the collector at OTEL_EXPORTER_OTLP_ENDPOINT does not take traces, they are dropped: {trouble}");
            }
            None if !was_answering => tracing::info!("the collector at OTEL_EXPORTER_OTLP_ENDPOINT takes traces again"),
            _ => {}
        }
    }
}

impl HttpClient for Collector {
    fn send_bytes<'life0, 'async_trait>(
        &'life0 self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            // They may hold the key to the collector.
            parts.headers.values_mut().for_each(|value| value.set_sensitive(true));
            let sending = self.client.post(parts.uri.to_string()).headers(parts.headers).body(body);
            // The thread that asks for this has no runtime, which so much as beginning to send needs.
            let sent = self.runtime.spawn(async move {
                let answer = sending.send().await?;
                let (status, body) = (answer.status(), answer.bytes().await?);
                Ok::<_, reqwest::Error>((status, body))
            });
            match sent.await? {
                Ok((status, body)) => {
                    self.note((!status.is_success()).then(|| format!("it answers {status}")));
                    let mut response = Response::new(body);
                    *response.status_mut() = status;
                    Ok(response)
                }
                Err(error) => {
                    self.note(Some(root_cause(&error)));
                    Err(error.without_url().into())
                }
            }
        })
    }
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

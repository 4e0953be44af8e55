# The image holds billsync alone: give it a database with DATABASE_URL.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY benches benches
COPY migrations migrations
COPY fixtures fixtures
RUN cargo build --locked --release --bin billsync

FROM debian:bookworm-slim
RUN useradd --system --no-create-home --shell /usr/sbin/nologin billsync
COPY --from=build /build/target/release/billsync /usr/local/bin/billsync
USER billsync
ENV BILLSYNC_LISTEN=0.0.0.0:8787 BILLSYNC_LOG_FORMAT=json
EXPOSE 8787
STOPSIGNAL SIGTERM
# Alive, not ready: whoever acts on it restarts, and no restart brings a database back.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["billsync", "healthcheck", "--timeout", "4"]
ENTRYPOINT ["billsync"]
CMD ["serve"]

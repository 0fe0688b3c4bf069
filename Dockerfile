# Image of health-server. It needs a PostgreSQL server elsewhere; compose.yaml has one.

FROM rust:1.95-bookworm AS build
WORKDIR /source
COPY . .
RUN cargo build --release --locked --bin health-server

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin health
COPY --from=build /source/target/release/health-server /usr/local/bin/health-server
USER 10001
ENV HEALTH_HTTP=0.0.0.0:8000 HEALTH_FEED=0.0.0.0:8001
EXPOSE 8000 8001
# SIGTERM stores what was accepted, then ends.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["health-server", "check", "--ready"]
ENTRYPOINT ["health-server"]

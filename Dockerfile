# Image of health-server. It needs a PostgreSQL server elsewhere; compose.yaml has one.

FROM rust:1.95-bookworm AS build
WORKDIR /source
COPY . .
# The names of functions stay for backtraces; everything else of the debug information would make the image three times as large.
RUN CARGO_PROFILE_RELEASE_STRIP=debuginfo cargo build --release --locked --bin health-server

FROM debian:bookworm-slim
# The authorities that `sslrootcert=system` of a database URL and `import` trust.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /source/target/release/health-server /usr/local/bin/health-server
# A number, so that Kubernetes can see that it is not root. The server writes no files.
USER 10001:10001
ENV HEALTH_HTTP=0.0.0.0:8000 HEALTH_FEED=0.0.0.0:8001
EXPOSE 8000 8001
# SIGTERM stores what was accepted, then ends.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["health-server", "check", "--ready"]
ENTRYPOINT ["health-server"]

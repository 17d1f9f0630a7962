# docker build -t keepstep .                     the server: `keepstep serve`, as a user without rights
# docker build -t keepstep-certs --target certs .    makes docker-compose.yml's self-signed certificate
#
# nsqd, nsqlookupd and nsqadmin are NSQ's own images (docker-compose.yml), with the configuration in nsq/conf.

# Any Rust from 1.90 on (Cargo.toml: rust-version).
FROM rust:1-slim-bookworm AS build
# For the allocator's own build.
RUN apt-get update \
    && apt-get install -y --no-install-recommends make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin keepstep \
    && install -D target/release/keepstep /out/keepstep

FROM debian:bookworm-slim AS certs
RUN apt-get update \
    && apt-get install -y --no-install-recommends openssl \
    && rm -rf /var/lib/apt/lists/*
COPY scripts/haproxy/make-cert /usr/local/bin/make-cert
ENTRYPOINT ["make-cert"]

# The last stage is what `docker build` makes when it isn't told another.
FROM debian:bookworm-slim AS keepstep
# For a JWKS or a Redis behind TLS.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin keepstep
COPY --from=build /out/keepstep /usr/local/bin/keepstep
USER 10001:10001
# Inside a container the default, 127.0.0.1, would reach nobody. Publish 8080; 8081 (health, metrics) is for inside. So it starts only
# with a KEEPSTEP_JWT_SECRET of its own (or KEEPSTEP_JWKS and KEEPSTEP_TOKEN_SECRET), and has no playground unless it is told to.
ENV KEEPSTEP_LISTEN=0.0.0.0:8080 KEEPSTEP_OPS_LISTEN=0.0.0.0:8081
EXPOSE 8080 8081
# It drains within 10 s; give it 15.
STOPSIGNAL SIGTERM
# Alive, not ready: an edge whose Redis is away must be kept out of the rotation (haproxy asks /v1/ready), not restarted.
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=3 \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8081 && printf 'GET /healthz HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n' >&3 && read -r -t 2 line <&3 && [[ $line == *' 200 '* ]]"]
ENTRYPOINT ["keepstep"]
CMD ["serve"]

# One image for every role: `docker run causeway up`, `… api`, `… worker`.
FROM rust:1.95-slim-bookworm AS build
WORKDIR /source
COPY . .
# What `causeway --version` names, e.g. `docker build --build-arg BUILD_COMMIT=$(git rev-parse HEAD) .`
ARG BUILD_COMMIT=""
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/source/target \
    cargo build --release --locked --bin causeway && cp target/release/causeway /causeway

FROM debian:bookworm-slim
# Certificates to call https upstreams; curl for health checks.
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates curl \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin causeway
COPY --from=build /causeway /usr/local/bin/causeway
USER 10001:10001
EXPOSE 4004
# The first SIGTERM lets running calls finish.
STOPSIGNAL SIGTERM
ENTRYPOINT ["causeway"]
CMD ["--help"]

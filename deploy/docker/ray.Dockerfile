# Models on Ray Serve: an environment with nothing but ray's list in it, and our package `models` beside it. From the root of the checkout:
#
#     docker build --file deploy/docker/ray.Dockerfile --tag candor-ray:0.1.0 .
#
# Models of the hub need torch and transformers, too: `--build-arg EXTRAS="torch==2.13.0 transformers==5.23.0 safetensors==0.8.0"`.

FROM python:3.11.11-slim-bookworm AS environment
ARG EXTRAS=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/candor
WORKDIR /build
COPY models/ models/
RUN /opt/candor/bin/pip install --only-binary :all: --requirement models/requirements/ray.txt ${EXTRAS}

FROM python:3.11.11-slim-bookworm
LABEL org.opencontainers.image.licenses=Apache-2.0
# KubeRay asks a pod how it is with wget.
RUN apt-get update && apt-get install --yes --no-install-recommends wget && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 10001 candor && useradd --uid 10001 --gid 10001 --create-home --shell /usr/sbin/nologin candor
COPY --from=environment /opt/candor /opt/candor
COPY models/ /opt/source/models/
ENV PATH=/opt/candor/bin:$PATH \
    PYTHONPATH=/opt/source \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    RAY_USAGE_STATS_ENABLED=0
USER 10001:10001
WORKDIR /home/candor
STOPSIGNAL SIGTERM
EXPOSE 8000/tcp
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["wget", "-q", "--spider", "http://127.0.0.1:8000/-/healthz"]
ENTRYPOINT ["serve"]
CMD ["--help"]

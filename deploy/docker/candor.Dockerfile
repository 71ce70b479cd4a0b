# A node: signaling, media workers, hosts of processors, and the built page. From the root of the checkout:
#
#     docker build --file deploy/docker/candor.Dockerfile --tag candor:0.1.0 .

FROM node:22.12.0-bookworm-slim AS page
WORKDIR /build/web
COPY web/package.json web/package-lock.json web/.npmrc ./
RUN npm ci --no-audit --no-fund --loglevel=error
COPY web/ ./
RUN npm run --silent build

FROM python:3.11.11-slim-bookworm AS environment
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/candor
WORKDIR /build
COPY . .
RUN /opt/candor/bin/pip install --constraint requirements/constraints.txt '.[telemetry]'
RUN /opt/candor/bin/pip install --no-deps --require-hashes --requirement requirements/no-deps.txt

FROM python:3.11.11-slim-bookworm
LABEL org.opencontainers.image.licenses=Apache-2.0
RUN groupadd --gid 10001 candor && useradd --uid 10001 --gid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin candor
COPY --from=environment /opt/candor /opt/candor
COPY --from=page /build/web/dist /opt/candor/page
ENV PATH=/opt/candor/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    CANDOR_WEB_ROOT=/opt/candor/page
USER 10001:10001
STOPSIGNAL SIGTERM
EXPOSE 8080/tcp 9464/tcp 40000-40007/udp
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/api/v1/health/ready', timeout=4)"]
ENTRYPOINT ["candor"]
CMD ["serve"]

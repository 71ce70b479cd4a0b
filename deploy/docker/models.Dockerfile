# The model service, with torch. From the root of the checkout:
#
#     docker build --file deploy/docker/models.Dockerfile --tag candor-models:0.1.0-cpu .
#     docker build --file deploy/docker/models.Dockerfile --build-arg TORCH_INDEX= --tag candor-models:0.1.0-cuda .
#
# The second takes torch's build for CUDA, which brings CUDA's libraries; the machine has to have the driver and NVIDIA's container
# toolkit. Weights are in neither: they come into the volume /models, see deploy/README.md.

FROM python:3.11.11-slim-bookworm AS environment
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/candor
WORKDIR /build
COPY requirements/ requirements/
RUN /opt/candor/bin/pip install --constraint requirements/constraints.txt ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} \
    "torch==2.13.0${TORCH_INDEX:++cpu}"
COPY . .
RUN /opt/candor/bin/pip install --constraint requirements/constraints.txt '.[speech,vision,telemetry]'
RUN /opt/candor/bin/pip install --no-deps --require-hashes --requirement requirements/no-deps.txt

FROM python:3.11.11-slim-bookworm
LABEL org.opencontainers.image.licenses=Apache-2.0
RUN groupadd --gid 10001 candor && useradd --uid 10001 --gid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin candor
RUN install --directory --owner 10001 --group 10001 --mode 0750 /models
COPY --from=environment /opt/candor /opt/candor
ENV PATH=/opt/candor/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    CANDOR_MODELS__MODELS_DIR=/models
VOLUME /models
USER 10001:10001
STOPSIGNAL SIGTERM
EXPOSE 8090/tcp
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8090/api/v1/health/ready', timeout=4)"]
ENTRYPOINT ["candor", "models"]
CMD ["serve"]

# Builds three images: query-service (small), trainer and model-server (with TensorFlow).
#   docker build --target query-service .
#
# It uses no syntax that needs BuildKit. To install from a package index of your own, pass pip's
# variables: --build-arg PIP_INDEX_URL=... --build-arg PIP_TRUSTED_HOST=...
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

FROM ${PYTHON_IMAGE} AS base
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1
# A volume at one of these paths gets its owner from the image that mounts it first.
RUN useradd --uid 10001 --no-create-home --home-dir /app --shell /usr/sbin/nologin shortlist \
    && mkdir -p /app/data /models /recorded \
    && chown shortlist:shortlist /app/data /models /recorded
WORKDIR /app

# A virtual environment with the dependencies of the query service, but without pip.
FROM ${PYTHON_IMAGE} AS query-service-venv
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
COPY requirements/query-service.lock /tmp/requirements.lock
RUN python -m venv --without-pip /venv \
    && pip --python /venv/bin/python install --no-cache-dir --require-hashes \
        --only-binary :all: -r /tmp/requirements.lock

FROM base AS query-service
COPY --from=query-service-venv /venv /venv
COPY config_fields.py serving_contract.py ./
COPY proto/retrieval/v1/*.py retrieval/v1/
COPY proto/tfserving_subset/v1/*.py tfserving_subset/v1/
COPY rpc rpc
COPY query_service query_service
USER shortlist
ENV SHORTLIST_HOST=0.0.0.0 SHORTLIST_PORT=50051 \
    SHORTLIST_METRICS_HOST=0.0.0.0 SHORTLIST_METRICS_PORT=9464 \
    SHORTLIST_HEARTBEAT_FILE=/dev/shm/shortlist-serving
EXPOSE 50051 9464
# The service touches the file while it is SERVING. Neither Python nor gRPC has to start, and TLS and
# tokens do not matter. /dev/shm can be written even with a read-only file system.
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 \
    CMD test -n "$(find "$SHORTLIST_HEARTBEAT_FILE" -newermt '-5 seconds')"
CMD ["python", "-m", "query_service", "serve"]

# The dependencies of the trainer, with TensorFlow and ScaNN: 2 GB that two images share.
FROM base AS tensorflow
# OpenMP, which the iALS baseline needs.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/*
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
COPY requirements/trainer.lock /tmp/requirements.lock
# Compile now, because the user who runs the image must not write to /venv.
RUN python -m venv --without-pip /venv \
    && pip --python /venv/bin/python install --no-cache-dir --no-compile --require-hashes \
        -r /tmp/requirements.lock \
    && (python -m compileall -q -j 0 /venv/lib || true)
COPY config_fields.py serving_contract.py ./

FROM tensorflow AS trainer
COPY trainer trainer
USER shortlist
CMD ["python", "-m", "trainer", "run", "--dataset", "auto", "--models-dir", "/models"]

# The local stand-in for TensorFlow Serving.
FROM tensorflow AS model-server
COPY proto/tfserving_subset/v1/*.py tfserving_subset/v1/
COPY rpc rpc
COPY model_server model_server
USER shortlist
EXPOSE 8500
CMD ["python", "-m", "model_server", "--models-dir", "/models", "--host", "0.0.0.0"]

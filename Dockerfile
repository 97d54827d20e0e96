# Servoloop in a container: `docker build -t servoloop .`, for a GPU `--build-arg TORCH_INDEX_URL=` (PyPI's CUDA build).
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
# PyTorch's own index has the CPU build; empty takes the CUDA build from PyPI.
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
WORKDIR /src
RUN python3 -m venv /opt/servoloop
# The dependencies first: they change less often than the code.
COPY constraints.txt ./
RUN /opt/servoloop/bin/python -m pip install --no-cache-dir --constraint constraints.txt \
      ${TORCH_INDEX_URL:+--index-url ${TORCH_INDEX_URL}} torch
COPY pyproject.toml README.md LICENSE ./
COPY servoloop servoloop
COPY models models
COPY service service
RUN /opt/servoloop/bin/python -m pip install --no-cache-dir --constraint constraints.txt '.[grpc,openvino,postgres]' \
 && /opt/servoloop/bin/python -m pip uninstall --yes pip

FROM ${PYTHON_IMAGE}
RUN useradd --system --uid 10001 --home-dir /var/lib/servoloop --create-home servoloop
COPY --from=build /opt/servoloop /opt/servoloop
ENV PATH=/opt/servoloop/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SERVOLOOP_HOST=0.0.0.0 \
    SERVOLOOP_ALLOW_REMOTE=true \
    SERVOLOOP_DATA_DIR=/var/lib/servoloop
USER 10001
VOLUME /var/lib/servoloop
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
  CMD ["python3", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ.get('SERVOLOOP_PORT', 8000)}/readyz\", timeout=2)"]
ENTRYPOINT ["servoloop"]
CMD ["serve"]

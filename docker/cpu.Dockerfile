# On a CPU, on Debian 13 with its Python 3.13. In the project's folder:
#   docker build -f docker/cpu.Dockerfile -t ppliteseg .                                   serves and predicts
#   docker build -f docker/cpu.Dockerfile --build-arg EXTRAS=cpu -t ppliteseg:train .      trains (Paddle 3.2.2)
#   docker run --rm -v "$PWD:/data" ppliteseg predict --image_path photo.jpg
#   docker run --rm -v "$PWD:/data" --shm-size 1g ppliteseg:train train --config data/mine/config.yml
# To export to ONNX and OpenVINO a Python up to 3.12 is needed (Paddle2ONNX): --build-arg BASE=python:3.11-slim-trixie.
#
# Tried: the last RUN step in a Debian 13 made by mmdebstrap, with both EXTRAS, then `doctor`, `predict` and a short
# training (the packages of the first step had come with mmdebstrap, libgomp1 by hand); hadolint. Not tried: Docker itself.
ARG BASE=debian:13-slim
FROM ${BASE}
ARG EXTRAS=runtime,serve
# What wheels of OpenCV and Paddle expect of the system.
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv libgl1 libglib2.0-0t64 libgomp1 \
    && rm -rf /var/lib/apt/lists/*
ENV PIP_NO_CACHE_DIR=1
COPY . /opt/ppliteseg
RUN bash -c 'source /opt/ppliteseg/scripts/env.sh && prepare_env "$EXTRAS" /opt/venv'
ENV PATH=/opt/venv/bin:$PATH PPLITESEG_HOME=/data/.ppliteseg
WORKDIR /data
ENTRYPOINT ["ppliteseg"]
CMD ["doctor"]

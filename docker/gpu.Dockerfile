# On a current NVIDIA GPU (the index's own build of Paddle, 2.6.2, has no kernels for Hopper and later), Ubuntu 24.04 with
# its Python 3.12. In the project's folder:
#   docker build -f docker/gpu.Dockerfile -t ppliteseg:gpu .                               runs exports by TensorRT
#   docker build -f docker/gpu.Dockerfile --build-arg EXTRAS=train,deploy --build-arg PADDLE="..." -t ppliteseg:train .
# where "..." is what docs/install.md leads to, as in "paddlepaddle-gpu==3.2.2 -i ADDRESS" for this image's CUDA 12.6.
#   docker run --rm --gpus all -v "$PWD:/data" ppliteseg:gpu predict --model_dir output/tensorrt --image_path photo.jpg
#
# Tried: hadolint. Not tried: building it, or running it on a GPU. Exports of `--format tensorrt` become engines at
# their first use, kept in PPLITESEG_HOME.
FROM nvidia/cuda:12.6.3-cudnn-runtime-ubuntu24.04
ARG EXTRAS=runtime,serve
ARG PADDLE=
ARG TENSORRT=tensorrt-cu12
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv libgl1 libglib2.0-0t64 libgomp1 \
    && rm -rf /var/lib/apt/lists/*
ENV PIP_NO_CACHE_DIR=1
COPY . /opt/ppliteseg
# Paddle comes first, as the extra `train` keeps the one that is there.
RUN python3 -m venv /opt/venv \
    && if [ -n "$PADDLE" ]; then /opt/venv/bin/pip install $PADDLE; fi \
    && bash -c 'source /opt/ppliteseg/scripts/env.sh && prepare_env "$EXTRAS" /opt/venv' \
    && /opt/venv/bin/pip install "$TENSORRT"
ENV PATH=/opt/venv/bin:$PATH PPLITESEG_HOME=/data/.ppliteseg
WORKDIR /data
ENTRYPOINT ["ppliteseg"]
CMD ["doctor"]

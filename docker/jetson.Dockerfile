# On an NVIDIA Jetson with JetPack 6 (Ubuntu 22.04, Python 3.10), by the TensorRT that JetPack holds: runs exports, trains
# nothing. BASE is NVIDIA's image "l4t-jetpack" of the board's release. In the project's folder, on the board:
#   docker build -f docker/jetson.Dockerfile --build-arg BASE=.../l4t-jetpack:r36.4.0 -t ppliteseg .
#   docker run --rm --runtime nvidia -v "$PWD:/data" ppliteseg predict --model_dir output/tensorrt --image_path photo.jpg
# output/tensorrt is made elsewhere, by `export --format tensorrt`; the engine is built on the board at its first use and
# kept in PPLITESEG_HOME.
#
# Tried: hadolint; that there are wheels for this Python and processor (aarch64) of all that is installed. Not tried:
# building it, or running it on a board.
ARG BASE
# The board's release decides.  # hadolint ignore=DL3006
FROM ${BASE}
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv libgl1 libglib2.0-0 libgomp1 \
    && rm -rf /var/lib/apt/lists/*
ENV PIP_NO_CACHE_DIR=1
COPY . /opt/ppliteseg
# --system-site-packages: TensorRT's Python package is JetPack's.
RUN python3 -m venv --system-site-packages /opt/venv \
    && bash -c 'source /opt/ppliteseg/scripts/env.sh && prepare_env runtime,serve /opt/venv'
ENV PATH=/opt/venv/bin:$PATH PPLITESEG_HOME=/data/.ppliteseg
WORKDIR /data
ENTRYPOINT ["ppliteseg"]
CMD ["doctor"]

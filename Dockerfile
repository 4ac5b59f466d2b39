# SPDX-License-Identifier: Apache-2.0
# One image for both parts; the first argument says which: `operator`, `agent`, or `ctl`.
#
#   base     what runs needs: Python, libbpf, nft
#   build    compilers, the BPF objects, and a virtual environment with everything pinned by constraints.txt
#   (last)   base and that environment: no compiler, no pip, not root
#
# BASE is any Debian 12; a release passes it by digest. Debian's packages aren't pinned (DL3008): a release of Debian
# has one version of each, and a pin would only break with its next security update. The objects find the running
# kernel's layout when they are loaded (CO-RE): any kernel of 6.6 or later builds them for all.
ARG BASE=docker.io/library/debian:bookworm-slim

FROM ${BASE} AS base
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 libbpf1 nftables \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/* /var/log/*

FROM base AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        bpftool clang-19 libbpf-dev libc6-dev make python3-venv
WORKDIR /src
COPY pyproject.toml constraints.txt ./
RUN python3 -m venv /opt/wildcard \
    && python3 -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' > /tmp/requirements.txt \
    && /opt/wildcard/bin/pip install --no-cache-dir --disable-pip-version-check -c constraints.txt -r /tmp/requirements.txt
COPY Makefile README.md LICENSE ./
COPY LICENSES LICENSES
COPY bpf bpf
COPY operator operator
RUN make bpf \
    && PIP_CONSTRAINT=/src/constraints.txt \
        /opt/wildcard/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps . \
    && /opt/wildcard/bin/pip uninstall -y --quiet pip setuptools \
    && python3 -m compileall -q /opt/wildcard/lib

FROM base
LABEL org.opencontainers.image.title="wildcard-operator" \
    org.opencontainers.image.licenses="Apache-2.0 AND (GPL-2.0-only OR BSD-2-Clause)"
COPY --from=build /opt/wildcard /opt/wildcard
COPY --chmod=0755 hack/entrypoint.sh /usr/local/bin/entrypoint
ENV PATH=/opt/wildcard/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    LOGNAME=wildcard
# LOGNAME: kopf asks for the user's name, and no uid has one here.
# The agent alone needs root, for its capabilities; the chart says so.
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/entrypoint"]
CMD ["operator"]

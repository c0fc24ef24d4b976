# Two images: `service` is the bridge alone; `lab` adds the simulated world, which brings c104 (GPL-3).
ARG BASE_IMAGE=python:3.12-slim

FROM ${BASE_IMAGE} AS wheel
WORKDIR /build
COPY requirements-dev.txt ./
RUN sed -n '/^setuptools==/,/# via/p' requirements-dev.txt >requirements-build.txt \
    && pip install --no-cache-dir --require-hashes -r requirements-build.txt
COPY LICENSE README.md pyproject.toml ./
COPY profiles profiles
COPY bridge bridge
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels .

FROM ${BASE_IMAGE} AS service-packages
RUN python3 -m venv /opt/gridlimit
COPY requirements.txt /build/
RUN /opt/gridlimit/bin/pip install --no-cache-dir --require-hashes -r /build/requirements.txt
COPY --from=wheel /wheels /wheels
RUN /opt/gridlimit/bin/pip install --no-deps --no-index /wheels/*.whl

FROM service-packages AS lab-packages
COPY requirements-lab.txt /build/
RUN /opt/gridlimit/bin/pip install --no-cache-dir --require-hashes -r /build/requirements-lab.txt

FROM ${BASE_IMAGE} AS base
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin gridlimit \
    && install -d -o gridlimit -g gridlimit -m 0750 /var/lib/gridlimit
ENV PATH=/opt/gridlimit/bin:$PATH PYTHONUNBUFFERED=1
USER 10001:10001
ENTRYPOINT ["gridlimit"]

FROM base AS lab
COPY --from=lab-packages /opt/gridlimit /opt/gridlimit
WORKDIR /lab
COPY scenarios scenarios

# Last, because the last stage is what is built when no target is named.
FROM base AS service
COPY --from=service-packages /opt/gridlimit /opt/gridlimit
EXPOSE 2404 8080 8081 9000
CMD ["run", "--config", "/etc/gridlimit/site.yaml"]

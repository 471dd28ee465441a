# The Python that the tests run on.
ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim AS build
WORKDIR /src
COPY requirements requirements
RUN python -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements/build.lock \
 && python -m venv /opt/torana \
 && /opt/torana/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements/server.lock
COPY LICENSE README.md pyproject.toml ./
COPY clients/python clients/python
COPY server server
RUN /opt/build/bin/pip wheel --no-cache-dir --no-index --no-deps --no-build-isolation --wheel-dir /wheels ./clients/python .
RUN /opt/torana/bin/pip install --no-cache-dir --no-index --no-deps /wheels/*.whl \
 && /opt/torana/bin/pip check

FROM python:${PYTHON_VERSION}-slim
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/torana torana
COPY --from=build /opt/torana /opt/torana
ENV PATH=/opt/torana/bin:$PATH \
    PYTHONUNBUFFERED=1
USER 10001
WORKDIR /var/lib/torana
VOLUME /var/lib/torana
EXPOSE 7233
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s \
  CMD ["python", "-c", "import grpc; from grpc_health.v1 import health_pb2 as m, health_pb2_grpc as s; channel = grpc.insecure_channel('127.0.0.1:7233'); answer = s.HealthStub(channel).Check(m.HealthCheckRequest(), timeout=3); raise SystemExit(answer.status != m.HealthCheckResponse.SERVING)"]
ENTRYPOINT ["torana"]
# Inside the container every address is the container's own, so the server must be told that plain text is meant.
# Publish the port to the loopback interface or behind something that ends TLS, or give the server certificates.
CMD ["serve", "--address", "0.0.0.0:7233", "--allow-insecure"]

# The server on SQLite and a local store, as a user of its own:
#   docker build -t modelyard .
#   docker run -p 127.0.0.1:8080:8080 -v modelyard:/srv/modelyard modelyard
# The admin key stands in the log of the first start, once.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
WORKDIR /build
RUN python -m venv /opt/modelyard
COPY requirements.lock .
RUN /opt/modelyard/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE ./
COPY app app
COPY migrations migrations
COPY examples examples
RUN /opt/modelyard/bin/pip install --no-cache-dir --no-deps .

FROM python:${PYTHON}-slim
RUN useradd --system --uid 10001 --no-create-home modelyard \
    && install -d -o modelyard -m 0700 /srv/modelyard
COPY --from=build /opt/modelyard /opt/modelyard
ENV PATH=/opt/modelyard/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    MODELYARD_HOME=/srv/modelyard \
    MODELYARD_HOST=0.0.0.0
WORKDIR /srv/modelyard
USER modelyard
VOLUME /srv/modelyard
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD \
    ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/readyz', timeout=4)"]
CMD ["modelyard", "serve"]

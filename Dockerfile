# The image of walcast: docs/image.md says how it is built, run and checked. A test executes these very lines.
#
# The base is one published image, named by its digest: the same file makes the same image until somebody changes this line.
# Digests of newer ones stand in https://github.com/docker-library/repo-info (repos/node/remote), or:
#   docker buildx imagetools inspect node:24-bookworm-slim
ARG NODE_VERSION=24.21.0
ARG NODE_DIGEST=sha256:0e0ff40c39bc087845bfb27465a0df4ea419520094bc35842ff83dd8cbe6f9b6

FROM node:${NODE_VERSION}-bookworm-slim@${NODE_DIGEST} AS build
RUN install -d -o node -g node /src /image
USER node
WORKDIR /src
# What is installed depends on these alone, so that a change of a source does not install anew.
COPY --chown=node:node package.json package-lock.json ./
# The servers of the workspace are for the demo and the tests; scripts of packages are needed by none.
RUN npm ci --workspaces=false --ignore-scripts --no-audit --no-fund
COPY --chown=node:node tsconfig.json tsconfig.build.json ./
COPY --chown=node:node bin/ bin/
COPY --chown=node:node scripts/ scripts/
COPY --chown=node:node page/ page/
COPY --chown=node:node src/ src/
RUN npm run build && node scripts/image-files.mjs /image

FROM node:${NODE_VERSION}-bookworm-slim@${NODE_DIGEST}
# The package managers of the base and the headers of Node.js: nothing builds or installs here.
RUN rm -rf /usr/local/lib/node_modules /usr/local/include/node /opt/yarn-* \
      /usr/local/bin/npm /usr/local/bin/npx /usr/local/bin/corepack /usr/local/bin/yarn /usr/local/bin/yarnpkg \
 && groupadd --gid 10001 walcast \
 && useradd --uid 10001 --gid 10001 --no-log-init --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin walcast \
 && install -d -m 0700 -o 10001 -g 10001 /var/lib/walcast
COPY --from=build --chown=0:0 /image/ /opt/walcast/
ARG NODE_VERSION
ARG NODE_DIGEST
ARG VERSION=0.1.0
# The commit of the sources, as `git rev-parse HEAD` prints it; shown by --version, the API and the metrics.
ARG REVISION=
ENV NODE_ENV=production
ENV WALCAST_REVISION=${REVISION}
LABEL org.opencontainers.image.title="walcast" \
      org.opencontainers.image.description="A WAL relay for PostgreSQL" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="docker.io/library/node:${NODE_VERSION}-bookworm-slim" \
      org.opencontainers.image.base.digest="${NODE_DIGEST}"
# By number, so that a cluster can see that it is not root.
USER 10001:10001
EXPOSE 5432 9188
STOPSIGNAL SIGTERM
ENTRYPOINT ["node", "/opt/walcast/bin/walcast.mjs"]
CMD ["run", "-c", "/etc/walcast/walcast.yaml"]

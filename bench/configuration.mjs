// The configuration of a walcast that is measured: no slot upstream, any free ports, everybody on this machine is let in.

/**
 * @param {{ primaryPort: number, directory: string, verify: string, keepMegabytes?: number, synchronousStandbyNames?: string }} options
 */
export function walcastConfiguration(options) {
  const { keepMegabytes, synchronousStandbyNames } = options;
  return [
    'upstream:',
    `  conninfo: host=127.0.0.1 port=${options.primaryPort} user=postgres sslmode=disable`,
    '  slot: ""',
    ...(synchronousStandbyNames === undefined
      ? []
      : [`synchronous_standby_names: ${synchronousStandbyNames}`]),
    'listen:',
    '  - address: 127.0.0.1:0',
    'auth:',
    '  hba: |',
    '    host replication all 127.0.0.1/32 trust',
    'storage:',
    `  directory: ${options.directory}`,
    ...(keepMegabytes === undefined ? [] : [`  wal_keep_size: ${keepMegabytes}MB`]),
    `  verify: ${options.verify}`,
    'http:',
    '  listen: 127.0.0.1:0',
    'log:',
    '  level: info',
    '  format: json',
    '',
  ].join('\n');
}

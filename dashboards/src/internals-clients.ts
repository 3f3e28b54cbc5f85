// Who comes and goes at a relay: the upstream, standbys, people and programs at its ports.
import type { RowSpec } from './panel-spec.ts';
import { increase, rate } from './selectors.ts';

/** Their row. */
export const CLIENTS: RowSpec = {
  title: 'Clients',
  panels: [
    {
      kind: 'timeseries',
      title: 'Upstream connections begun and ended',
      description: 'Attempts to connect by outcome, and ends of the stream by cause.',
      unit: 'short',
      width: 8,
      height: 7,
      min: 0,
      queries: [
        {
          legend: 'connect: {{outcome}}',
          expr: `sum by (outcome) (${increase('upstream_connects_total')})`,
        },
        {
          legend: 'end: {{reason}}',
          expr: `sum by (reason) (${increase('upstream_disconnects_total')})`,
        },
      ],
    },
    {
      kind: 'timeseries',
      title: 'Messages of upstreams',
      description: 'Messages a second that carry WAL, and keepalives.',
      unit: 'ops',
      width: 8,
      height: 7,
      min: 0,
      queries: [{ legend: '{{type}}', expr: `sum by (type) (${rate('upstream_messages_total')})` }],
    },
    {
      kind: 'timeseries',
      title: 'Ends of standbys’ sessions',
      description: 'Sessions of standbys that ended, by cause.',
      unit: 'short',
      width: 8,
      height: 7,
      min: 0,
      queries: [
        {
          legend: '{{reason}}',
          expr: `sum by (reason) (${increase('standby_disconnects_total')})`,
        },
      ],
    },
    {
      kind: 'timeseries',
      title: 'Logins',
      description: 'Logins by the method of the rule that decided, with their outcome.',
      unit: 'short',
      width: 8,
      height: 7,
      min: 0,
      queries: [
        {
          legend: '{{method}} {{outcome}}',
          expr: `sum by (method, outcome) (${increase('client_authentications_total')})`,
        },
      ],
    },
    {
      kind: 'timeseries',
      title: 'Connections refused',
      description: 'Connections that were turned away before replication began, by reason.',
      unit: 'short',
      width: 8,
      height: 7,
      min: 0,
      queries: [
        {
          legend: '{{reason}}',
          expr: `sum by (reason) (${increase('client_connections_rejected_total')})`,
        },
      ],
    },
    {
      kind: 'timeseries',
      title: 'Replication commands',
      description: 'Commands of the replication protocol that were served.',
      unit: 'short',
      width: 8,
      height: 7,
      min: 0,
      queries: [
        {
          legend: '{{command}}',
          expr: `sum by (command) (${increase('client_commands_total')})`,
        },
      ],
    },
    {
      kind: 'timeseries',
      title: 'Commands and reloads',
      description:
        'Commands that change something, given in the console, whatever became of them: the log says who gave them and what did. Reloads of the configuration, by what became of them, however they were asked for.',
      unit: 'short',
      width: 8,
      height: 7,
      min: 0,
      queries: [
        {
          legend: '{{command}}',
          expr: `sum by (command) (${increase('admin_commands_total')})`,
        },
        {
          legend: 'configuration read again: {{result}}',
          expr: `sum by (result) (${increase('config_reloads_total')})`,
        },
      ],
    },
    {
      kind: 'timeseries',
      title: 'HTTP requests',
      description: 'Requests a second to the HTTP port, by route and class of status.',
      unit: 'reqps',
      width: 8,
      height: 7,
      min: 0,
      queries: [
        {
          legend: '{{method}} {{route}} {{status_class}}',
          expr: `sum by (method, route, status_class) (${rate('http_request_duration_seconds_count')})`,
        },
      ],
    },
    {
      kind: 'timeseries',
      title: 'HTTP answers, 99 of 100 quicker than',
      description:
        'How long answers of the HTTP port take, by route. Nothing is shown for routes that nobody asks.',
      unit: 's',
      width: 8,
      height: 7,
      min: 0,
      queries: [
        {
          legend: '{{route}}',
          expr: `histogram_quantile(0.99, sum by (route, le) (${rate('http_request_duration_seconds_bucket')}))`,
        },
      ],
    },
  ],
};

// SHOW CONFIG and SHOW HBA: the configuration and the access rules in effect.
import type { HbaRule } from '../pg/hba.ts';
import type { ConfigEntry } from '../status/actions.ts';
import { formatIpAddress } from '../pg/ip-address.ts';
import type { ConsoleSource } from './source.ts';
import { bool, int4, text, texts } from './view-columns.ts';
import { viewOf } from './view.ts';
import type { View } from './view.ts';

/** One row for each key, in the order of the documentation; secrets are masked where the entries are made. */
export const SHOW_CONFIG: View = viewOf<ConfigEntry>(
  (inside) => inside.configuration(),
  [
    text('key', ({ key }) => key),
    text('value', ({ value }) => value),
    text('default', ({ defaultValue }) => defaultValue),
    text('source', ({ origin }) => origin),
    bool('reloadable', ({ isReloadable }) => isReloadable),
    text('place', ({ place }) => place),
    bool('pending_restart', ({ isPendingRestart }) => isPendingRestart),
  ],
);

interface RuleRow {
  readonly number: number;
  readonly rule: HbaRule;
}

/** One row for each rule, in the order in which they are tried, as pg_hba_file_rules of PostgreSQL 16. (hbafuncs.c) */
export const SHOW_HBA: View = viewOf<RuleRow>(ruleRows, [
  int4('rule_number', ({ number }) => number),
  text('file_name', ({ rule }) => (rule.source === '' ? null : rule.source)),
  int4('line_number', ({ rule }) => rule.line),
  text('type', ({ rule }) => rule.type),
  texts('database', ({ rule }) => rule.databases.map((word) => word.text)),
  texts('user_name', ({ rule }) => rule.users.map((word) => word.text)),
  text('address', addressText),
  text('netmask', ({ rule }) =>
    rule.address?.kind === 'network' ? formatIpAddress(rule.address.network.mask) : null,
  ),
  text('auth_method', ({ rule }) => rule.method),
  texts('options', ({ rule }) => {
    const options = optionsOf(rule);
    return options.length === 0 ? null : options;
  }),
  // A configuration with a rule that cannot be read is never in effect.
  text('error', () => null),
]);

function ruleRows(inside: ConsoleSource): RuleRow[] {
  return inside.hbaRules().map((rule, index) => ({ number: index + 1, rule }));
}

function addressText({ rule: { address } }: RuleRow): string | null {
  switch (address?.kind) {
    case undefined:
      return null;
    case 'network':
      return formatIpAddress(address.network.address);
    case 'name':
      return address.name;
    case 'all':
    case 'samehost':
    case 'samenet':
      return address.kind;
  }
}

/** (hbafuncs.c:get_hba_options) */
function optionsOf({ map, clientCert, clientName }: HbaRule): string[] {
  const options: string[] = [];
  if (map !== null) options.push(`map=${map}`);
  if (clientCert !== null) options.push(`clientcert=${clientCert}`);
  if (clientName !== 'CN') options.push(`clientname=${clientName}`);
  return options;
}

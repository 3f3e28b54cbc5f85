// Does one rule take every connection that another one means? Where it is not certain, no.
import type { HbaAddress, HbaRule } from './hba-rule.ts';
import { isKeyword } from './hba-words.ts';
import type { HbaWord } from './hba-words.ts';
import { isInNetwork } from './ip-address.ts';

/** True when no connection that matches `rule` gets past `other`, which stands above it. */
export function coversRule(other: HbaRule, rule: HbaRule): boolean {
  return (
    coversType(other, rule) &&
    coversAddress(other.address, rule.address) &&
    rule.databases.every((word) => other.databases.some((cover) => coversDatabase(cover, word))) &&
    rule.users.every((word) =>
      other.users.some((cover) => isKeyword(cover, 'all') || isSameWord(cover, word)),
    )
  );
}

function coversType({ type: other }: HbaRule, { type }: HbaRule): boolean {
  return other === type || (other === 'host' && type !== 'local');
}

function coversAddress(other: HbaAddress | null, address: HbaAddress | null): boolean {
  if (other === null || address === null) return other === address;
  if (other.kind === 'all') return true;
  if (other.kind !== address.kind) return false;
  if (other.kind === 'name' && address.kind === 'name') return other.name === address.name;
  if (other.kind !== 'network' || address.kind !== 'network') return true;
  const isNarrower = address.network.mask.every(
    (bits, index) => ((other.network.mask[index] ?? 0xff) & ~bits & 0xff) === 0,
  );
  return isNarrower && isInNetwork(address.network.address, other.network);
}

/** `all` means every database, and no physical replication. */
function coversDatabase(other: HbaWord, word: HbaWord): boolean {
  if (isKeyword(other, 'all')) return !isKeyword(word, 'replication');
  return isSameWord(other, word);
}

/** One that is quoted is another word than a key word. */
function isSameWord(other: HbaWord, word: HbaWord): boolean {
  const isKey = isKeyWord(other) || isKeyWord(word);
  return other.text === word.text && (!isKey || other.isQuoted === word.isQuoted);
}

function isKeyWord(word: HbaWord): boolean {
  return ['all', 'sameuser', 'replication'].some((keyword) => isKeyword(word, keyword));
}

// Is an absent tool skipped with its reason, and a failure where everything must be there?
import { afterEach, describe, expect, it, vi } from 'vitest';

async function load(
  environment: Readonly<Record<string, string>>,
): Promise<typeof import('../support/requirements.ts')> {
  vi.resetModules();
  for (const [name, value] of Object.entries(environment)) vi.stubEnv(name, value);
  return await import('../support/requirements.ts');
}

describe('requirements', () => {
  afterEach(() => {
    vi.unstubAllEnvs();
    vi.restoreAllMocks();
  });

  it('names what is missing, and nothing that is there', async () => {
    const { missing } = await load({});
    expect(missing('no-such-program')).toBe('no-such-program is not installed');
    expect(missing('sh')).toBeNull();
    expect(missing('postgres-99')).toContain('PostgreSQL 99 is not installed');
  });

  it('skip with the reason printed', async () => {
    const printed = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    const { requires } = await load({ WALCAST_TEST_REQUIRE: '' });
    expect(requires('no-such-program').it).not.toBe(it);
    expect(printed).toHaveBeenCalledWith('skipped: no-such-program is not installed\n');
    expect(requires('sh').it).toBe(it);
  });

  it('fail where WALCAST_TEST_REQUIRE=all is set', async () => {
    const { requires, installedMajors } = await load({
      WALCAST_TEST_REQUIRE: 'all',
      WALCAST_TEST_MAJORS: '99',
    });
    expect(() => requires('no-such-program')).toThrow('no-such-program is not installed');
    expect(() => installedMajors()).toThrow('PostgreSQL 99');
  });

  it('take the majors from WALCAST_TEST_MAJORS and refuse what is no list of them', async () => {
    expect((await load({ WALCAST_TEST_MAJORS: '14, 17' })).TEST_MAJORS).toEqual([14, 17]);
    await expect(load({ WALCAST_TEST_MAJORS: 'new' })).rejects.toThrow('a list like 13,15,18');
  });
});

// Are lines of pages taken as Docker and a shell would take them, and refused where nobody tried that?
import { describe, expect, it } from 'vitest';
import { buildLine, runLine, shellLines, shellWords } from '../harness/docker-lines.ts';

describe('lines of a page', () => {
  it('are those of its sh blocks, in order', () => {
    const page = 'a\n```sh\none\n\ntwo\n```\n```yaml\nno: 1\n```\n```sh\nthree\n```\n';
    expect(shellLines(page)).toEqual(['one', 'two', 'three']);
  });

  it('are split into words as a shell does, quoted ones whole', () => {
    expect(shellWords(`a --b=c 'd "e"' "f 'g'"`)).toEqual(['a', '--b=c', 'd "e"', "f 'g'"]);
    expect(shellWords('a="$(date)" b', { date: 'now' })).toEqual(['a=now', 'b']);
  });

  it.each(['a | b', 'a; b', 'a && b', 'a >b', 'a $B', 'a "$B"', 'a `b`', "a 'b", 'a "$(date)"'])(
    'are refused where a shell would do more: %s',
    (line) => {
      expect(() => shellWords(line)).toThrow();
    },
  );

  it('say what is built, and from what', () => {
    const words = shellWords('docker build --build-arg A=b=c --tag t:1 .');
    expect(buildLine(words)).toEqual({ args: { A: 'b=c' }, tag: 't:1', context: '.' });
    expect(() => buildLine(shellWords('docker build --squash .'))).toThrow('--squash');
    expect(() => buildLine(shellWords('docker build --tag t'))).toThrow('context');
  });

  it('say what runs, and as what', () => {
    const words = shellWords(
      'docker run --rm --read-only --volume v:/d --volume /e:/f:ro img sub --flag',
    );
    expect(runLine(words, { v: '/volumes/v', '/e': '/e' })).toEqual({
      name: null,
      isReadOnly: true,
      mounts: [
        { source: '/volumes/v', target: '/d', isReadOnly: false },
        { source: '/e', target: '/f', isReadOnly: true },
      ],
      published: [],
      stopSeconds: 10,
      image: 'img',
      command: ['sub', '--flag'],
    });
    expect(() => runLine(words, {})).toThrow('there is no v here');
    expect(() => runLine(shellWords('docker run --privileged img'), {})).toThrow('--privileged');
  });
});

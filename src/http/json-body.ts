// Which bodies are read? JSON of one reading: no prototypes, and no key twice, of which every reader on the way may take another.
import type { FastifyInstance } from 'fastify';

/** Takes JSON and nothing else. An empty body is none, whatever the header says of it: many clients give a type without one. */
export function readJsonOnly(server: FastifyInstance): void {
  const parse = server.getDefaultJsonParser('error', 'error');
  server.removeAllContentTypeParsers();
  server.addContentTypeParser(
    'application/json',
    { parseAs: 'string' },
    (request, body: string, done) => {
      if (body === '') done(null, undefined);
      else {
        void parse(request, body, (error: Error | null, value?: unknown) => {
          if (error === null && hasDuplicateKeys(body)) done(new DuplicateKeys());
          else done(error, value);
        });
      }
    },
  );
}

class DuplicateKeys extends Error {
  override readonly name = 'DuplicateKeys';
  readonly statusCode = 400;

  constructor() {
    super('the body has a key twice');
  }
}

/** `json` has been parsed without an error. */
export function hasDuplicateKeys(json: string): boolean {
  /** Of each object or list that is open; a list has no keys. */
  const open: (Set<string> | null)[] = [];
  let text = '';
  for (const [token] of json.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\]:]/g)) {
    if (token === '{') open.push(new Set());
    else if (token === '[') open.push(null);
    else if (token === '}' || token === ']') open.pop();
    else if (token === ':') {
      const keys = open.at(-1);
      // The same key may be written in several ways.
      const key = String(JSON.parse(text));
      if (keys?.has(key) === true) return true;
      keys?.add(key);
    } else text = token;
  }
  return false;
}

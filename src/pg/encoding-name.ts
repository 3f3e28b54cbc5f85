// Which character set does a name mean, in PostgreSQL's own spelling? Clients compare what they are told letter by letter.
// (src/common/encnames.c:pg_encname_tbl, clean_encoding_name, pg_enc2name_tbl)

/** Names that mean themselves, with what they may also be called; letters and digits count alone. */
const NAMES: Readonly<Record<string, string>> = {
  SQL_ASCII: '',
  UTF8: 'unicode',
  MULE_INTERNAL: '',
  EUC_JP: '',
  EUC_CN: '',
  EUC_KR: '',
  EUC_TW: '',
  EUC_JIS_2004: '',
  LATIN1: 'iso88591',
  LATIN2: 'iso88592',
  LATIN3: 'iso88593',
  LATIN4: 'iso88594',
  LATIN5: 'iso88599',
  LATIN6: 'iso885910',
  LATIN7: 'iso885913',
  LATIN8: 'iso885914',
  LATIN9: 'iso885915',
  LATIN10: 'iso885916',
  ISO_8859_5: '',
  ISO_8859_6: '',
  ISO_8859_7: '',
  ISO_8859_8: '',
  WIN866: 'alt windows866',
  WIN874: 'windows874',
  WIN1250: 'windows1250',
  WIN1251: 'win windows1251',
  WIN1252: 'windows1252',
  WIN1253: 'windows1253',
  WIN1254: 'windows1254',
  WIN1255: 'windows1255',
  WIN1256: 'windows1256',
  WIN1257: 'windows1257',
  WIN1258: 'abc tcvn tcvn5712 vscii windows1258',
  KOI8R: 'koi8',
  KOI8U: '',
  SJIS: 'mskanji shiftjis win932 windows932',
  SHIFT_JIS_2004: '',
  BIG5: 'win950 windows950',
  GBK: 'win936 windows936',
  UHC: 'win949 windows949',
  GB18030: '',
  JOHAB: '',
};

const BY_CLEAN_NAME: ReadonlyMap<string, string> = new Map(
  Object.entries(NAMES).flatMap(([name, others]) =>
    [clean(name), ...others.split(' ')]
      .filter((other) => other !== '')
      .map((other) => [other, name] as const),
  ),
);

function clean(name: string): string {
  return name.replaceAll(/[^A-Za-z0-9]/g, '').toLowerCase();
}

/** NAMEDATALEN: a longer name is none, whatever is in it. */
const NAME_BYTES_MAX = 63;

/** PostgreSQL's spelling of a character set; null for what is none. */
export function encodingName(name: string): string | null {
  if (Buffer.byteLength(name) > NAME_BYTES_MAX) return null;
  return BY_CLEAN_NAME.get(clean(name)) ?? null;
}

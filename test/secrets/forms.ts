/** What a secret key looks like in a text, whoever wrote it. */

/** Base64 in both alphabets, hexadecimal in both cases, lists of bytes, and half of each. */
export function formsOf(base64: string): string[] {
  const bytes = Buffer.from(base64, 'base64');
  const hex = bytes.toString('hex');
  const whole = [
    base64,
    bytes.toString('base64url'),
    hex,
    hex.toUpperCase(),
    [...bytes].join(','),
    [...bytes].join(' '),
  ];
  return whole
    .flatMap((form) => [form, form.slice(0, form.length >> 1), form.slice(form.length >> 1)])
    .filter((form) => form.length > 8);
}

/** Files that are wrong in a line with a key, or in one that a key got into; `text` is a good one with both kinds of key. */
export function brokenFiles(text: string): ReadonlyMap<string, string> {
  const [, key] = /^PrivateKey = (.*)$/m.exec(text)!;
  const [, preshared] = /^PresharedKey = (.*)$/m.exec(text)!;
  const instead = (name: string, line: string): string => text.replace(new RegExp(`^${name} = .*$`, 'm'), line);
  return new Map([
    ['a key twice as long', instead('PrivateKey', `PrivateKey = ${key}${key}`)],
    ['a key without its first letter', instead('PrivateKey', `PrivateKey = ${key!.slice(1)}`)],
    ['a key without its end', instead('PrivateKey', `PrivateKey = ${key!.slice(0, 42)}`)],
    ['a key in quotes', instead('PrivateKey', `PrivateKey = "${key}"`)],
    ['a colon', instead('PresharedKey', `PresharedKey: ${preshared}`)],
    ['no name', instead('PresharedKey', preshared!)],
    ['a name that is misspelt', instead('PrivateKey', `PrivatKey = ${key}`)],
    ['a name that is unknown', instead('PresharedKey', `Secret = ${preshared}`)],
    ['a name of the other section', instead('PresharedKey', `PrivateKey = ${preshared}`)],
    ['a key as a section', instead('PresharedKey', `[${preshared}]`)],
    ['a key as a name', instead('PresharedKey', `${preshared} = 1`)],
    ...[
      'Address',
      'Endpoint',
      'AllowedIPs',
      'PersistentKeepalive',
      'DNS',
      'MTU',
      'ListenPort',
      'Table',
      'PublicKey',
    ].map((name): [string, string] => {
      const line = `${name} = ${key}${name === 'PublicKey' ? key : ''}`;
      const section = ['DNS', 'MTU', 'ListenPort', 'Table'].includes(name) ? 'PrivateKey' : 'PresharedKey';
      const present = new RegExp(`^${name} = `, 'm').test(text);
      return [`a key as ${name}`, present ? instead(name, line) : instead(section, line)];
    }),
  ]);
}

/** The Noise vectors of three other implementations, and a token interpreter that replays them on `SymmetricState`. */
import { expect } from 'vitest';
import type { CipherSuite, Crypto } from '../../src/crypto.ts';
import { SymmetricState } from '../../src/noise.ts';
import { concat, hex, unhex, vectors } from './bytes.ts';

export interface Vector {
  readonly name: string;
  readonly prologue: string;
  readonly psks: readonly string[];
  readonly initiator: { readonly s: string; readonly e: string };
  readonly responder: { readonly s: string; readonly e: string };
  readonly hash?: string;
  readonly messages: readonly { readonly payload: string; readonly ciphertext: string }[];
}

interface CacophonyVector {
  readonly protocol_name: string;
  readonly init_prologue: string;
  readonly init_psks?: readonly string[];
  readonly init_static: string;
  readonly init_ephemeral: string;
  readonly resp_static: string;
  readonly resp_ephemeral: string;
  readonly handshake_hash?: string;
  readonly messages: Vector['messages'];
}

function cacophony(file: string): Vector[] {
  return vectors<{ readonly vectors: readonly CacophonyVector[] }>(file).vectors.map((v) => ({
    name: v.protocol_name,
    prologue: v.init_prologue,
    psks: v.init_psks ?? [],
    initiator: { s: v.init_static, e: v.init_ephemeral },
    responder: { s: v.resp_static, e: v.resp_ephemeral },
    ...(v.handshake_hash === undefined ? {} : { hash: v.handshake_hash }),
    messages: v.messages,
  }));
}

function flynn(file: string): Vector[] {
  return vectors<{ readonly vectors: readonly Readonly<Record<string, string>>[] }>(file).vectors.map((v) => ({
    name: v['handshake']!,
    prologue: v['prologue'] ?? '',
    psks: v['preshared_key'] === undefined ? [] : [v['preshared_key']],
    initiator: { s: v['init_static']!, e: v['gen_init_ephemeral']! },
    responder: { s: v['resp_static']!, e: v['gen_resp_ephemeral']! },
    messages: [0, 1, 2, 3].map((i) => ({ payload: v[`msg_${i}_payload`]!, ciphertext: v[`msg_${i}_ciphertext`]! })),
  }));
}

/** Noise section 7.5 and 9: the tokens of IK and where its modifiers put `psk`. */
export function patternOf(name: string): readonly (readonly string[])[] {
  const first = ['e', 'es', 's', 'ss'];
  const second = ['e', 'ee', 'se'];
  if (/psk0/.test(name)) first.unshift('psk');
  if (/psk1/.test(name)) first.push('psk');
  if (/psk2/.test(name)) second.push('psk');
  return [first, second];
}

const EMPTY = new Uint8Array(0);
const ascii = (text: string): Uint8Array => Uint8Array.from(text, (c) => c.codePointAt(0)!);

/** Noise section 12: the cipher is the fourth part of a protocol's name. */
export function suiteOf({ name }: Vector): CipherSuite {
  return name.split('_')[3] === 'AESGCM' ? 'aes256gcm' : 'chacha20poly1305';
}

/** One party of an IK handshake (Noise section 5.3), reading or writing one message at a time. */
export class Party {
  readonly state: SymmetricState;
  readonly #crypto: Crypto;
  readonly #initiator: boolean;
  readonly #s: Uint8Array;
  readonly #e: Uint8Array;
  readonly #psks: Uint8Array[];
  readonly #hasPsk: boolean;
  #rs: Uint8Array = EMPTY;
  #re: Uint8Array = EMPTY;

  constructor(crypto: Crypto, vector: Vector, role: 'initiator' | 'responder') {
    this.#crypto = crypto;
    this.#initiator = role === 'initiator';
    this.#s = unhex(vector[role].s);
    this.#e = unhex(vector[role].e);
    this.#psks = vector.psks.map((psk) => unhex(psk));
    this.#hasPsk = this.#psks.length > 0;
    this.state = SymmetricState.initialize(crypto, crypto.aead(suiteOf(vector)), ascii(vector.name));
    this.state.mixHash(unhex(vector.prologue));
    const responderStatic = crypto.publicKey(unhex(vector.responder.s));
    if (this.#initiator) this.#rs = responderStatic;
    this.state.mixHash(responderStatic);
  }

  write(tokens: readonly string[], payload: Uint8Array): Uint8Array {
    const parts: Uint8Array[] = [];
    for (const token of tokens) {
      if (token === 'e') {
        const e = this.#crypto.publicKey(this.#e);
        parts.push(e);
        this.#mixEphemeral(e);
      } else if (token === 's') {
        parts.push(this.state.encryptAndHash(this.#crypto.publicKey(this.#s)));
      } else {
        this.#mix(token);
      }
    }
    parts.push(this.state.encryptAndHash(payload));
    return unhex(parts.map((part) => hex(part)).join(''));
  }

  read(tokens: readonly string[], message: Uint8Array): Uint8Array | undefined {
    let at = 0;
    for (const token of tokens) {
      if (token === 'e') {
        this.#re = message.slice(at, (at += 32));
        this.#mixEphemeral(this.#re);
      } else if (token === 's') {
        const rs = this.state.decryptAndHash(message.subarray(at, (at += 48)));
        if (rs === undefined) return undefined;
        this.#rs = rs;
      } else {
        this.#mix(token);
      }
    }
    return this.state.decryptAndHash(message.subarray(at));
  }

  #mixEphemeral(e: Uint8Array): void {
    this.state.mixHash(e);
    if (this.#hasPsk) this.state.mixKey(e);
  }

  #mix(token: string): void {
    if (token === 'psk') {
      this.state.mixKeyAndHash(this.#psks.shift()!);
      return;
    }
    const [mine, theirs] = this.#initiator ? [token[0], token[1]] : [token[1], token[0]];
    this.state.mixKey(this.#crypto.dh(mine === 'e' ? this.#e : this.#s, theirs === 'e' ? this.#re : this.#rs)!);
  }
}

/** Every vector there is, with where it is from. */
export const noiseVectors = [
  ...cacophony('noise/cacophony-ik.json').map((vector) => ({ source: 'cacophony', vector })),
  ...cacophony('noise/snow-ik.json').map((vector) => ({ source: 'snow', vector })),
  ...flynn('noise/flynn-ik.json').map((vector) => ({ source: 'flynn', vector })),
].map((entry, number) => ({ ...entry, number, name: entry.vector.name }));

/** The whole vector: both messages in both roles, the handshake hash, the keys of the session and what they seal. */
export function expectReproduced(crypto: Crypto, vector: Vector): void {
  const initiator = new Party(crypto, vector, 'initiator');
  const responder = new Party(crypto, vector, 'responder');
  for (const [i, tokens] of patternOf(vector.name).entries()) {
    const [writer, reader] = i === 0 ? [initiator, responder] : [responder, initiator];
    const { payload, ciphertext } = vector.messages[i]!;
    expect(hex(writer.write(tokens, unhex(payload)))).toBe(ciphertext);
    expect(hex(reader.read(tokens, unhex(ciphertext))!)).toBe(payload);
  }
  expect(initiator.state.handshakeHash()).toEqual(responder.state.handshakeHash());
  if (vector.hash !== undefined) expect(hex(initiator.state.handshakeHash())).toBe(vector.hash);
  const keys = initiator.state.split();
  expect(responder.state.split()).toEqual(keys);
  const aead = crypto.aead(suiteOf(vector));
  for (const [i, { payload, ciphertext }] of vector.messages.slice(2).entries()) {
    const [key, counter] = [keys[i & 1]!, i >> 1];
    expect(hex(aead.seal(key, counter, unhex(payload), EMPTY))).toBe(ciphertext);
    const packet = concat(unhex(payload), new Uint8Array(16));
    aead.sealer(key).seal(packet, 0, packet.length - 16, counter, 0);
    expect(hex(packet)).toBe(ciphertext);
    expect(aead.opener(key).open(packet, 0, packet.length, counter, 0)).toBe(true);
    expect(hex(packet.subarray(0, -16))).toBe(payload);
  }
}

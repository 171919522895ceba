/**
 * The two messages of the post-quantum exchange: what a transport data message carries in place of an IP packet. Byte 0 has
 * no IP version in its upper half (15 is unassigned), so every other implementation drops them as packets of unknown version.
 * Both lengths are multiples of 16: there is no padding to tell apart from content.
 */
import { CIPHERTEXT_LENGTH, ENCAPSULATION_KEY_LENGTH } from './kem.ts';

export const EXCHANGE_ID_LENGTH = 8;

const MAGIC = 0xf0_73_70_71;
const VERSION = 1;
const TYPE = { offer: 1, answer: 2 } as const;
const AT = { magic: 0, version: 4, type: 5, reserved: 6, id: 8, body: 16 } as const;

/** The shortest MTU that has room for both messages. */
export const EXCHANGE_MTU: number = AT.body + ENCAPSULATION_KEY_LENGTH;

export interface ExchangeMessage {
  /** `offer` carries an encapsulation key, `answer` a ciphertext. */
  readonly type: 'offer' | 'answer';
  /** Chosen at random by who offers. */
  readonly id: Uint8Array;
  readonly body: Uint8Array;
}

/** True when `length` bytes at `offset` are a well-formed message, by its header and exact length. */
export function isExchangeMessage(view: DataView, offset: number, length: number): boolean {
  if (length !== AT.body + ENCAPSULATION_KEY_LENGTH && length !== AT.body + CIPHERTEXT_LENGTH) return false;
  if (view.getUint32(offset + AT.magic) !== MAGIC || view.getUint8(offset + AT.version) !== VERSION) return false;
  if (view.getUint16(offset + AT.reserved) !== 0) return false;
  return view.getUint8(offset + AT.type) === (length === EXCHANGE_MTU ? TYPE.offer : TYPE.answer);
}

export function encodeExchangeMessage(message: ExchangeMessage): Uint8Array {
  const bytes = new Uint8Array(AT.body + message.body.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(AT.magic, MAGIC);
  view.setUint8(AT.version, VERSION);
  view.setUint8(AT.type, TYPE[message.type]);
  bytes.set(message.id, AT.id);
  bytes.set(message.body, AT.body);
  return bytes;
}

/** Of what `isExchangeMessage` accepted; the fields borrow from `bytes`. */
export function decodeExchangeMessage(bytes: Uint8Array): ExchangeMessage {
  return {
    type: bytes[AT.type] === TYPE.offer ? 'offer' : 'answer',
    id: bytes.subarray(AT.id, AT.id + EXCHANGE_ID_LENGTH),
    body: bytes.subarray(AT.body),
  };
}

/**
 * The four messages on the wire (paper section 5.4): named offsets, exact lengths, little endian.
 * `messageType` parses once; everything behind it works on whole, well-formed messages.
 */

export const MESSAGE = { initiation: 1, response: 2, cookieReply: 3, data: 4 } as const;

export const INITIATION = {
  sender: 4,
  ephemeral: 8,
  encryptedStatic: 40,
  encryptedTimestamp: 88,
  mac1: 116,
  mac2: 132,
  length: 148,
} as const;

export const RESPONSE = {
  sender: 4,
  receiver: 8,
  ephemeral: 12,
  encryptedNothing: 44,
  mac1: 60,
  mac2: 76,
  length: 92,
} as const;

export const COOKIE_REPLY = { receiver: 4, nonce: 8, encryptedCookie: 32, length: 64 } as const;

export const DATA = { receiver: 4, counterLow: 8, counterHigh: 12, packet: 16, minimumLength: 32 } as const;

export const MAC_LENGTH = 16;

export type MessageType = (typeof MESSAGE)[keyof typeof MESSAGE];

/** The type of the `length` bytes at `offset`, or 0 when they are no well-formed message. */
export function messageType(view: DataView, offset: number, length: number): MessageType | 0 {
  if (length < DATA.minimumLength) return 0;
  // The type byte and its three reserved zeros, read as one word.
  switch (view.getUint32(offset, true)) {
    case MESSAGE.data:
      return MESSAGE.data;
    case MESSAGE.initiation:
      return length === INITIATION.length ? MESSAGE.initiation : 0;
    case MESSAGE.response:
      return length === RESPONSE.length ? MESSAGE.response : 0;
    case MESSAGE.cookieReply:
      return length === COOKIE_REPLY.length ? MESSAGE.cookieReply : 0;
    default:
      return 0;
  }
}

export interface Initiation {
  readonly sender: number;
  readonly ephemeral: Uint8Array;
  readonly encryptedStatic: Uint8Array;
  readonly encryptedTimestamp: Uint8Array;
}

export interface Response {
  readonly sender: number;
  readonly receiver: number;
  readonly ephemeral: Uint8Array;
  readonly encryptedNothing: Uint8Array;
}

export interface CookieReply {
  readonly receiver: number;
  readonly nonce: Uint8Array;
  readonly encryptedCookie: Uint8Array;
}

/** A whole initiation message without its MACs, which stay zero. */
export function encodeInitiation(message: Initiation): Uint8Array {
  const bytes = start(MESSAGE.initiation, INITIATION.length);
  writeUint32(bytes, INITIATION.sender, message.sender);
  bytes.set(message.ephemeral, INITIATION.ephemeral);
  bytes.set(message.encryptedStatic, INITIATION.encryptedStatic);
  bytes.set(message.encryptedTimestamp, INITIATION.encryptedTimestamp);
  return bytes;
}

/** The fields borrow from `bytes`. */
export function decodeInitiation(bytes: Uint8Array): Initiation {
  return {
    sender: readUint32(bytes, INITIATION.sender),
    ephemeral: bytes.subarray(INITIATION.ephemeral, INITIATION.encryptedStatic),
    encryptedStatic: bytes.subarray(INITIATION.encryptedStatic, INITIATION.encryptedTimestamp),
    encryptedTimestamp: bytes.subarray(INITIATION.encryptedTimestamp, INITIATION.mac1),
  };
}

export function encodeResponse(message: Response): Uint8Array {
  const bytes = start(MESSAGE.response, RESPONSE.length);
  writeUint32(bytes, RESPONSE.sender, message.sender);
  writeUint32(bytes, RESPONSE.receiver, message.receiver);
  bytes.set(message.ephemeral, RESPONSE.ephemeral);
  bytes.set(message.encryptedNothing, RESPONSE.encryptedNothing);
  return bytes;
}

/** The fields borrow from `bytes`. */
export function decodeResponse(bytes: Uint8Array): Response {
  return {
    sender: readUint32(bytes, RESPONSE.sender),
    receiver: readUint32(bytes, RESPONSE.receiver),
    ephemeral: bytes.subarray(RESPONSE.ephemeral, RESPONSE.encryptedNothing),
    encryptedNothing: bytes.subarray(RESPONSE.encryptedNothing, RESPONSE.mac1),
  };
}

export function encodeCookieReply(message: CookieReply): Uint8Array {
  const bytes = start(MESSAGE.cookieReply, COOKIE_REPLY.length);
  writeUint32(bytes, COOKIE_REPLY.receiver, message.receiver);
  bytes.set(message.nonce, COOKIE_REPLY.nonce);
  bytes.set(message.encryptedCookie, COOKIE_REPLY.encryptedCookie);
  return bytes;
}

/** The fields borrow from `bytes`. */
export function decodeCookieReply(bytes: Uint8Array): CookieReply {
  return {
    receiver: readUint32(bytes, COOKIE_REPLY.receiver),
    nonce: bytes.subarray(COOKIE_REPLY.nonce, COOKIE_REPLY.encryptedCookie),
    encryptedCookie: bytes.subarray(COOKIE_REPLY.encryptedCookie, COOKIE_REPLY.length),
  };
}

/** The sender index of a handshake message: the receiver of a cookie reply to it. */
export function senderIndex(bytes: Uint8Array): number {
  return readUint32(bytes, INITIATION.sender);
}

/** Where mac1 begins; mac2 follows it and ends the message. */
export function mac1Offset(bytes: Uint8Array): number {
  return bytes.length - 2 * MAC_LENGTH;
}

function start(type: MessageType, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  bytes[0] = type;
  return bytes;
}

function readUint32(bytes: Uint8Array, offset: number): number {
  return (bytes[offset]! | (bytes[offset + 1]! << 8) | (bytes[offset + 2]! << 16) | (bytes[offset + 3]! << 24)) >>> 0;
}

function writeUint32(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value;
  bytes[offset + 1] = value >>> 8;
  bytes[offset + 2] = value >>> 16;
  bytes[offset + 3] = value >>> 24;
}

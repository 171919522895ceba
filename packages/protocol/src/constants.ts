/**
 * The numbers of the WireGuard paper (Donenfeld, NDSS 2017, section 6.1) and the few that its
 * implementations added. Times are milliseconds. There is no public knob for any of them.
 */

export const REKEY_AFTER_TIME = 120_000;
export const REJECT_AFTER_TIME = 180_000;
export const REKEY_ATTEMPT_TIME = 90_000;
export const REKEY_TIMEOUT = 5_000;
export const KEEPALIVE_TIMEOUT = 10_000;

/** Upper bound (exclusive) of the random delay added to handshake timers: the kernel's HZ/3. */
export const REKEY_TIMEOUT_JITTER = 334;

/** Retransmissions after the first initiation before giving up: 20 initiations in all. */
export const MAX_HANDSHAKE_RETRIES: number = REKEY_ATTEMPT_TIME / REKEY_TIMEOUT + 1;

/** Two handshakes crossed: a side that has heard nothing on its own session for this long moves to the peer's. */
export const CROSSING_TIMEOUT = 2_000;

/** Keys and handshake state are erased this long after the last new session (paper section 6.3). */
export const ZERO_KEYS_AFTER: number = 3 * REJECT_AFTER_TIME;

/** A receiving initiator renews this long after the session began (paper section 6.2). */
export const REKEY_AFTER_TIME_RECEIVING: number = REJECT_AFTER_TIME - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT;

/** 2^60 as the high half of a 64-bit counter. */
export const REKEY_AFTER_MESSAGES_HIGH: number = 2 ** 28;

/** 2^64 - 2^13 - 1 in halves: the first counter that is never used (paper section 6.1, wireguard-go). */
export const REJECT_AFTER_MESSAGES_HIGH = 0xffff_ffff;
export const REJECT_AFTER_MESSAGES_LOW = 0xffff_dfff;

/** How old a post-quantum preshared key may grow, unless an operator says otherwise within these bounds. */
export const POST_QUANTUM_INTERVAL: number = 3_600_000;
export const MIN_POST_QUANTUM_INTERVAL = 10_000;
export const MAX_POST_QUANTUM_INTERVAL: number = 86_400_000;

/** An operator may renew sessions earlier than the protocol, never later. */
export const MIN_REKEY_INTERVAL = 10_000;

export const COOKIE_SECRET_LIFETIME = 120_000;
/** The sender stops using a cookie this much before the responder does, to cover the way. */
export const COOKIE_SECRET_LATENCY = 5_000;

/** Initiations of one peer that come closer together than this are dropped: 50 a second. */
export const HANDSHAKE_INITIATION_INTERVAL = 20;

/** Under load is a state that lasts at least this long once the queue was an eighth full. */
export const UNDER_LOAD_LINGER = 1_000;
export const HANDSHAKE_QUEUE_LENGTH = 1_024;
export const UNDER_LOAD_QUEUE_LENGTH: number = HANDSHAKE_QUEUE_LENGTH / 8;
/** Handshakes processed in one tick, so that waiting data packets come first again soon: a fifth of a millisecond's work. */
export const HANDSHAKES_PER_TICK = 4;

export const STAGED_PACKETS = 128;

export const REPLAY_WINDOW_BITS = 8_192;

export const MAX_PEERS: number = 2 ** 16;

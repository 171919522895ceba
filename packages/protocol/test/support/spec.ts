/** Constants retyped from the paper (section 6.1) and from what the kernel and wireguard-go agree on, in milliseconds. */

export const REKEY_AFTER_TIME = 120_000;
export const REJECT_AFTER_TIME = 180_000;
export const REKEY_TIMEOUT = 5_000;
export const KEEPALIVE_TIMEOUT = 10_000;
export const JITTER = 333;
/** Initiations in all before giving up: the first and 90 s / 5 s + 1 more. */
export const INITIATIONS_IN_ALL = 20;
export const RENEW_ON_RECEIVE = 165_000;
export const DEAF_TIMEOUT = 15_000;
export const ZERO_KEYS_AFTER = 540_000;
export const REKEY_AFTER_MESSAGES = 2n ** 60n;
export const REJECT_AFTER_MESSAGES = 2n ** 64n - 2n ** 13n - 1n;
export const COOKIE_LIFETIME = 120_000;
export const UNDER_LOAD = 128;
export const STAGED_PACKETS = 128;

export const SECOND = 1_000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

/** Why an inbound packet, or a part of it, was not taken. */
export const DROP_REASONS = [
  'malformed-ip',
  'malformed-transport',
  'bad-checksum',
  'bad-source',
  'not-ours',
  'unknown-protocol',
  'fragment-invalid',
  'fragment-overlap',
  'fragment-limit',
  'fragment-timeout',
  'icmp-ignored',
  'icmp-rate-limited',
  'no-listener',
  'refused-by-policy',
  'limit-connections',
  'limit-half-open',
  'limit-source',
  'limit-memory',
  'limit-gaps',
  'tcp-old-timestamp',
  'tcp-outside-window',
  'tcp-bad-ack',
  'tcp-unexpected',
  'tcp-challenged',
  'output-full',
] as const;

export type DropReason = (typeof DROP_REASONS)[number];

/** Drops counted by reason. */
export type DropCounters = Record<DropReason, number>;

export function createDropCounters(): DropCounters {
  return Object.fromEntries(DROP_REASONS.map((reason) => [reason, 0])) as DropCounters;
}

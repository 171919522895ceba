/** Packets of any shape that a kernel may hand over, for property tests. */
import fc from 'fast-check';
import { ACK, CWR, ECE, FIN, PSH, RST, SYN, URG, type PacketShape } from './reference.ts';

export const fill = (length: number, seed: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 31 + seed * 17 + (i >> 7)) & 0xff);

export const shapes: fc.Arbitrary<PacketShape> = fc
  .record({
    version: fc.constantFrom(4 as const, 6 as const),
    protocol: fc.constantFrom('tcp' as const, 'udp' as const),
    tos: fc.nat(255),
    ttl: fc.nat(255),
    id: fc.oneof(fc.nat(0xffff), fc.constant(0xfffe)),
    dontFragment: fc.boolean(),
    extension: fc.constantFrom(0, 0, 0, 8, 16, 24),
    source: fc.nat(255),
    destination: fc.nat(255),
    sourcePort: fc.nat(0xffff),
    destinationPort: fc.nat(0xffff),
    sequence: fc.oneof(fc.nat(0xffff_ffff), fc.constant(0xffff_ff00)),
    acknowledgement: fc.nat(0xffff_ffff),
    flags: fc.constantFrom(
      ACK,
      ACK | PSH,
      ACK | FIN | PSH,
      ACK | ECE,
      ACK | CWR,
      ACK | CWR | PSH,
      ACK | URG,
      SYN,
      RST | ACK,
    ),
    window: fc.nat(0xffff),
    tcpOptions: fc.constantFrom(0, 12, 20, 40),
    length: fc.oneof(fc.nat(5_000), fc.constantFrom(0, 1, 1_368, 2_736, 20_000)),
    seed: fc.nat(255),
  })
  .map(({ length, seed, ...shape }) => ({ ...shape, payload: fill(length, seed) }));

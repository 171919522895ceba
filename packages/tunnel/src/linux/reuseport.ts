/** Sockets of one port in a group (SO_REUSEPORT), and which of them gets what: a classic BPF program over the UDP payload (socket(7)). */
import { addressOf, closeDescriptor, foreign } from './foreign.ts';

const SOL_SOCKET = 1;
const SO_REUSEPORT = 15;
const SO_ATTACH_REUSEPORT_CBPF = 51;
const AF_INET = 2;
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000;

/** Instructions of classic BPF. */
const LOAD_BYTE = 0x30;
const JUMP_IF_EQUAL = 0x15;
const MODULO = 0x94;
const RETURN_CONSTANT = 0x06;
const RETURN_ACCUMULATOR = 0x16;

const DATA_MESSAGE = 4;
/** Where the lowest byte of the receiver index lies. */
const RECEIVER = 4;

/** Lets the socket be of a group: before it is bound, or for the first one afterwards. */
export function allowGroup(fd: number): boolean {
  const option = new Uint8Array(new ArrayBuffer(4));
  option[0] = 1;
  return setOption(fd, SO_REUSEPORT, option);
}

/**
 * Steers what a group receives, by the numbers that its sockets got as they were bound: data messages to the lowest byte of their
 * receiver index modulo the size of the group, everything else to the first socket.
 */
export function steerByReceiver(fd: number, sockets: number): boolean {
  const program = new Uint8Array(new ArrayBuffer(6 * 8));
  const view = new DataView(program.buffer);
  const instructions: readonly (readonly [code: number, jumpTrue: number, jumpFalse: number, operand: number])[] = [
    [LOAD_BYTE, 0, 0, 0],
    [JUMP_IF_EQUAL, 0, 3, DATA_MESSAGE],
    [LOAD_BYTE, 0, 0, RECEIVER],
    [MODULO, 0, 0, sockets],
    [RETURN_ACCUMULATOR, 0, 0, 0],
    [RETURN_CONSTANT, 0, 0, 0],
  ];
  for (const [i, [code, jumpTrue, jumpFalse, operand]] of instructions.entries()) {
    view.setUint16(8 * i, code, true);
    view.setUint8(8 * i + 2, jumpTrue);
    view.setUint8(8 * i + 3, jumpFalse);
    view.setUint32(8 * i + 4, operand, true);
  }
  // struct sock_fprog: the number of instructions and where they lie.
  const header = new Uint8Array(new ArrayBuffer(16));
  const fields = new DataView(header.buffer);
  fields.setUint16(0, instructions.length, true);
  fields.setBigUint64(8, BigInt(addressOf(program)), true);
  const attached = setOption(fd, SO_ATTACH_REUSEPORT_CBPF, header);
  // What also keeps the program reachable until here.
  program.fill(0);
  return attached;
}

/** Whether this system lets groups be steered. */
export function canSteer(): boolean {
  const fd = foreign('int socket(int, int, int)')(AF_INET, SOCK_DGRAM_CLOEXEC, 0);
  if (fd < 0) return false;
  const able = allowGroup(fd) && steerByReceiver(fd, 2);
  closeDescriptor(fd);
  return able;
}

function setOption(fd: number, option: number, value: Uint8Array): boolean {
  const set = foreign('int setsockopt(int, int, int, uintptr_t, unsigned int)');
  return set(fd, SOL_SOCKET, option, addressOf(value), value.length) === 0;
}

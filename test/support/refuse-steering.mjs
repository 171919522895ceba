/**
 * Preloaded into a process (`node --import`): from now on the kernel refuses to steer its groups of sockets, by a seccomp(2) filter that
 * answers setsockopt(SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF) with ENOPROTOOPT, as kernels before 4.5 do. Threads and programs started
 * later inherit it.
 */
import { addressOf, foreign } from '../../packages/tunnel/dist/linux/foreign.js';

const PR_SET_SECCOMP = 22;
const SECCOMP_MODE_FILTER = 2;
const SECCOMP_RET_ALLOW = 0x7fff_0000;
const SECCOMP_RET_ERRNO = 0x0005_0000;
const ENOPROTOOPT = 92;
const SETSOCKOPT = { x64: 54, arm64: 208 }[process.arch];
const SOL_SOCKET = 1;
const SO_ATTACH_REUSEPORT_CBPF = 51;

/** Instructions of classic BPF, and offsets in struct seccomp_data. */
const LOAD_WORD = 0x20;
const JUMP_IF_EQUAL = 0x15;
const RETURN = 0x06;
const NUMBER = 0;
const LEVEL = 24;
const OPTION = 32;

if (SETSOCKOPT === undefined) throw new Error(`the number of setsockopt(2) is not known for ${process.arch}`);
const program = new Uint8Array(
  new Uint32Array(
    [
      [LOAD_WORD, 0, 0, NUMBER],
      [JUMP_IF_EQUAL, 0, 5, SETSOCKOPT],
      [LOAD_WORD, 0, 0, LEVEL],
      [JUMP_IF_EQUAL, 0, 3, SOL_SOCKET],
      [LOAD_WORD, 0, 0, OPTION],
      [JUMP_IF_EQUAL, 0, 1, SO_ATTACH_REUSEPORT_CBPF],
      [RETURN, 0, 0, SECCOMP_RET_ERRNO | ENOPROTOOPT],
      [RETURN, 0, 0, SECCOMP_RET_ALLOW],
    ].flatMap(([code, yes, no, operand]) => [code | (yes << 16) | (no << 24), operand]),
  ).buffer,
);
// struct sock_fprog: the number of instructions and where they lie.
const header = new Uint8Array(new ArrayBuffer(16));
const fields = new DataView(header.buffer);
fields.setUint16(0, program.length / 8, true);
fields.setBigUint64(8, BigInt(addressOf(program)), true);
const prctl = foreign('int prctl(int, unsigned long, uintptr_t, unsigned long, unsigned long)');
if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, addressOf(header), 0, 0) !== 0) throw new Error('seccomp was refused');
program.fill(0);
